//! A run that waits for a grant, and goes on under another one. Only an event with the new grants' digests gives one; no word does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Parking;
use crate::id::{Digest, SkillName, TreeId};
use crate::pipeline::Skill;
use crate::run::Run;

/// What a run cannot go on without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// The skill.
    pub skill: SkillName,
    /// How it came to this.
    pub by: Blocking,
    /// In words for people.
    pub why: String,
    /// What is missing.
    pub needs: Vec<Need>,
    /// What the attempt had made of its base when it ended: shown to the next one.
    pub left: Option<TreeId>,
}

/// How a run came to wait for a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blocking {
    /// A step ended because something was refused to its skill.
    Refused,
    /// The policy allows less than when the grant was pinned.
    PolicyNarrowed,
}

/// Something that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// What, as `capability: name`.
    pub what: String,
    /// The file and the line that would allow it.
    pub line: String,
    /// Whether the skill's manifest declares it, so that a grant can give it. Otherwise only another version of the skill can ask for it.
    pub declared: bool,
    /// The requests that were refused for want of it: a grant that is narrower and allows them gives it as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Asked>,
}

/// A request, as it was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Scheme, host and port.
    pub origin: String,
    /// How.
    pub method: String,
    /// Without its query.
    pub path: String,
}

/// The policy that grants were computed under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedPolicy {
    /// The file, as lines name it.
    pub file: String,
    /// Its text.
    pub text: Digest,
}

/// New grants for a run, computed from the protected branch's `moat.toml` and the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regrant {
    /// The `moat.toml` whose `[[grant]]`s hold from now on, and nothing else of it.
    pub project: Digest,
    /// The policy.
    pub policy: PinnedPolicy,
    /// The grant of every skill of the pipeline.
    pub grants: BTreeMap<SkillName, Digest>,
}

impl Run {
    /// The grant that a skill of the pipeline has now.
    pub fn grant_of<'a>(&'a self, skill: &'a Skill) -> &'a Digest {
        let again = self.regrant.as_ref();
        again
            .and_then(|regrant| regrant.grants.get(&skill.name))
            .unwrap_or(&skill.grant)
    }

    /// The `moat.toml` whose `[[grant]]`s hold now.
    pub fn granting_project(&self) -> &Digest {
        let again = self.regrant.as_ref();
        again.map_or(&self.opened.project, |regrant| &regrant.project)
    }

    /// The policy that the grants were computed under; runs of older versions do not know it.
    pub fn granting_policy(&self) -> Option<&PinnedPolicy> {
        match &self.regrant {
            Some(regrant) => Some(&regrant.policy),
            None => self.opened.policy.as_ref(),
        }
    }

    /// What the run cannot go on without, if it waits for a grant.
    pub fn blocked(&self) -> Option<&Blocked> {
        match &self.parked {
            Some(Parking::BlockedOnGrant { blocked }) => Some(blocked),
            _ => None,
        }
    }
}

/// A step ended for want of a grant: it is neither an attempt nor a failure of the skill.
pub(crate) fn blocked(run: &mut Run, blocked: &Blocked) {
    run.left = blocked.left.clone();
    run.parked = Some(Parking::BlockedOnGrant {
        blocked: blocked.clone(),
    });
}

/// The run goes on, under these grants and no others.
pub(crate) fn regranted(run: &mut Run, regrant: &Regrant) -> Result<(), String> {
    if run.blocked().is_none() {
        return Err("the run does not wait for a grant".into());
    }
    let all = run
        .opened
        .pipeline
        .skills()
        .all(|skill| regrant.grants.contains_key(&skill.name));
    if !all {
        return Err("a skill of the pipeline has no grant".into());
    }
    run.parked = None;
    run.failures.clear();
    run.regrant = Some(regrant.clone());
    Ok(())
}
