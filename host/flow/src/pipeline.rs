//! What a run is bound to from its first event: skills, gates and budget, all by digest.

use serde::{Deserialize, Serialize};

use crate::id::{Digest, GateName, SkillName};
use crate::money::Micros;

/// The way of a run, resolved from `moat.toml` on the protected branch when the run opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// The protected branch that a green run moves.
    pub branch: String,
    /// Turns the report into a work item; without it the report is the item.
    pub triage: Option<Skill>,
    /// Reports the project's tests on the base.
    pub test: Option<Skill>,
    /// Splits a work item into tasks; without it an item is done as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Skill>,
    /// Makes the candidates.
    pub implement: Skill,
    /// Brings the merged tree into service.
    pub deploy: Option<Deploy>,
    /// What every candidate must pass, in the order of their cost.
    pub gates: Vec<Gate>,
    /// What the run may use.
    pub budget: Budget,
}

impl Pipeline {
    /// Its skills, in the order of their steps.
    pub fn skills(&self) -> impl Iterator<Item = &Skill> {
        let deploy = self.deploy.as_ref().map(|deploy| &deploy.skill);
        let steps = [
            self.triage.as_ref(),
            self.test.as_ref(),
            self.plan.as_ref(),
            Some(&self.implement),
            deploy,
        ];
        steps.into_iter().flatten()
    }
}

/// A skill with what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skill {
    /// Its name.
    pub name: SkillName,
    /// Its component and manifest.
    pub digest: Digest,
    /// Its effective grant.
    pub grant: Digest,
}

/// The deploy step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploy {
    /// The skill that decides the order of things.
    pub skill: Skill,
    /// How long the service may take to become healthy.
    pub patience_ms: u64,
}

/// A check that the host runs on a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Unique in the pipeline.
    pub name: GateName,
    /// What it does.
    pub check: Check,
    /// Over everything that decides its verdict apart from the trees: kind, argv, paths, limits.
    pub digest: Digest,
    /// The weakness of agents that it guards against.
    pub assumes: Option<String>,
}

/// The kinds of gates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Check {
    /// A project command exits with status 0 on the candidate.
    Command {
        /// For display.
        name: String,
        /// Program and arguments.
        argv: Vec<String>,
        /// Wall-clock limit.
        timeout_ms: u64,
    },
    /// The same with the base's own test files laid over the candidate.
    BaseTests {
        /// For display.
        name: String,
        /// Program and arguments.
        argv: Vec<String>,
        /// Wall-clock limit.
        timeout_ms: u64,
        /// Globs of the base's tests.
        paths: Vec<String>,
    },
    /// No path of these globs differs between base and candidate, or a person approves.
    Protect {
        /// Globs.
        paths: Vec<String>,
    },
}

impl Check {
    /// The kind's name in `moat.toml`.
    pub fn kind(&self) -> &'static str {
        match self {
            Check::Command { .. } => "command",
            Check::BaseTests { .. } => "base-tests",
            Check::Protect { .. } => "protect",
        }
    }
}

/// What one run may use. Reaching a limit parks the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Calls of the implement skill.
    pub attempts: u32,
    /// Model tokens, input (cached or not) and output together.
    pub tokens: u64,
    /// Model money.
    pub money: Micros,
    /// Time in steps; waiting for people does not count.
    pub active_ms: u64,
}
