//! What a manifest asks for, one power at a time, and when one power holds another.

use std::fmt;

use serde::Serialize;

use crate::argument::ArgumentPattern;
use crate::denial::{Capability, Denial};
use crate::grant::{Grant, Running};
use crate::manifest::{CredentialRequest, Manifest, ProcessRequest, Runnable};
use crate::network::NetworkRule;
use crate::path::RelPath;

/// One thing that a manifest asks for. Its [`Display`](fmt::Display) is a sentence that begins with a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power<'a> {
    /// To see a path, and to change it where `write` says so.
    File {
        /// The path, with all below it.
        path: &'a RelPath,
        /// Whether it may be changed.
        write: bool,
    },
    /// To make requests.
    Request(&'a NetworkRule),
    /// To have a secret added to requests.
    Credential(&'a CredentialRequest),
    /// To see a variable of the project.
    Env(&'a str),
    /// To run a command of the project.
    Project {
        /// Its name.
        name: &'a str,
        /// Whether arguments may be appended.
        extra_args: bool,
        /// On which terms it runs.
        running: Running,
    },
    /// To run a program in one form.
    Program {
        /// Its file name.
        program: &'a str,
        /// Its arguments.
        pattern: &'a ArgumentPattern,
        /// On which terms it runs.
        running: Running,
    },
    /// To call a model.
    Model(&'a str),
    /// To stage and activate releases.
    Release,
}

/// A power with the author's reason for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// What is asked for.
    pub power: Power<'a>,
    /// For the reviewer.
    pub reason: &'a str,
}

impl Manifest {
    /// All that it asks for, a power each; what it hides from itself and its limits are not among them.
    pub fn powers(&self) -> Vec<Asked<'_>> {
        let mut out = Vec::new();
        for one in &self.files {
            let power = Power::File {
                path: &one.path,
                write: one.write,
            };
            out.push(Asked {
                power,
                reason: &one.reason,
            });
        }
        for one in &self.network {
            out.extend(one.rules.iter().map(|rule| Asked {
                power: Power::Request(rule),
                reason: &one.reason,
            }));
        }
        out.extend(self.credentials.iter().map(|one| Asked {
            power: Power::Credential(one),
            reason: &one.reason,
        }));
        self.processes
            .iter()
            .for_each(|one| commands(one, &mut out));
        out.extend(self.env.iter().map(|one| Asked {
            power: Power::Env(&one.name),
            reason: &one.reason,
        }));
        if let Some(one) = &self.model {
            out.extend(one.aliases.iter().map(|alias| Asked {
                power: Power::Model(alias),
                reason: &one.reason,
            }));
        }
        out.extend(self.release.iter().map(|reason| Asked {
            power: Power::Release,
            reason,
        }));
        out
    }

    /// What it hides from itself, whatever it is granted; sorted, each once.
    pub fn hides(&self) -> Vec<&str> {
        let patterns = self.files.iter().flat_map(|one| one.except.patterns());
        let mut all: Vec<&str> = patterns.map(String::as_str).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn commands<'a>(request: &'a ProcessRequest, out: &mut Vec<Asked<'a>>) {
    let running = Running {
        network: request.network,
        wall_ms: request.wall_ms,
        memory_bytes: request.memory_bytes,
    };
    let asked = |power| Asked {
        power,
        reason: request.reason.as_str(),
    };
    match &request.what {
        Runnable::Project { name, extra_args } => out.push(asked(Power::Project {
            name,
            extra_args: *extra_args,
            running,
        })),
        Runnable::Program { program, args } => {
            out.extend(args.iter().map(|pattern| {
                asked(Power::Program {
                    program,
                    pattern,
                    running,
                })
            }));
        }
    }
}

impl Power<'_> {
    /// The kind.
    pub fn capability(&self) -> Capability {
        match self {
            Power::File { .. } => Capability::Files,
            Power::Request(_) => Capability::Network,
            Power::Credential(_) => Capability::Credentials,
            Power::Env(_) => Capability::Env,
            Power::Project { .. } | Power::Program { .. } => Capability::Processes,
            Power::Model(_) => Capability::Model,
            Power::Release => Capability::Release,
        }
    }

    /// Whether whoever has this power can do all that the other lets it do, under every project grant and every policy.
    pub fn holds(&self, other: &Power<'_>) -> bool {
        match (self, other) {
            (
                Power::File { path, write },
                Power::File {
                    path: deeper,
                    write: changes,
                },
            ) => path.holds(deeper) && (*write || !*changes),
            (Power::Request(one), Power::Request(other)) => one.both(other).as_ref() == Some(other),
            (Power::Credential(one), Power::Credential(other)) => {
                (&one.name, &one.origin, &one.header, &one.format)
                    == (&other.name, &other.origin, &other.header, &other.format)
            }
            (Power::Env(one), Power::Env(other)) | (Power::Model(one), Power::Model(other)) => {
                one == other
            }
            (
                Power::Project {
                    name,
                    extra_args,
                    running,
                },
                Power::Project {
                    name: other,
                    extra_args: appends,
                    running: terms,
                },
            ) => name == other && (*extra_args || !*appends) && wider(*running, *terms),
            (
                Power::Program {
                    program,
                    pattern,
                    running,
                },
                Power::Program {
                    program: other,
                    pattern: form,
                    running: terms,
                },
            ) => program == other && pattern.holds(form) && wider(*running, *terms),
            (Power::Release, Power::Release) => true,
            _ => false,
        }
    }
}

/// Whether the first terms allow all that the second do; an absent bound is the widest.
fn wider(one: Running, other: Running) -> bool {
    let bound = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => one >= other,
    };
    (one.network || !other.network)
        && bound(one.wall_ms, other.wall_ms)
        && bound(one.memory_bytes, other.memory_bytes)
}

impl fmt::Display for Power<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Power::File { path, write } => {
                let verb = if *write { "read and change" } else { "read" };
                if path.is_root() {
                    write!(f, "{verb} everything in the worktree")
                } else {
                    write!(f, "{verb} `{path}`")
                }
            }
            Power::Request(rule) => write!(f, "send requests to `{rule}`"),
            Power::Credential(one) => write!(
                f,
                "have the secret `{}` added to requests to `{}`, as `{}: {}`",
                one.name, one.origin, one.header, one.format
            ),
            Power::Env(name) => write!(f, "see the project's variable `{name}`"),
            Power::Project {
                name,
                extra_args,
                running,
            } => {
                write!(f, "run the project's command `{name}`")?;
                if *extra_args {
                    f.write_str(" with arguments of its choice")?;
                }
                terms(f, *running)
            }
            Power::Program {
                program,
                pattern,
                running,
            } => {
                write!(f, "run `{program}")?;
                for element in pattern.elements() {
                    write!(f, " {element}")?;
                }
                f.write_str("`")?;
                terms(f, *running)
            }
            Power::Model(alias) => write!(f, "call the model `{alias}`"),
            Power::Release => f.write_str("stage, activate and probe releases"),
        }
    }
}

fn terms(f: &mut fmt::Formatter<'_>, running: Running) -> fmt::Result {
    if running.network {
        f.write_str(" on the network")?;
    }
    if let Some(ms) = running.wall_ms {
        write!(f, ", for {} at most", crate::quantity::of_millis(ms))?;
    }
    if let Some(bytes) = running.memory_bytes {
        write!(f, ", in {} at most", crate::quantity::of_bytes(bytes))?;
    }
    Ok(())
}

/// What project and policy leave of a power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Some of it.
    Part,
    /// All of it, but for what is hidden from everybody.
    All,
}

impl Grant {
    /// What the grant leaves of a power that its manifest asks for.
    pub fn leaves(&self, power: &Power<'_>) -> Left {
        let whole = |found: bool| if found { Left::All } else { Left::Nothing };
        let terms = |granted: Option<Running>, asked: Running| match granted {
            None => Left::Nothing,
            Some(granted) if wider(granted, asked) => Left::All,
            Some(_) => Left::Part,
        };
        match power {
            Power::File { path, write } => self.leaves_of_path(path, *write),
            Power::Request(rule) => {
                let common: Vec<_> = self.network().filter_map(|one| one.both(rule)).collect();
                if common.contains(rule) {
                    Left::All
                } else if common.is_empty() {
                    Left::Nothing
                } else {
                    Left::Part
                }
            }
            Power::Credential(one) => whole(
                self.credentials()
                    .any(|granted| (&granted.name, &granted.origin) == (&one.name, &one.origin)),
            ),
            Power::Env(name) => whole(self.env.contains(*name)),
            Power::Project { name, running, .. } => {
                terms(self.commands.get(*name).map(|one| one.running), *running)
            }
            Power::Program {
                program,
                pattern,
                running,
            } => {
                let granted = self
                    .programs
                    .get(*program)
                    .and_then(|forms| forms.get(pattern));
                terms(granted.copied(), *running)
            }
            Power::Model(alias) => whole(self.models.contains(*alias)),
            Power::Release => whole(self.release),
        }
    }

    /// What was withheld of a power that its manifest asks for, with the lines that would give it: for a command on the network there may be two.
    pub fn withheld_of(&self, power: &Power<'_>) -> Vec<&Denial> {
        let name = match power {
            Power::File { path, write } => {
                format!("{} {path}", if *write { "write" } else { "read" })
            }
            Power::Request(rule) => rule.to_string(),
            Power::Credential(one) => one.name.clone(),
            Power::Env(name)
            | Power::Model(name)
            | Power::Project { name, .. }
            | Power::Program { program: name, .. } => (*name).to_owned(),
            Power::Release => "releases".into(),
        };
        // Its network is withheld under the command's own name.
        let is_online = matches!(power, Power::Project { running, .. } | Power::Program { running, .. } if running.network);
        let of_it = |capability: Capability| {
            capability == power.capability() || (is_online && capability == Capability::Network)
        };
        let all = self.withheld().iter();
        all.filter(|one| one.what == name && of_it(one.capability))
            .collect()
    }

    fn leaves_of_path(&self, path: &RelPath, write: bool) -> Left {
        let mut left = Left::Nothing;
        for (granted, changes) in &self.files {
            if granted.holds(path) && (*changes || !write) {
                return Left::All;
            }
            if granted.holds(path) || path.holds(granted) {
                left = Left::Part;
            }
        }
        left
    }
}
