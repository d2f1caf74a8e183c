//! The effective grant: declared by the manifest, granted by the project, under every matching ceiling.

pub(crate) mod compare;
mod form;
mod network;

pub use form::UnknownGrant;

use std::collections::{BTreeMap, BTreeSet};

use flow::id::{Role, SkillName};
use serde::{Deserialize, Serialize};

use crate::argument::ArgumentPattern;
use crate::denial::{Capability, Denial};
use crate::limits::Limits;
use crate::manifest::{FileRequest, Manifest, NetworkRequest, ProcessRequest, Runnable};
use crate::network::NetworkRule;
use crate::origin::Origin;
use crate::path::{Globs, RelPath};
use crate::policy::{Ceiling, LeastConfinement, Policy};
use crate::project_grant::ProjectGrant;

/// What a skill really gets. Computed once, pinned by digest in the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    pub(crate) skill: SkillName,
    pub(crate) role: Role,
    /// Readable paths; the flag says whether they may be changed as well. No path lies below another.
    pub(crate) files: BTreeMap<RelPath, bool>,
    pub(crate) hidden: Globs,
    pub(crate) network: BTreeSet<NetworkRule>,
    /// Of the requests above, those that may go to loopback and private addresses.
    pub(crate) private: BTreeSet<NetworkRule>,
    /// Headers by which the other side knows a request that it has had already, and where that holds. No power: it is as the manifest says.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) idempotency: BTreeSet<(NetworkRule, String)>,
    pub(crate) credentials: BTreeSet<CredentialGrant>,
    pub(crate) env: BTreeSet<String>,
    pub(crate) commands: BTreeMap<String, CommandGrant>,
    #[serde(with = "form::programs")]
    pub(crate) programs: BTreeMap<String, BTreeMap<ArgumentPattern, Running>>,
    pub(crate) least_confinement: LeastConfinement,
    pub(crate) models: BTreeSet<String>,
    pub(crate) max_tokens: u32,
    pub(crate) release: bool,
    pub(crate) limits: Limits,
    withheld: Vec<Denial>,
}

/// A project command that is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct CommandGrant {
    /// Whether arguments may be appended.
    pub(crate) extra_args: bool,
    pub(crate) running: Running,
}

/// On which terms a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Running {
    /// Whether it may use the network that the skill is granted.
    pub network: bool,
    /// Wall clock of one command; absent: the call's own.
    pub wall_ms: Option<u64>,
    /// Memory of each of its processes; absent: the host's own bound.
    pub memory_bytes: Option<u64>,
}

/// A secret that the host adds to requests for one origin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CredentialGrant {
    /// What the host's store knows it by.
    pub name: String,
    /// Where it is sent, and nowhere else.
    pub origin: Origin,
    /// The header that carries it, in lower case.
    pub header: String,
    /// The header's value, with one `{}` where the secret stands.
    pub format: String,
}

fn keyed(manifest: &Manifest) -> BTreeSet<(NetworkRule, String)> {
    let keyed = |one: &NetworkRequest| Some((one.rules.clone(), one.idempotency.clone()?));
    let all = manifest.network.iter().filter_map(keyed);
    all.flat_map(|(rules, header)| rules.into_iter().map(move |rule| (rule, header.clone())))
        .collect()
}

impl Grant {
    /// Computes the grant: never more than any of the three.
    pub fn compute(manifest: &Manifest, project: Option<&ProjectGrant>, policy: &Policy) -> Grant {
        let ceilings: Vec<&Ceiling> = policy.ceilings_of(manifest.role, &manifest.name).collect();
        let mut grant = Grant {
            skill: manifest.name.clone(),
            role: manifest.role,
            files: BTreeMap::new(),
            hidden: hidden(manifest, project, policy),
            network: BTreeSet::new(),
            private: BTreeSet::new(),
            idempotency: keyed(manifest),
            credentials: BTreeSet::new(),
            env: BTreeSet::new(),
            commands: BTreeMap::new(),
            programs: BTreeMap::new(),
            least_confinement: policy.least_confinement,
            models: BTreeSet::new(),
            max_tokens: 0,
            release: false,
            limits: manifest.limits,
            withheld: Vec::new(),
        };
        let mut allow = Allowing {
            grant: &mut grant,
            project,
            ceilings: &ceilings,
            policy,
        };
        manifest
            .files
            .iter()
            .for_each(|request| allow.files(request));
        allow.network(&manifest.network);
        manifest
            .credentials
            .iter()
            .for_each(|request| allow.credential(request));
        for request in &manifest.env {
            allow.named(
                Capability::Env,
                &request.name,
                "env",
                |p| &p.env,
                |c| c.env.has(&request.name),
                |grant| {
                    grant.env.insert(request.name.clone());
                },
            );
        }
        manifest
            .processes
            .iter()
            .for_each(|request| allow.process(request));
        if let Some(request) = &manifest.model {
            for alias in &request.aliases {
                allow.named(
                    Capability::Model,
                    alias,
                    "models",
                    |p| &p.models,
                    |c| c.models.has(alias),
                    |grant| {
                        grant.models.insert(alias.clone());
                    },
                );
            }
            let lowered = project.and_then(|p| p.max_tokens).unwrap_or(u32::MAX);
            grant.max_tokens = ceilings
                .iter()
                .map(|c| c.max_tokens)
                .fold(request.max_tokens.min(lowered), u32::min);
            // No token is no call: an alias that can never answer would only look like one.
            if grant.max_tokens == 0 {
                Allowing {
                    grant: &mut grant,
                    project,
                    ceilings: &ceilings,
                    policy,
                }
                .no_tokens(lowered == 0);
            }
        }
        if manifest.release.is_some() {
            Allowing {
                grant: &mut grant,
                project,
                ceilings: &ceilings,
                policy,
            }
            .release();
        }
        grant.limits.memory_bytes = lowest(
            grant.limits.memory_bytes,
            project.and_then(|p| p.memory_bytes),
            ceilings.iter().map(|c| c.memory_bytes),
        );
        grant.limits.wall_ms = lowest(
            grant.limits.wall_ms,
            project.and_then(|p| p.wall_ms),
            ceilings.iter().map(|c| c.wall_ms),
        );
        grant
    }

    /// What the manifest declares and the skill does not get, with the line that would allow it.
    pub fn withheld(&self) -> &[Denial] {
        &self.withheld
    }
}

fn lowest(declared: u64, project: Option<u64>, ceilings: impl Iterator<Item = u64>) -> u64 {
    ceilings.fold(declared.min(project.unwrap_or(u64::MAX)), u64::min)
}

fn hidden(manifest: &Manifest, project: Option<&ProjectGrant>, policy: &Policy) -> Globs {
    let declared = manifest
        .files
        .iter()
        .flat_map(|request| request.except.patterns());
    let granted = project
        .into_iter()
        .flat_map(|grant| grant.except.patterns());
    let all = declared
        .chain(granted)
        .chain(policy.hidden.patterns())
        .cloned();
    // The parts compiled, so the whole does; were it not so, hiding everything is the safe end.
    Globs::new(all)
        .or_else(|_| Globs::new(["**"]))
        .unwrap_or_else(|_| Globs::none())
}

/// The three texts that must all say yes.
struct Allowing<'a> {
    grant: &'a mut Grant,
    project: Option<&'a ProjectGrant>,
    ceilings: &'a [&'a Ceiling],
    policy: &'a Policy,
}

impl Allowing<'_> {
    fn withhold(&mut self, capability: Capability, what: &str, line: String) {
        self.grant
            .withheld
            .push(Denial::new(capability, what, line));
    }

    fn project_line(&self, addition: &str) -> String {
        format!(
            "moat.toml, [[grant]] skill = \"{}\": {addition}",
            self.grant.skill
        )
    }

    fn policy_line(&self, addition: &str) -> String {
        format!(
            "{}, [[ceiling]] role = \"{}\": {addition}",
            self.policy.file, self.grant.role
        )
    }

    /// Keeps the parts of a path that project and ceilings allow: of two nested paths the deeper one.
    fn files(&mut self, request: &FileRequest) {
        let verb = if request.write { "write" } else { "read" };
        let addition = format!("{verb} = [\"{}\"]", request.path);
        let mut parts = vec![(request.path.clone(), request.write)];
        let granted = self
            .project
            .map(|p| both(&p.read, &p.write))
            .unwrap_or_default();
        parts = intersect(&parts, &granted);
        if !covers(&parts, request) {
            let line = self.project_line(&addition);
            self.withhold(Capability::Files, &format!("{verb} {}", request.path), line);
        } else if !self.ceilings.is_empty() {
            let mut under = parts.clone();
            for ceiling in self.ceilings {
                under = intersect(&under, &both(&ceiling.read, &ceiling.write));
            }
            if !covers(&under, request) {
                let line = self.policy_line(&addition);
                self.withhold(Capability::Files, &format!("{verb} {}", request.path), line);
            }
        }
        for ceiling in self.ceilings {
            parts = intersect(&parts, &both(&ceiling.read, &ceiling.write));
        }
        if self.ceilings.is_empty() {
            parts.clear();
            let line = self.policy_line(&addition);
            self.withhold(Capability::Files, &format!("{verb} {}", request.path), line);
        }
        for (path, write) in parts {
            *self.grant.files.entry(path).or_insert(false) |= write;
        }
    }

    fn named(
        &mut self,
        capability: Capability,
        name: &str,
        key: &str,
        granted: impl Fn(&ProjectGrant) -> &Vec<String>,
        under: impl Fn(&Ceiling) -> bool,
        take: impl FnOnce(&mut Grant),
    ) {
        let addition = format!("{key} = [\"{name}\"]");
        if !self
            .project
            .is_some_and(|p| granted(p).iter().any(|one| one == name))
        {
            let line = self.project_line(&addition);
            self.withhold(capability, name, line);
        } else if self.ceilings.is_empty() || !self.ceilings.iter().all(|c| under(c)) {
            let line = self.policy_line(&addition);
            self.withhold(capability, name, line);
        } else {
            take(self.grant);
        }
    }

    fn process(&mut self, request: &ProcessRequest) {
        let running = Running {
            network: request.network && self.online(&request.what),
            wall_ms: request.wall_ms,
            memory_bytes: request.memory_bytes,
        };
        match &request.what {
            Runnable::Project { name, extra_args } => {
                self.named(
                    Capability::Processes,
                    name,
                    "commands",
                    |p| &p.commands,
                    |c| c.commands.has(name),
                    |grant| {
                        let extra_args = *extra_args;
                        let granted = CommandGrant {
                            extra_args,
                            running,
                        };
                        grant.commands.insert(name.clone(), granted);
                    },
                );
            }
            Runnable::Program { program, args } => {
                self.named(
                    Capability::Processes,
                    program,
                    "programs",
                    |p| &p.programs,
                    |c| c.programs.has(program),
                    |grant| {
                        grant
                            .programs
                            .entry(program.clone())
                            .or_default()
                            .extend(args.iter().map(|pattern| (pattern.clone(), running)));
                    },
                );
            }
        }
    }

    /// Takes back the models of a call that may have no token of them.
    fn no_tokens(&mut self, by_project: bool) {
        let addition = "max-tokens = 1000";
        for alias in std::mem::take(&mut self.grant.models) {
            let line = match by_project {
                true => self.project_line(addition),
                false => self.policy_line(addition),
            };
            self.withhold(Capability::Model, &alias, line);
        }
    }

    fn release(&mut self) {
        if !self.project.is_some_and(|p| p.release) {
            let line = self.project_line("release = true");
            self.withhold(Capability::Release, "releases", line);
        } else if self.ceilings.is_empty() || !self.ceilings.iter().all(|c| c.release) {
            let line = self.policy_line("release = true");
            self.withhold(Capability::Release, "releases", line);
        } else {
            self.grant.release = true;
        }
    }
}

fn both(read: &[RelPath], write: &[RelPath]) -> Vec<(RelPath, bool)> {
    read.iter()
        .map(|path| (path.clone(), false))
        .chain(write.iter().map(|path| (path.clone(), true)))
        .collect()
}

/// The paths that both sides hold; a path may be changed where both sides say so.
fn intersect(left: &[(RelPath, bool)], right: &[(RelPath, bool)]) -> Vec<(RelPath, bool)> {
    let mut found: BTreeMap<RelPath, bool> = BTreeMap::new();
    for (a, a_write) in left {
        for (b, b_write) in right {
            let deeper = if a.holds(b) {
                b
            } else if b.holds(a) {
                a
            } else {
                continue;
            };
            *found.entry(deeper.clone()).or_insert(false) |= *a_write && *b_write;
        }
    }
    found.into_iter().collect()
}

fn covers(parts: &[(RelPath, bool)], request: &FileRequest) -> bool {
    parts
        .iter()
        .any(|(path, write)| *path == request.path && *write == request.write)
}
