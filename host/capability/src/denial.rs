//! Refusals: what was asked, and the line that would have allowed it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of capabilities that can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Files of the worktree.
    Files,
    /// Requests to the network.
    Network,
    /// Secrets that the host adds to requests.
    Credentials,
    /// Environment variables.
    Env,
    /// Commands.
    Processes,
    /// Language models.
    Model,
    /// Releases.
    Release,
    /// A host interface as a whole.
    Interface,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Capability::Files => "files",
            Capability::Network => "network",
            Capability::Credentials => "credentials",
            Capability::Env => "env",
            Capability::Processes => "processes",
            Capability::Model => "model",
            Capability::Release => "release",
            Capability::Interface => "interface",
        })
    }
}

/// A refused request. The line is for the author's log and the reviewer, never for the guest.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error,
)]
#[error("{capability}: {what} is not granted; it would need `{line}`")]
pub struct Denial {
    /// The kind.
    pub capability: Capability,
    /// What was asked, on one line of at most 200 characters.
    pub what: String,
    /// The file and the line that would have allowed it.
    pub line: String,
}

impl Denial {
    /// Makes a denial; `what` may be a guest's own text.
    pub fn new(capability: Capability, what: impl AsRef<str>, line: impl Into<String>) -> Denial {
        let what = what.as_ref().chars().take(200).flat_map(|c| {
            let escaped: Vec<char> = if c.is_control() {
                c.escape_unicode().collect()
            } else {
                vec![c]
            };
            escaped
        });
        Denial {
            capability,
            what: what.collect(),
            line: line.into(),
        }
    }
}
