//! Rights that are worse together than each by itself.

use std::collections::BTreeSet;

use capability::Grant;
use capability::network::{HostPattern, Method, Methods, NetworkRule};
use capability::power::{Asked, Left, Power};
use flow::id::Role;
use serde::Serialize;

use super::risk::{Risk, is_interpreter, is_open};

/// Some rights of a skill that together allow what none of them allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Combination {
    /// Which one: a word that stays the same from version to version.
    pub kind: &'static str,
    /// How bad it is.
    pub risk: Risk,
    /// What it comes to, in one sentence without its stop.
    pub what: String,
    /// What to do about it.
    pub mend: String,
    /// Whether project and policy leave all that it takes.
    pub stands: bool,
}

/// What a skill's rights come to.
struct Rights<'a> {
    role: Role,
    powers: Vec<Power<'a>>,
}

/// All combinations of what is asked for, the worst first.
pub(super) fn all(role: Role, asked: &[Asked<'_>], grant: &Grant) -> Vec<Combination> {
    let declared = Rights {
        role,
        powers: asked.iter().map(|one| one.power).collect(),
    };
    let left = Rights {
        role,
        powers: (declared.powers.iter().copied())
            .filter(|one| grant.leaves(one) != Left::Nothing)
            .collect(),
    };
    let standing = left.found();
    let kinds: BTreeSet<&str> = standing.iter().map(|one| one.kind).collect();
    let mut all: Vec<Combination> = declared
        .found()
        .into_iter()
        .map(|one| Combination {
            kind: one.kind,
            risk: one.risk,
            what: one.what,
            mend: one.mend.to_owned(),
            stands: kinds.contains(one.kind),
        })
        .collect();
    all.sort_by_key(|one| (std::cmp::Reverse(one.stands), std::cmp::Reverse(one.risk)));
    all
}

/// A combination before it is known whether it stands.
struct Kind {
    kind: &'static str,
    risk: Risk,
    what: String,
    mend: &'static str,
}

impl<'a> Rights<'a> {
    fn found(&self) -> Vec<Kind> {
        [
            self.reads_and_sends(),
            self.online_commands(),
            self.secret_and_elsewhere(),
            self.secret_that_changes(),
            self.values_and_sends(),
            self.writes_and_releases(),
            self.any_code(),
            self.runs_and_sends(),
            self.reads_and_asks_a_model(),
            self.writes_and_runs(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What it is about is written by people that nobody vouches for: reports, logs, code, test output.
    fn sees_untrusted(&self) -> bool {
        self.role != Role::Deploy
    }

    fn reads(&self) -> Option<&'static str> {
        let mut files = self
            .powers
            .iter()
            .filter(|one| matches!(one, Power::File { .. }));
        let all = |one: &Power<'_>| matches!(one, Power::File { path, .. } if path.is_root());
        let first = files.next()?;
        Some(if all(first) || files.any(all) {
            "the whole worktree"
        } else {
            "parts of the worktree"
        })
    }

    fn writes(&self) -> bool {
        self.powers
            .iter()
            .any(|one| matches!(one, Power::File { write: true, .. }))
    }

    fn requests(&self) -> impl Iterator<Item = &'a NetworkRule> {
        self.powers.iter().filter_map(|one| match one {
            Power::Request(rule) => Some(*rule),
            _ => None,
        })
    }

    fn hosts(&self) -> Option<String> {
        let mut all: Vec<String> = self.requests().map(|rule| format!("`{rule}`")).collect();
        all.dedup();
        (!all.is_empty()).then(|| all.join(", "))
    }

    fn commands(&self, online: bool) -> Option<String> {
        let mut all: Vec<String> = self
            .powers
            .iter()
            .filter_map(|one| match one {
                Power::Project { name, running, .. }
                | Power::Program {
                    program: name,
                    running,
                    ..
                } => (running.network || !online).then(|| format!("`{name}`")),
                _ => None,
            })
            .collect();
        all.dedup();
        (!all.is_empty()).then(|| all.join(", "))
    }

    fn models(&self) -> Option<String> {
        let all: Vec<String> = self
            .powers
            .iter()
            .filter_map(|one| match one {
                Power::Model(alias) => Some(format!("`{alias}`")),
                _ => None,
            })
            .collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    fn reads_and_sends(&self) -> Option<Kind> {
        let (reads, hosts) = (self.reads()?, self.hosts()?);
        self.sees_untrusted().then(|| Kind {
            kind: "reads-and-sends",
            risk: Risk::High,
            what: format!(
                "it reads {reads}, sees text that strangers wrote, and can send to {hosts}: such text can make it carry out what it reads"
            ),
            mend: "let one skill read and another send; or grant files without secrets in them, and one host and path that you own",
        })
    }

    fn online_commands(&self) -> Option<Kind> {
        let (commands, hosts) = (self.commands(true)?, self.hosts()?);
        Some(Kind {
            kind: "online-commands",
            risk: Risk::High,
            what: format!(
                "the commands {commands} reach the network ({hosts}): whatever code they execute decides what is sent"
            ),
            mend: "fetch what they need before the run and leave `online` out of the grant; or grant one mirror that you own",
        })
    }

    fn secret_and_elsewhere(&self) -> Option<Kind> {
        self.powers.iter().find_map(|one| {
            let Power::Credential(secret) = one else {
                return None;
            };
            let elsewhere = self.requests().find(|rule| match &rule.host {
                HostPattern::Exact(host) => host != secret.origin.host(),
                _ => true,
            })?;
            Some(Kind {
                kind: "secret-and-elsewhere",
                risk: Risk::High,
                what: format!(
                    "with the secret `{}` it sees what {} keeps, and can send it on to `{elsewhere}`",
                    secret.name, secret.origin
                ),
                mend: "grant no host beside the one that the secret is for",
            })
        })
    }

    fn secret_that_changes(&self) -> Option<Kind> {
        self.powers.iter().find_map(|one| {
            let Power::Credential(secret) = one else {
                return None;
            };
            let changing = self.requests().find(|rule| {
                rule.reaches(&secret.origin) && rule.path.as_str() == "/" && changes(&rule.methods)
            })?;
            Some(Kind {
                kind: "secret-that-changes",
                risk: Risk::Moderate,
                what: format!(
                    "with the secret `{}` it may change everything that the secret's owner may at {} (`{changing}`)",
                    secret.name, secret.origin
                ),
                mend: "narrow methods to GET, or paths to what it changes, and give it a secret with few rights",
            })
        })
    }

    fn values_and_sends(&self) -> Option<Kind> {
        let name = self.powers.iter().find_map(|one| match one {
            Power::Env(name) => Some(name),
            _ => None,
        })?;
        let hosts = self.hosts()?;
        Some(Kind {
            kind: "values-and-sends",
            risk: Risk::Moderate,
            what: format!(
                "it sees variables of the project, such as `{name}`, and can send to {hosts}"
            ),
            mend: "keep secrets out of [env]: [[credentials]] adds them at the door, unseen",
        })
    }

    fn writes_and_releases(&self) -> Option<Kind> {
        let releases = self.powers.iter().any(|one| matches!(one, Power::Release));
        (releases && self.writes()).then(|| Kind {
            kind: "writes-and-releases",
            risk: Risk::High,
            what: "it changes files and makes releases: what it changed could be out before a gate has seen it".into(),
            mend: "let one skill change and another release",
        })
    }

    fn any_code(&self) -> Option<Kind> {
        self.powers.iter().find_map(|one| match one {
            Power::Program { program, .. } if is_open(one) && is_interpreter(program) => Some(Kind {
                kind: "any-code",
                risk: Risk::High,
                what: format!("`{program}` with arguments of its choice is any code of its choice, outside WebAssembly; it is confined like every command"),
                mend: "list the exact argument lists, or make it a command of the project",
            }),
            _ => None,
        })
    }

    fn runs_and_sends(&self) -> Option<Kind> {
        if self.commands(true).is_some() {
            return None;
        }
        let (commands, hosts) = (self.commands(false)?, self.hosts()?);
        Some(Kind {
            kind: "runs-and-sends",
            risk: Risk::Moderate,
            what: format!("it runs {commands} and can send what they print to {hosts}"),
            mend: "let one skill run and another send",
        })
    }

    fn reads_and_asks_a_model(&self) -> Option<Kind> {
        let (reads, models) = (self.reads()?, self.models()?);
        Some(Kind {
            kind: "reads-and-asks-a-model",
            risk: Risk::Moderate,
            what: format!(
                "it reads {reads} and calls the model {models}: whoever runs that model sees what it reads"
            ),
            mend: "let the alias stand for a provider that may see this code, and hide the rest with `except`",
        })
    }

    fn writes_and_runs(&self) -> Option<Kind> {
        let commands = self.commands(false)?;
        self.writes().then(|| Kind {
            kind: "writes-and-runs",
            risk: Risk::Moderate,
            what: format!("it changes files and runs {commands}: the commands execute what it wrote, confined to the worktree"),
            mend: "keep these commands off the network; gates run the branch's own definitions, not the candidate's",
        })
    }
}

fn changes(methods: &Methods) -> bool {
    let reads = |method: &Method| matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS");
    match methods {
        Methods::All => true,
        Methods::These(methods) => !methods.iter().all(reads),
    }
}
