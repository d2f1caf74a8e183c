//! What a skill did so far, and a manifest that asks for no more than that.

use std::collections::{BTreeMap, BTreeSet};

use capability::Manifest;
use capability::manifest::Runnable;
use capability::network::NetworkRule;
use capability::power::Power;
use serde::Serialize;

/// What is known of a skill's calls. What a record does not tell is absent, and then nothing is concluded from it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Use {
    /// Finished calls that were recorded.
    pub calls: u64,
    /// Runs with such a call.
    pub runs: u64,
    /// The first record, in milliseconds since 1970.
    pub first_at_ms: Option<u64>,
    /// The last.
    pub last_at_ms: Option<u64>,
    /// Host calls by `interface.function`, refused ones included.
    pub host_calls: BTreeMap<String, u64>,
    /// Model calls by alias.
    pub models: BTreeMap<String, u64>,
    /// Commands and programs by name.
    pub commands: Option<BTreeMap<String, u64>>,
    /// Requests by `METHOD origin`, as in `GET https://api.example.com`.
    pub requests: Option<BTreeMap<String, u64>>,
    /// Secrets by name.
    pub credentials: Option<BTreeMap<String, u64>>,
    /// The most memory that a call had.
    pub peak_memory_bytes: u64,
    /// What was refused.
    pub refused: Vec<Refused>,
}

/// What was refused to a skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// What was asked.
    pub what: String,
    /// The line that would have allowed it.
    pub line: String,
    /// How often.
    pub times: u64,
}

/// Whether a right was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Used {
    /// So often.
    Times(u64),
    /// In no call that was recorded.
    Never,
    /// The records do not tell.
    Unknown,
}

impl Used {
    /// Of two rights together.
    pub(super) fn and(self, other: Used) -> Used {
        match (self, other) {
            (Used::Times(one), Used::Times(other)) => Used::Times(one.saturating_add(other)),
            (Used::Times(times), _) | (_, Used::Times(times)) => Used::Times(times),
            (Used::Never, Used::Never) => Used::Never,
            _ => Used::Unknown,
        }
    }
}

impl Use {
    /// Adds a call's host calls.
    pub fn add_host_call(&mut self, name: &str, times: u64) {
        let sum = self.host_calls.entry(name.to_owned()).or_insert(0);
        *sum = sum.saturating_add(times);
    }

    /// Adds a refusal; equal ones are counted together.
    pub fn add_refused(&mut self, what: &str, line: &str, times: u64) {
        match self
            .refused
            .iter_mut()
            .find(|one| one.what == what && one.line == line)
        {
            Some(one) => one.times = one.times.saturating_add(times),
            None => self.refused.push(Refused {
                what: what.to_owned(),
                line: line.to_owned(),
                times,
            }),
        }
    }

    /// Whether a power was used.
    pub fn of(&self, power: &Power<'_>) -> Used {
        if self.calls == 0 {
            return Used::Unknown;
        }
        match power {
            // What a skill reads is not recorded, and its variables are handed to it.
            Power::File { .. } | Power::Env(_) => Used::Unknown,
            Power::Request(rule) => self.requests.as_ref().map_or(Used::Unknown, |all| {
                times(
                    all.iter()
                        .filter(|(name, _)| is_of(rule, name))
                        .map(|(_, times)| *times),
                )
            }),
            Power::Credential(one) => named(self.credentials.as_ref(), &one.name),
            Power::Project { name, .. } | Power::Program { program: name, .. } => {
                let run = self.host_calls.get("moat:host/process.run").copied();
                match run.unwrap_or(0) {
                    0 => Used::Never,
                    _ => named(self.commands.as_ref(), name),
                }
            }
            Power::Model(alias) => named(Some(&self.models), alias),
            Power::Release => {
                let calls = self.host_calls.iter();
                times(
                    calls
                        .filter(|(name, _)| name.starts_with("moat:host/release."))
                        .map(|(_, times)| *times),
                )
            }
        }
    }
}

fn named(all: Option<&BTreeMap<String, u64>>, name: &str) -> Used {
    all.map_or(Used::Unknown, |all| {
        times(all.get(name).copied().into_iter())
    })
}

fn times(each: impl Iterator<Item = u64>) -> Used {
    match each.fold(0, u64::saturating_add) {
        0 => Used::Never,
        sum => Used::Times(sum),
    }
}

/// Whether a recorded request, `METHOD origin`, is one that the rule allows on some path.
fn is_of(rule: &NetworkRule, recorded: &str) -> bool {
    let parts = recorded.split_once(' ').and_then(|(method, url)| {
        let (scheme, authority) = url.split_once("://")?;
        let origin = capability::Origin::parse(scheme, authority).ok()?;
        Some((method.parse().ok()?, origin))
    });
    parts.is_some_and(|(method, origin)| rule.allows(&origin, &method, rule.path.as_str()))
}

/// Room that a call needs beyond the most that was seen.
const MEMORY_FACTOR: u64 = 4;
/// Below it nothing is won.
const MEMORY_BYTES_MIN: u64 = 16 << 20;

/// The manifest without what is known to be unused; `None` where that is nothing.
///
/// It never asks for more than the manifest, and can be read back from its text.
pub fn tightened(manifest: &Manifest, usage: &Use) -> Option<Manifest> {
    if usage.calls == 0 {
        return None;
    }
    let unused = |power: &Power<'_>| usage.of(power) == Used::Never;
    let mut tight = manifest.clone();
    tight
        .credentials
        .retain(|one| !unused(&Power::Credential(one)));
    for one in &mut tight.network {
        // A credential is for a host that can be reached.
        let needed = |rule: &NetworkRule| {
            tight
                .credentials
                .iter()
                .any(|one| rule.reaches(&one.origin))
        };
        one.rules
            .retain(|rule| needed(rule) || !unused(&Power::Request(rule)));
    }
    tight.network.retain(|one| !one.rules.is_empty());
    let commands: BTreeSet<String> = manifest
        .powers()
        .iter()
        .filter(|asked| unused(&asked.power))
        .filter_map(|asked| match asked.power {
            Power::Project { name, .. } | Power::Program { program: name, .. } => {
                Some(name.to_owned())
            }
            _ => None,
        })
        .collect();
    tight.processes.retain(|one| match &one.what {
        Runnable::Project { name, .. } => !commands.contains(name),
        Runnable::Program { program, .. } => !commands.contains(program),
    });
    for one in &mut tight.processes {
        one.network &= !tight.network.is_empty();
    }
    if let Some(model) = &mut tight.model {
        model.aliases.retain(|alias| !unused(&Power::Model(alias)));
    }
    tight.model.take_if(|model| model.aliases.is_empty());
    tight.release.take_if(|_| unused(&Power::Release));
    if usage.peak_memory_bytes > 0 {
        let room = usage
            .peak_memory_bytes
            .saturating_mul(MEMORY_FACTOR)
            .max(MEMORY_BYTES_MIN);
        let room = room.checked_next_power_of_two().unwrap_or(u64::MAX);
        tight.limits.memory_bytes = tight.limits.memory_bytes.min(room);
    }
    (tight != *manifest).then_some(tight)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use capability::Comparison;
    use proptest::prelude::*;

    use super::*;

    const ALL: &str = r#"
[skill]
name = "x"
version = "0.1.0"
role = "implement"
description = "d"
[[files]]
path = "."
access = "write"
reason = "r"
[[network]]
host = "*.example.com"
methods = ["GET"]
paths = ["/a", "/b"]
reason = "r"
[[network]]
host = "other.example.org"
methods = ["POST"]
reason = "r"
[[credentials]]
name = "key"
host = "api.example.com"
header = "authorization"
format = "Bearer {}"
reason = "r"
[[processes]]
project = "test"
network = true
reason = "r"
[[processes]]
program = "cargo"
args = [["metadata"], ["tree"]]
reason = "r"
[model]
aliases = ["small", "large"]
max-tokens = 10
reason = "r"
[release]
reason = "r"
[limits]
memory = "1GiB"
time = "60s"
"#;

    fn some(names: &'static [&'static str]) -> impl Strategy<Value = BTreeMap<String, u64>> {
        prop::collection::btree_map(
            prop::sample::select(names).prop_map(str::to_owned),
            1..9u64,
            0..=names.len(),
        )
    }

    fn usages() -> impl Strategy<Value = Use> {
        let recorded = (
            prop::option::of(some(&["test", "cargo", "gone"])),
            prop::option::of(some(&[
                "GET https://api.example.com",
                "POST https://other.example.org",
                "GET nonsense",
            ])),
            prop::option::of(some(&["key", "gone"])),
        );
        let calls = some(&[
            "moat:host/process.run",
            "moat:host/model.chat",
            "moat:host/release.stage",
        ]);
        (
            0..3u64,
            calls,
            some(&["small", "large"]),
            recorded,
            0..(2u64 << 30),
        )
            .prop_map(
                |(
                    calls,
                    host_calls,
                    models,
                    (commands, requests, credentials),
                    peak_memory_bytes,
                )| Use {
                    calls,
                    host_calls,
                    models,
                    commands,
                    requests,
                    credentials,
                    peak_memory_bytes,
                    ..Use::default()
                },
            )
    }

    proptest! {
        #[test]
        fn a_tighter_manifest_is_a_subset_can_be_read_and_keeps_what_was_used(usage in usages()) {
            let manifest = Manifest::parse(ALL, "skill.toml").unwrap();
            let Some(tight) = tightened(&manifest, &usage) else {
                return Ok(());
            };
            prop_assert_eq!(&Manifest::parse(&tight.to_toml(), "skill.toml").unwrap(), &tight);
            let comparison = Comparison::of(&manifest, &tight);
            prop_assert!(!comparison.is_wider() && !comparison.narrows.is_empty(), "{comparison:?}");
            prop_assert!(tight.limits.memory_bytes >= usage.peak_memory_bytes.min(manifest.limits.memory_bytes));
            let kept = tight.powers();
            for asked in manifest.powers() {
                // A command's network goes with the last host that it could reach.
                let is_kept = kept.iter().any(|one| one.power.to_string().trim_end_matches(" on the network") == asked.power.to_string().trim_end_matches(" on the network"));
                prop_assert!(is_kept || usage.of(&asked.power) == Used::Never, "{} was lost", asked.power);
            }
        }
    }

    #[test]
    fn nothing_is_concluded_from_nothing() {
        let manifest = Manifest::parse(ALL, "skill.toml").unwrap();
        assert_eq!(tightened(&manifest, &Use::default()), None);
        let called = Use {
            calls: 1,
            ..Use::default()
        };
        let tight = tightened(&manifest, &called).unwrap();
        // Without a record of requests, credentials and files nothing of them is taken away.
        assert_eq!(
            (
                tight.network.len(),
                tight.credentials.len(),
                tight.files.len()
            ),
            (2, 1, 1)
        );
        assert!(tight.processes.is_empty() && tight.model.is_none() && tight.release.is_none());
    }
}
