//! `moat:host/release`: releases of the merged tree, as records.

use serde::{Deserialize, Serialize};

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Version {
    /// Its name.
    pub name: String,
    /// The commit whose tree it holds.
    pub commit: String,
    /// Whether it is current.
    pub active: bool,
}

/// One probe of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// As expected.
    Healthy,
    /// It answered otherwise.
    Unhealthy(String),
    /// It did not answer.
    Unreachable,
    /// Its process is gone.
    Exited,
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseError {
    /// Not granted.
    Denied,
    /// No `[deploy]`.
    NotConfigured,
    /// No such release.
    NotFound,
    /// Tried and failed.
    Failed(String),
}
