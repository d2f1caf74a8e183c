//! Two grants of one skill, and a refusal seen beside what was withheld: is a grant missing, and which?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::{Grant, Running};
use crate::denial::{Capability, Denial};
use crate::network::{Method, NetworkRule};

/// Something that one grant allows and another does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beyond {
    /// What, as `capability: name`.
    pub what: String,
    /// The line that would allow it, where one is known.
    pub line: Option<String>,
}

impl Grant {
    /// The declared request whose refusal this is, with the line that would grant it. `None` where the manifest does not declare it.
    pub fn withheld_for(&self, denial: &Denial) -> Option<&Denial> {
        let about = |one: &&Denial| {
            one.capability == denial.capability
                && (one.what == denial.what
                    || match one.capability {
                        Capability::Processes => denial
                            .what
                            .strip_prefix(&one.what)
                            .is_some_and(|arguments| arguments.starts_with(' ')),
                        Capability::Network => asks_for(denial, &one.what),
                        _ => false,
                    })
        };
        self.withheld.iter().find(about)
    }

    /// What this grant allows beyond another one of the same skill; empty when the other allows all of it.
    pub fn beyond(&self, other: &Grant) -> Vec<Beyond> {
        let mut found = Vec::new();
        let mut add = |capability: Capability, name: &dyn Display| {
            let what = format!("{capability}: {name}");
            let line = other
                .withheld
                .iter()
                .find(|one| format!("{}: {}", one.capability, one.what) == what)
                .map(|one| one.line.clone());
            found.push(Beyond { what, line });
        };
        for (path, write) in &self.files {
            let held = other
                .files
                .iter()
                .any(|(one, may)| one.holds(path) && (*may || !write));
            if !held {
                let verb = if *write { "write" } else { "read" };
                add(Capability::Files, &format!("{verb} {path}"));
            }
        }
        let hidden: BTreeSet<_> = self.hidden.patterns().iter().collect();
        for pattern in other
            .hidden
            .patterns()
            .iter()
            .filter(|one| !hidden.contains(one))
        {
            add(Capability::Files, &format!("what {pattern} hides"));
        }
        // A wider rule holds a narrower one.
        let held = |rule: &NetworkRule, rules: &BTreeSet<NetworkRule>| {
            rules
                .iter()
                .any(|other| other.both(rule).as_ref() == Some(rule))
        };
        for rule in self.network.iter().filter(|one| !held(one, &other.network)) {
            add(Capability::Network, rule);
        }
        for rule in self.private.iter().filter(|one| !held(one, &other.private)) {
            add(
                Capability::Network,
                &format!("private addresses for {rule}"),
            );
        }
        for one in self.credentials.difference(&other.credentials) {
            add(Capability::Credentials, &one.name);
        }
        for name in self.env.difference(&other.env) {
            add(Capability::Env, name);
        }
        for (name, command) in &self.commands {
            let held = other.commands.get(name).is_some_and(|may| {
                (may.extra_args || !command.extra_args) && command.running.is_within(may.running)
            });
            if !held {
                add(Capability::Processes, name);
            }
        }
        for (name, patterns) in &self.programs {
            let none = BTreeMap::new();
            let may = other.programs.get(name).unwrap_or(&none);
            let held = patterns.iter().all(|(pattern, running)| {
                may.get(pattern).is_some_and(|may| running.is_within(*may))
            });
            if !held {
                add(Capability::Processes, name);
            }
        }
        for alias in self.models.difference(&other.models) {
            add(Capability::Model, alias);
        }
        if self.release && !other.release {
            add(Capability::Release, &"releases");
        }
        if self.least_confinement < other.least_confinement {
            add(Capability::Processes, &"a lower level of confinement");
        }
        let (own, theirs) = (self.limits, other.limits);
        if self.max_tokens > other.max_tokens {
            add(
                Capability::Model,
                &format!("{} tokens of output", self.max_tokens),
            );
        }
        if own.min(theirs) != own {
            found.push(Beyond {
                what: "limits: what one call may take".into(),
                line: None,
            });
        }
        found
    }
}

impl Running {
    fn is_within(self, other: Running) -> bool {
        let fits = |own: Option<u64>, most: Option<u64>| {
            most.is_none_or(|most| own.is_some_and(|own| own <= most))
        };
        (other.network || !self.network)
            && fits(self.wall_ms, other.wall_ms)
            && fits(self.memory_bytes, other.memory_bytes)
    }
}

/// Whether a refused request, `METHOD ORIGIN/PATH`, is one that a rule would allow.
fn asks_for(denial: &Denial, rule: &str) -> bool {
    let rule = NetworkRule::parse(rule).ok();
    rule.zip(denial.request()).is_some_and(|(rule, request)| {
        let method: Result<Method, _> = request.method.parse();
        method.is_ok_and(|method| rule.allows(&request.origin, &method, &request.path))
    })
}
