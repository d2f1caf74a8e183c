//! The one question: may it? Asked of a grant, per operation, at the door that would do it.

use std::collections::BTreeSet;

use flow::id::{Role, SkillName};

use crate::denial::{Capability, Denial};
use crate::grant::{CredentialGrant, Grant, Running};
use crate::limits::Limits;
use crate::network::{Method, NetworkRule};
use crate::origin::Origin;
use crate::path::{Globs, RelPath};
use crate::policy::LeastConfinement;

/// How far a granted request reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Whether it may go to loopback and private addresses.
    pub private: bool,
    /// What the host adds to it.
    pub credentials: Vec<CredentialGrant>,
    /// The header by which the other side knows this request when it has had it already: the host sets it.
    pub idempotency: Option<String>,
}

impl Running {
    /// The wider of two: a command that two declarations allow runs as either may.
    fn either(self, other: Running) -> Running {
        let wider = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.max(b));
        Running {
            network: self.network || other.network,
            wall_ms: wider(self.wall_ms, other.wall_ms),
            memory_bytes: wider(self.memory_bytes, other.memory_bytes),
        }
    }
}

impl Grant {
    /// The skill.
    pub fn skill(&self) -> &SkillName {
        &self.skill
    }

    /// The role in which it is called.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Limits of one call.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What is hidden from it on every path.
    pub fn hidden(&self) -> &Globs {
        &self.hidden
    }

    /// Paths that it may change, none below another's path without need.
    pub fn writable(&self) -> Vec<RelPath> {
        self.files
            .iter()
            .filter(|(_, write)| **write)
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Paths that it may see, with all below them that is not hidden; none below another.
    pub fn readable(&self) -> impl Iterator<Item = &RelPath> {
        self.files.keys()
    }

    /// Whether it gets any file at all.
    pub fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Whether something that it may see lies below this directory.
    pub fn leads_to(&self, directory: &RelPath) -> bool {
        self.files.keys().any(|one| directory.holds(one))
            && !self.hidden.matches(directory.as_str())
    }

    /// May it see this path?
    ///
    /// # Errors
    /// The denial, with the line that would allow it.
    pub fn may_read(&self, path: &RelPath) -> Result<(), Denial> {
        let granted = self.files.keys().any(|one| one.holds(path));
        if granted && !self.hidden.matches(path.as_str()) {
            return Ok(());
        }
        let line = format!("skill.toml: [[files]] path = \"{path}\" access = \"read\"");
        Err(Denial::new(Capability::Files, format!("read {path}"), line))
    }

    /// May it change this path?
    ///
    /// # Errors
    /// The denial, with the line that would allow it.
    pub fn may_write(&self, path: &RelPath) -> Result<(), Denial> {
        let granted = self
            .files
            .iter()
            .any(|(one, write)| *write && one.holds(path));
        if granted && !self.hidden.matches(path.as_str()) {
            return Ok(());
        }
        let line = format!("skill.toml: [[files]] path = \"{path}\" access = \"write\"");
        Err(Denial::new(
            Capability::Files,
            format!("write {path}"),
            line,
        ))
    }

    /// May it run this project command with these arguments appended?
    ///
    /// # Errors
    /// The denial, with the line that would allow it.
    pub fn may_run_project(&self, name: &str, extra_args: &[String]) -> Result<Running, Denial> {
        match self.commands.get(name) {
            Some(one) if one.extra_args || extra_args.is_empty() => Ok(one.running),
            Some(_) => Err(Denial::new(
                Capability::Processes,
                format!("{name} with arguments {extra_args:?}"),
                format!("skill.toml: [[processes]] project = \"{name}\" extra-args = true"),
            )),
            None => Err(Denial::new(
                Capability::Processes,
                name,
                format!("skill.toml: [[processes]] project = \"{}\"", plain(name)),
            )),
        }
    }

    /// May it run this program with these arguments?
    ///
    /// # Errors
    /// The denial, with the line that would allow it.
    pub fn may_run_program(&self, program: &str, args: &[String]) -> Result<Running, Denial> {
        let patterns = self.programs.get(program).into_iter().flatten();
        let allowed = patterns
            .filter(|(pattern, _)| pattern.matches(args))
            .map(|(_, running)| *running)
            .reduce(Running::either);
        if let Some(running) = allowed {
            return Ok(running);
        }
        let line = format!(
            "skill.toml: [[processes]] program = \"{}\" args = [{args:?}]",
            plain(program)
        );
        Err(Denial::new(
            Capability::Processes,
            format!("{program} {args:?}"),
            line.chars().take(400).collect::<String>(),
        ))
    }

    /// Project commands that it may run; the flag says whether arguments may be appended.
    pub fn project_commands(&self) -> impl Iterator<Item = (&str, bool)> {
        self.commands
            .iter()
            .map(|(name, one)| (name.as_str(), one.extra_args))
    }

    /// May it make this request? `path` comes without its query.
    ///
    /// # Errors
    /// The denial, with the line that would allow it.
    pub fn may_request(&self, origin: &Origin, method: &str, path: &str) -> Result<Reach, Denial> {
        let allowed = method.parse::<Method>().ok().and_then(|method| {
            let allows = |rule: &NetworkRule| rule.allows(origin, &method, path);
            self.network.iter().any(allows).then(|| Reach {
                private: self.private.iter().any(allows),
                credentials: self.credentials_for(origin),
                idempotency: self
                    .idempotency
                    .iter()
                    .find(|(rule, _)| allows(rule) && matches!(method.as_str(), "POST" | "PATCH"))
                    .map(|(_, header)| header.clone()),
            })
        });
        allowed.ok_or_else(|| {
            // The path is the guest's own text; the line names the directory above it at most.
            let line = format!(
                "skill.toml: [[network]] host = \"{}\" scheme = \"{}\" port = {} methods = [\"{}\"] reason = \"…\"",
                origin.host(),
                origin.scheme().as_str(),
                origin.port(),
                plain(method)
            );
            let what = format!("{} {origin}{path}", plain(method));
            Denial::new(Capability::Network, what, line)
        })
    }

    fn credentials_for(&self, origin: &Origin) -> Vec<CredentialGrant> {
        let bound = |one: &&CredentialGrant| one.origin == *origin;
        self.credentials.iter().filter(bound).cloned().collect()
    }

    /// Requests that it may make.
    pub fn network(&self) -> impl Iterator<Item = &NetworkRule> {
        self.network.iter()
    }

    /// Secrets that the host adds to its requests.
    pub fn credentials(&self) -> impl Iterator<Item = &CredentialGrant> {
        self.credentials.iter()
    }

    /// What must hold its commands at least.
    pub fn least_confinement(&self) -> LeastConfinement {
        self.least_confinement
    }

    /// May it call this model?
    ///
    /// # Errors
    /// The denial, with the line that would allow it.
    pub fn may_use_model(&self, alias: &str) -> Result<(), Denial> {
        if self.models.contains(alias) {
            return Ok(());
        }
        Err(Denial::new(
            Capability::Model,
            alias,
            format!("skill.toml: [model] aliases = [\"{}\"]", plain(alias)),
        ))
    }

    /// Output tokens of one model call at most.
    pub fn max_tokens(&self) -> u32 {
        self.max_tokens
    }

    /// Model aliases that it may call.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(String::as_str)
    }

    /// Environment variables that it gets.
    pub fn env(&self) -> impl Iterator<Item = &str> {
        self.env.iter().map(String::as_str)
    }

    /// May it stage and activate releases?
    ///
    /// # Errors
    /// The denial, with the line that would allow it.
    pub fn may_release(&self) -> Result<(), Denial> {
        if self.release {
            return Ok(());
        }
        Err(Denial::new(
            Capability::Release,
            "releases",
            "skill.toml: [release] reason = \"…\"",
        ))
    }

    /// The host interfaces that are linked for it, without version. `progress` and `effects` hold no authority and are always there.
    pub fn interfaces(&self) -> BTreeSet<&'static str> {
        let mut interfaces = BTreeSet::from(["moat:host/progress", "moat:host/effects"]);
        if !self.commands.is_empty() || !self.programs.is_empty() {
            interfaces.insert("moat:host/process");
        }
        if !self.network.is_empty() {
            interfaces.extend(["wasi:http/types", "wasi:http/outgoing-handler"]);
        }
        if !self.models.is_empty() {
            interfaces.insert("moat:host/model");
        }
        if self.release {
            interfaces.insert("moat:host/release");
        }
        interfaces
    }
}

/// The line of `skill.toml` that would declare a host interface; `None` for interfaces that no line can declare.
pub fn line_for_interface(interface: &str) -> Option<&'static str> {
    Some(match interface {
        "moat:host/process" => "skill.toml: [[processes]] project = \"test\" reason = \"…\"",
        "moat:host/model" => {
            "skill.toml: [model] aliases = [\"coder\"] max-tokens = 8000 reason = \"…\""
        }
        "wasi:http/types" | "wasi:http/outgoing-handler" => {
            "skill.toml: [[network]] host = \"api.example.com\" methods = [\"GET\"] reason = \"…\""
        }
        "moat:host/release" => "skill.toml: [release] reason = \"…\"",
        _ => return None,
    })
}

fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_graphic() && *c != '"')
        .take(64)
        .collect()
}
