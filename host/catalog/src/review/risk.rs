//! How much harm one right can do by itself.

use capability::network::{HostPattern, Methods};
use capability::origin::Scheme;
use capability::power::Power;
use serde::Serialize;

/// For a reviewer who has a minute: what to look at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// Sees what the work is about.
    Low,
    /// Changes things that are checked later, or shows them to a known other.
    Moderate,
    /// Reaches the world outside, or what nobody checks.
    High,
}

impl std::fmt::Display for Risk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Risk::Low => "low",
            Risk::Moderate => "moderate",
            Risk::High => "high",
        })
    }
}

/// Programs that run whatever their arguments say.
const INTERPRETERS: [&str; 20] = [
    "sh", "bash", "dash", "zsh", "fish", "busybox", "env", "xargs", "find", "awk", "perl", "ruby",
    "node", "deno", "bun", "php", "lua", "make", "git", "ssh",
];

/// Whether a program runs code that its arguments hold or name.
pub(super) fn is_interpreter(program: &str) -> bool {
    INTERPRETERS.contains(&program) || program.starts_with("python")
}

/// Whether a form lets the skill choose options.
pub(super) fn is_open(power: &Power<'_>) -> bool {
    match power {
        Power::Program { pattern, .. } => {
            pattern.elements().last().is_some_and(|last| last == "**")
        }
        _ => false,
    }
}

pub(super) fn of(power: &Power<'_>) -> Risk {
    match power {
        Power::File { write: false, .. } | Power::Env(_) => Risk::Low,
        Power::File { .. } | Power::Model(_) => Risk::Moderate,
        Power::Request(rule) => match (&rule.host, rule.scheme, &rule.methods) {
            (HostPattern::Exact(_), Scheme::Https, Methods::These(_)) => Risk::Moderate,
            _ => Risk::High,
        },
        Power::Credential(_) | Power::Release => Risk::High,
        Power::Project { running, .. } | Power::Program { running, .. } if running.network => {
            Risk::High
        }
        Power::Project { extra_args, .. } => {
            if *extra_args {
                Risk::Moderate
            } else {
                Risk::Low
            }
        }
        Power::Program {
            program, pattern, ..
        } => {
            let chosen = pattern
                .elements()
                .iter()
                .any(|one| one == "*" || one == "**");
            if is_interpreter(program) && chosen {
                Risk::High
            } else {
                Risk::Moderate
            }
        }
    }
}
