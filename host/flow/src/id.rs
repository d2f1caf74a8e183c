//! Identifiers: each kind has its own type, so that a run id never fits where a tree id is wanted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A text that is no identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {kind}: {rule}")]
pub struct InvalidId {
    /// What was wanted.
    pub kind: &'static str,
    /// The rule that the text breaks.
    pub rule: &'static str,
    /// The text, cut at 80 characters.
    pub text: String,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidId { kind: $kind, rule: $rule, text: text.chars().take(80).collect() })
                }
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

fn is_slug(text: &str, max: usize) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= max
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

fn is_lower_hex(text: &str, len: usize) -> bool {
    text.len() == len
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

text_id!(
    /// One work item's way through a pipeline.
    RunId,
    "run id",
    "lower-case letters, digits and `-`, at most 40",
    |text| is_slug(text, 40)
);
text_id!(
    /// The name of a skill.
    SkillName,
    "skill name",
    "lower-case letters, digits and `-`, at most 64",
    |text| is_slug(text, 64)
);
text_id!(
    /// The name of a gate.
    GateName,
    "gate name",
    "lower-case letters, digits and `-`, at most 64",
    |text| is_slug(text, 64)
);
text_id!(
    /// A task of a plan, unique within it.
    TaskId,
    "task id",
    "lower-case letters, digits and `-`, at most 64",
    |text| is_slug(text, 64)
);
text_id!(
    /// A git commit, by its SHA-1.
    CommitId,
    "commit id",
    "40 lower-case hexadecimal digits",
    |text| is_lower_hex(text, 40)
);
text_id!(
    /// A git tree, by its SHA-1: the exact content of a worktree.
    TreeId,
    "tree id",
    "40 lower-case hexadecimal digits",
    |text| is_lower_hex(text, 40)
);
text_id!(
    /// A SHA-256 of bytes, written `sha256:<64 hexadecimal digits>`.
    Digest,
    "digest",
    "`sha256:` and 64 lower-case hexadecimal digits",
    |text| text.strip_prefix("sha256:").is_some_and(|hex| is_lower_hex(hex, 64))
);

impl Digest {
    /// Digests bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))
    }

    /// The hexadecimal digits alone, for use as a file name.
    pub fn hex(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or(&self.0)
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        self.hex().get(..12).unwrap_or(self.hex())
    }
}

impl CommitId {
    /// The first ten digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..10).unwrap_or(&self.0)
    }
}

impl TreeId {
    /// The first ten digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..10).unwrap_or(&self.0)
    }
}

/// The WIT interface that a skill exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A report becomes a work item.
    Triage,
    /// A work item becomes tasks.
    Plan,
    /// A worktree is changed until the item is true.
    Implement,
    /// A project command's tests are reported.
    Test,
    /// A candidate is judged.
    Evaluate,
    /// A red candidate is explained.
    Diagnose,
    /// A merged tree is brought into service.
    Deploy,
    /// JSON in, JSON out.
    Job,
}

impl Role {
    /// All roles, in the order of a run.
    pub const ALL: [Role; 8] = [
        Role::Triage,
        Role::Plan,
        Role::Implement,
        Role::Test,
        Role::Evaluate,
        Role::Diagnose,
        Role::Deploy,
        Role::Job,
    ];

    /// The role's name in manifests and in WIT.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Triage => "triage",
            Role::Plan => "plan",
            Role::Implement => "implement",
            Role::Test => "test",
            Role::Evaluate => "evaluate",
            Role::Diagnose => "diagnose",
            Role::Deploy => "deploy",
            Role::Job => "job",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| InvalidId {
                kind: "role",
                rule: "one of triage, plan, implement, test, evaluate, diagnose, deploy, job",
                text: text.chars().take(80).collect(),
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn a_digest_is_checked_when_read() {
        let digest = Digest::of(b"moat");
        assert_eq!(digest.as_str().parse::<Digest>().unwrap(), digest);
        for wrong in [
            "",
            "sha256:",
            "sha256:AB",
            "md5:00",
            &digest.as_str()[..70],
            "../../etc/passwd",
        ] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_run_id_cannot_be_a_path_or_an_option() {
        assert!("r-20260101-a1".parse::<RunId>().is_ok());
        for wrong in ["", "-x", "x-", "a/b", "..", "A", "r\n", "é"] {
            assert!(wrong.parse::<RunId>().is_err(), "{wrong}");
        }
    }
}
