//! The steps of a run, one file each: what a step's events do to the run, and what is to be done next.

pub mod baseline;
pub mod deploy;
pub mod gate;
pub mod implement;
pub mod intake;
pub mod merge;
pub mod plan;
pub mod repair;
pub mod tasks;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{CommitId, GateName};
use crate::verdict::Subject;

/// One thing that the driver does for a run. Repeating it after a crash ends the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum Step {
    /// The triage skill decides on the report.
    Intake,
    /// The test skill reports the base.
    Baseline,
    /// The implement skill makes a candidate.
    Implement {
        /// 1 for the first.
        attempt: u32,
    },
    /// The host runs a gate.
    Gate {
        /// The gate.
        gate: GateName,
        /// What it looks at.
        subject: Subject,
    },
    /// The candidate is merged onto the branch's tip, in the mirror.
    PrepareMerge,
    /// The branch is moved by compare-and-swap.
    MoveBranch {
        /// The tip that was merged onto.
        from: CommitId,
        /// The verified commit.
        to: CommitId,
    },
    /// The deploy skill brings the merged tree into service.
    Deploy {
        /// The merged commit.
        commit: CommitId,
    },
    /// The plan skill splits the item into tasks.
    Plan,
    /// What all tasks made, joined in the mirror, becomes the candidate.
    Integrate,
}

impl Step {
    /// The step's name: that of its files in `flow`, `driver` and tests.
    pub fn room(&self) -> &'static str {
        match self {
            Step::Intake => "intake",
            Step::Baseline => "baseline",
            Step::Implement { .. } => "implement",
            Step::Gate { .. } => "gate",
            Step::PrepareMerge | Step::MoveBranch { .. } => "merge",
            Step::Deploy { .. } => "deploy",
            Step::Plan => "plan",
            Step::Integrate => "tasks",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Intake => f.write_str("triage"),
            Step::Baseline => f.write_str("baseline tests"),
            Step::Implement { attempt } => write!(f, "attempt {attempt}"),
            Step::Gate { gate, .. } => write!(f, "gate {gate}"),
            Step::PrepareMerge => f.write_str("merge onto the tip"),
            Step::MoveBranch { .. } => f.write_str("move the branch"),
            Step::Deploy { .. } => f.write_str("deploy"),
            Step::Plan => f.write_str("plan"),
            Step::Integrate => f.write_str("join the tasks"),
        }
    }
}
