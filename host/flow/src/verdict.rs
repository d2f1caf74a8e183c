//! Verdicts: what a gate says of one candidate, bound to the exact trees it looked at.

use serde::{Deserialize, Serialize};

use crate::id::{CommitId, Digest, GateName, TreeId};
use crate::role::Evidence;

/// What a gate looks at: a candidate tree, and the base that gate definitions, tests and protected paths come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The candidate.
    pub tree: TreeId,
    /// The tree of the base.
    pub base: TreeId,
}

/// A commit of the protected branch and its tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The commit.
    pub commit: CommitId,
    /// Its tree.
    pub tree: TreeId,
}

/// The answer of a gate. A gate that could not run has no verdict: that is a failed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// The candidate satisfies the gate.
    Pass,
    /// It does not.
    Fail,
    /// A person must decide.
    NeedsHuman,
}

/// A gate's answer, with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The gate.
    pub gate: GateName,
    /// Its definition.
    pub gate_digest: Digest,
    /// What it looked at.
    pub subject: Subject,
    /// Its answer.
    pub finding: Finding,
    /// What a person or a later attempt should see.
    pub evidence: Evidence,
    /// Equal for two failures that are the same failure: times, addresses and temporary paths are taken out before digesting.
    pub signature: Digest,
}
