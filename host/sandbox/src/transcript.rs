//! The record of a call: every host call in order, whether it was allowed, and how long it took.

use flow::id::Digest;
use serde::{Deserialize, Serialize};

/// One host call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The interface, without version.
    pub interface: String,
    /// The function.
    pub function: String,
    /// Of the arguments as they came.
    pub request: Digest,
    /// What became of it.
    pub outcome: Outcome,
    /// From request to answer.
    pub duration_ms: u64,
}

/// What became of a host call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Done.
    Done,
    /// Not granted.
    Denied,
    /// The request has no known form.
    Malformed,
}

/// Entries kept of one call; calls beyond it are counted by the usage alone.
pub(crate) const ENTRIES_MAX: usize = 10_000;
