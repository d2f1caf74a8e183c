//! Refusals: what was asked, and the line that would have allowed it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::origin::Origin;

/// Characters of what was asked.
const WHAT_CHARS_MAX: usize = 200;

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

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRequest {
    /// Where to.
    pub origin: Origin,
    /// How.
    pub method: String,
    /// Without its query.
    pub path: String,
}

impl Denial {
    /// The request that was refused, where it was one and is told as a whole.
    pub fn request(&self) -> Option<RefusedRequest> {
        let whole =
            self.capability == Capability::Network && self.what.chars().count() < WHAT_CHARS_MAX;
        let (method, url) = self.what.split_once(' ').filter(|_| whole)?;
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Some(RefusedRequest {
            origin: Origin::parse(scheme, authority).ok()?,
            method: method.to_owned(),
            path: path.to_owned(),
        })
    }

    /// Makes a denial; `what` may be a guest's own text.
    pub fn new(capability: Capability, what: impl AsRef<str>, line: impl Into<String>) -> Denial {
        let what = what.as_ref().chars().take(WHAT_CHARS_MAX).flat_map(|c| {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn a_refused_request_is_read_back_where_it_is_told_as_a_whole() {
        let told = |capability, what: &str| Denial::new(capability, what, "a line").request();
        let one = told(Capability::Network, "GET http://a.example:8080/v1/x").unwrap();
        assert_eq!(
            (
                one.origin.to_string().as_str(),
                one.method.as_str(),
                one.path.as_str()
            ),
            ("http://a.example:8080", "GET", "/v1/x")
        );
        let long = format!("GET https://a.example/{}", "x".repeat(WHAT_CHARS_MAX));
        for what in [
            long.as_str(),
            "more of the kind",
            "https://a.example: it holds a secret",
            "GET a.example/x",
        ] {
            assert_eq!(told(Capability::Network, what), None, "{what}");
        }
        assert_eq!(told(Capability::Processes, "GET https://a.example/"), None);
    }
}
