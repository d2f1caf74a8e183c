//! What one recorded call needed, and the manifest and grant that would give it just that.

use std::collections::BTreeSet;

use capability::power::Left;
use capability::{ConfigError, Denial, Grant, Manifest, Policy, ProjectGrant, Source};
use serde::Serialize;

use super::usage::{Use, Used, tightened};
use super::{Refused, Withheld};

/// What comes of a recorded call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Proposal {
    /// What it used and the project does not grant, with the line that would.
    pub needed: Vec<Withheld>,
    /// What it was given for this call without a record of whether it used it: files and variables.
    pub unrecorded: Vec<String>,
    /// What was refused to it and is asked for in the proposal.
    pub added: Vec<Refused>,
    /// What was refused to it and stays so: the policy does not allow it, or no line of a manifest does.
    pub refused: Vec<Refused>,
    /// `skill.toml`: what is declared and was used or not recorded, and what was refused and the policy would allow.
    pub manifest: String,
    /// The `[[grant]]` of `moat.toml` that goes with it.
    pub grant: String,
}

/// The grant under which a call is recorded: all that the manifest declares and the policy allows. What the project hides, and its own limits, hold
/// as always; so does everything that nobody declares.
///
/// # Errors
/// [`ConfigError`] when the manifest's requests cannot be written as a grant, which no manifest can bring about.
pub fn recording(
    manifest: &Manifest,
    project: Option<&ProjectGrant>,
) -> Result<ProjectGrant, ConfigError> {
    let mut whole = whole(manifest)?;
    if let Some(project) = project {
        whole.except = project.except.clone();
        whole.max_tokens = project.max_tokens;
        whole.memory_bytes = project.memory_bytes;
        whole.wall_ms = project.wall_ms;
    }
    Ok(whole)
}

fn whole(manifest: &Manifest) -> Result<ProjectGrant, ConfigError> {
    let source = Source {
        file: "skill.toml",
        text: "",
    };
    manifest.whole_grant().check(source, 0..0)
}

impl Proposal {
    /// Draws up what a call that was recorded under [`recording`] asks for.
    ///
    /// # Errors
    /// As [`recording`].
    pub fn of(
        manifest: &Manifest,
        project: Option<&ProjectGrant>,
        policy: &Policy,
        usage: &Use,
        denials: &[(Denial, u32)],
    ) -> Result<Proposal, ConfigError> {
        let granted = Grant::compute(manifest, project, policy);
        let (needed, unrecorded) = missing(manifest, &granted, usage);
        let mut proposed = tightened(manifest, usage).unwrap_or_else(|| manifest.clone());
        let (mut added, mut refused) = (Vec::new(), Vec::new());
        for (denial, times) in denials {
            let one = Refused {
                what: format!("{}: {}", denial.capability, denial.what),
                line: denial.line.clone(),
                times: u64::from(*times),
            };
            match proposed.with_denied(denial) {
                Some(more) if is_allowed(&proposed, &more, policy)? => {
                    proposed = more;
                    added.push(one);
                }
                _ => refused.push(one),
            }
        }
        let mut grant = proposed.whole_grant();
        if let Some(project) = project {
            grant.except = project.except.patterns().to_vec();
            grant.max_tokens = project.max_tokens;
            grant.memory = project.memory_bytes.map(capability::quantity::of_bytes);
            grant.time = project.wall_ms.map(capability::quantity::of_millis);
        }
        Ok(Proposal {
            needed,
            unrecorded,
            added,
            refused,
            manifest: proposed.to_toml(),
            grant: grant.to_toml(),
        })
    }
}

/// Whether the policy leaves the manifest all that it asks for beyond another one.
fn is_allowed(before: &Manifest, more: &Manifest, policy: &Policy) -> Result<bool, ConfigError> {
    let old = before.powers();
    let grant = Grant::compute(more, Some(&whole(more)?), policy);
    let new = more.powers();
    let mut in_addition = new
        .iter()
        .filter(|one| !old.iter().any(|old| old.power.holds(&one.power)));
    Ok(in_addition.all(|one| grant.leaves(&one.power) == Left::All))
}

/// What was used beyond the project's grant, and what nobody can tell of.
fn missing(manifest: &Manifest, granted: &Grant, usage: &Use) -> (Vec<Withheld>, Vec<String>) {
    let (mut needed, mut unrecorded) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for asked in manifest.powers() {
        if granted.leaves(&asked.power) == Left::All {
            continue;
        }
        match usage.of(&asked.power) {
            Used::Times(_) => {
                let capability = asked.power.capability();
                let what = asked.power.to_string();
                let of_it = |denial: &&Denial| {
                    denial.capability == capability && what.contains(&denial.what)
                };
                let line = granted
                    .withheld()
                    .iter()
                    .find(of_it)
                    .map(|denial| denial.line.clone());
                if seen.insert(what.clone()) {
                    needed.push(Withheld {
                        capability: capability.to_string(),
                        what,
                        line: line.unwrap_or_default(),
                    });
                }
            }
            Used::Unknown => unrecorded.push(asked.power.to_string()),
            Used::Never => {}
        }
    }
    (needed, unrecorded)
}
