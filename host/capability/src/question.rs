//! The one question: may it? Asked of a grant, per operation, at the door that would do it.

use std::collections::BTreeSet;

use flow::id::{Role, SkillName};

use crate::denial::{Capability, Denial};
use crate::grant::Grant;
use crate::limits::Limits;
use crate::path::{Globs, RelPath};

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
    pub fn may_run_project(&self, name: &str, extra_args: &[String]) -> Result<(), Denial> {
        match self.commands.get(name) {
            Some(true) => Ok(()),
            Some(false) if extra_args.is_empty() => Ok(()),
            Some(false) => Err(Denial::new(
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
    pub fn may_run_program(&self, program: &str, args: &[String]) -> Result<(), Denial> {
        let allowed = self
            .programs
            .get(program)
            .is_some_and(|patterns| patterns.iter().any(|pattern| pattern.matches(args)));
        if allowed {
            return Ok(());
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
            .map(|(name, extra)| (name.as_str(), *extra))
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

    /// The host interfaces that are linked for it, without version. `progress` holds no authority and is always there.
    pub fn interfaces(&self) -> BTreeSet<&'static str> {
        let mut interfaces = BTreeSet::from(["moat:host/progress"]);
        if !self.commands.is_empty() || !self.programs.is_empty() {
            interfaces.insert("moat:host/process");
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
