//! The reviewer's view of a skill: what it asks, what it imports, what is left of it, what it used, and what to do about it.
//!
//! Pure: it reads what others found out. Every text in it may be the author's, and is escaped by whoever shows it.

mod combination;
mod imports;
mod proposal;
mod risk;
mod update;
mod usage;

use std::collections::BTreeSet;

use capability::power::{Asked, Left};
use capability::{Grant, Policy, ProjectGrant};
use flow::id::Digest;
use serde::Serialize;

pub use combination::Combination;
pub use imports::{Found, Imports};
pub use proposal::{Proposal, Recorded, recording};
pub use risk::Risk;
pub use update::{Side, Update};
pub use usage::{Refused, Use, Used, tightened};

use crate::Package;

/// A skill as a reviewer sees it. The most important comes first in every list.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Review {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its role.
    pub role: String,
    /// In its author's words.
    pub description: String,
    /// Of the component with its manifest.
    pub digest: Digest,
    /// The highest risk of all below.
    pub risk: Risk,
    /// Why, in one line.
    pub verdict: String,
    /// What it asks to do.
    pub asks: Vec<Ask>,
    /// What it hides from itself.
    pub hides: Vec<String>,
    /// Limits of one call, for people.
    pub limits: Vec<String>,
    /// Rights that are worse together.
    pub combinations: Vec<Combination>,
    /// What its component imports, against what it declares.
    pub imports: Imports,
    /// Whether a project's grant was looked at; without one, all is taken as granted that policy allows.
    pub is_granted: bool,
    /// What held it when `left` was computed, for people.
    pub held_by: String,
    /// Hidden from it on every path, by itself, the project or the policy.
    pub hidden: Vec<String>,
    /// What it declares and does not get, with the line that would give it.
    pub withheld: Vec<Withheld>,
    /// What it really gets, for people.
    pub gets: Vec<String>,
    /// What it did so far.
    pub usage: Use,
    /// A manifest that asks for what was used, and no more; absent where nothing is known or nothing can be left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tighter: Option<String>,
}

/// What a skill asks to do for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ask {
    /// The kind.
    pub capability: String,
    /// How much harm it can do by itself.
    pub risk: Risk,
    /// Each begins with a verb.
    pub may: Vec<String>,
    /// The author's reason.
    pub reason: String,
    /// What project and policy leave.
    pub left: Left,
    /// Whether it was used.
    pub used: Used,
}

/// A request that is not granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Withheld {
    /// The kind.
    pub capability: String,
    /// What was asked.
    pub what: String,
    /// The file and the line that would give it.
    pub line: String,
}

/// What holds a skill where it is reviewed.
#[derive(Debug)]
pub struct Bounds<'a> {
    /// The organisation's.
    pub policy: &'a Policy,
    /// A project's grant with the name of the file it stands in; without one, the manifest is taken as granted.
    pub project: Option<(&'a str, Option<&'a ProjectGrant>)>,
}

impl Review {
    /// Reviews a package.
    ///
    /// # Errors
    /// [`capability::ConfigError`] when the grant that the manifest asks for cannot be written as one, which no manifest can bring about.
    pub fn of(
        package: &Package,
        found: &Found,
        bounds: &Bounds<'_>,
        usage: Use,
    ) -> Result<Review, capability::ConfigError> {
        let manifest = &package.manifest;
        let whole;
        let (grant, held_by) = match bounds.project {
            Some((file, grant)) => (grant, format!("{file} and {}", bounds.policy.file)),
            None => {
                let source = capability::Source {
                    file: "skill.toml",
                    text: "",
                };
                whole = manifest.whole_grant().check(source, 0..0)?;
                (Some(&whole), bounds.policy.file.clone())
            }
        };
        let grant = Grant::compute(manifest, grant, bounds.policy);
        let powers = manifest.powers();
        let mut asks = asks(&powers, &grant, &usage);
        asks.sort_by_key(|ask| std::cmp::Reverse(ask.risk));
        let combinations = combination::all(manifest.role, &powers, &grant);
        let imports = Imports::of(manifest, found);
        let (risk, verdict) = verdict(&asks, &combinations, &imports);
        let tighter = tightened(manifest, &usage).map(|tighter| tighter.to_toml());
        Ok(Review {
            name: manifest.name.to_string(),
            version: manifest.version.clone(),
            role: manifest.role.to_string(),
            description: manifest.description.clone(),
            digest: package.digest.clone(),
            risk,
            verdict,
            asks,
            hides: manifest.hides().into_iter().map(str::to_owned).collect(),
            limits: limits(package),
            combinations,
            imports,
            is_granted: bounds.project.is_some(),
            held_by,
            hidden: grant.hidden().patterns().to_vec(),
            withheld: withheld(&grant),
            gets: grant.sentences(),
            usage,
            tighter,
        })
    }
}

/// Requests that have kind and reason in common are read together.
fn asks(powers: &[Asked<'_>], grant: &Grant, usage: &Use) -> Vec<Ask> {
    let mut asks: Vec<Ask> = Vec::new();
    for asked in powers {
        let one = Ask {
            capability: asked.power.capability().to_string(),
            risk: risk::of(&asked.power),
            may: vec![asked.power.to_string()],
            reason: asked.reason.to_owned(),
            left: grant.leaves(&asked.power),
            used: usage.of(&asked.power),
        };
        match asks.last_mut() {
            Some(last) if last.capability == one.capability && last.reason == one.reason => {
                last.may.extend(one.may);
                last.risk = last.risk.max(one.risk);
                if last.left != one.left {
                    last.left = Left::Part;
                }
                last.used = last.used.and(one.used);
            }
            _ => asks.push(one),
        }
    }
    asks
}

fn withheld(grant: &Grant) -> Vec<Withheld> {
    let mut seen = BTreeSet::new();
    let denials = grant.withheld().iter().filter(|one| seen.insert(*one));
    denials
        .map(|one| Withheld {
            capability: one.capability.to_string(),
            what: one.what.clone(),
            line: one.line.clone(),
        })
        .collect()
}

fn limits(package: &Package) -> Vec<String> {
    use capability::quantity::{of_bytes, of_millis};
    let (manifest, limits) = (&package.manifest, &package.manifest.limits);
    let mut out = vec![
        format!("{} of memory", of_bytes(limits.memory_bytes)),
        format!("{} a call", of_millis(limits.wall_ms)),
        format!("{} host calls", limits.host_calls),
    ];
    if let Some(model) = &manifest.model {
        out.push(format!("{} output tokens a model call", model.max_tokens));
    }
    if !manifest.network.is_empty() {
        out.push(format!(
            "{} requests that send {} and bring {}",
            limits.requests,
            of_bytes(limits.sent_bytes),
            of_bytes(limits.received_bytes)
        ));
    }
    out
}

fn verdict(asks: &[Ask], combinations: &[Combination], imports: &Imports) -> (Risk, String) {
    if let Some(import) = imports.refused.first() {
        let others = match imports.refused.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let why = format!(
            "it imports `{import}`{others}, which no manifest can declare: moat will not load it"
        );
        return (Risk::High, why);
    }
    if let Some(one) = imports.undeclared.first() {
        let why = format!(
            "it imports `{}` without declaring it: moat will not load it",
            one.interface
        );
        return (Risk::High, why);
    }
    let of_asks = asks.first().map(|ask| (ask.risk, ask.may.join(" and ")));
    let standing = combinations.iter().find(|one| one.stands);
    match (standing, of_asks) {
        (Some(worst), Some((risk, _))) if worst.risk >= risk => (worst.risk, worst.what.clone()),
        (_, Some((risk, may))) => (risk, format!("it may {may}")),
        (Some(worst), None) => (worst.risk, worst.what.clone()),
        (None, None) => (
            Risk::Low,
            "it asks for nothing: it sees its input and nothing else".into(),
        ),
    }
}
