//! The checked file: everything refers to something that exists, every quantity is in range.

use std::collections::BTreeMap;

use capability::config::parse;
use capability::manifest::{is_plain_name, is_variable};
use capability::{AtOnce, ConfigError, ProjectGrant, RelPath, Source};
use flow::id::{GateName, SkillName};
use flow::pipeline::Budget;
use toml::Spanned;
use url::Url;

use capability::RawAtOnce;

use crate::grants::Names;
use crate::raw::Raw;

/// What `moat.toml` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The protected branch.
    pub branch: String,
    /// Directories that the command `test` installs in the worktree; none is the root, or lies within another.
    pub installed: Vec<RelPath>,
    /// Commands by name: program and arguments.
    pub commands: BTreeMap<String, Vec<String>>,
    /// Who turns a report into a work item.
    pub triage: Option<SkillName>,
    /// Who reports the base's tests.
    pub test: Option<SkillName>,
    /// Who splits a work item into tasks.
    pub plan: Option<SkillName>,
    /// Who makes the candidates.
    pub implement: SkillName,
    /// Who deploys.
    pub deploy_skill: Option<SkillName>,
    /// Skills of the project's own: folders on the protected branch.
    pub skills: BTreeMap<SkillName, RelPath>,
    /// What every candidate must pass, as written.
    pub gates: Vec<GateSpec>,
    /// Model aliases, each with the model's name in the machine's `models.toml`.
    pub models: BTreeMap<String, String>,
    /// What one run may use.
    pub budget: Budget,
    /// How long a command may stand still: no output, no processor time.
    pub idle_ms: u64,
    /// What the commands of one step may hold on the disk.
    pub disk_bytes: u64,
    /// Environment of commands.
    pub env: BTreeMap<String, String>,
    /// How to deploy.
    pub deploy: Option<Deploy>,
    /// What skills are given.
    pub grants: Vec<ProjectGrant>,
    /// What there is only a few of, sorted by name.
    pub resources: Vec<Resource>,
    /// How much is done at the same time for this repository.
    pub at_once: AtOnce,
}

/// One `[[resource]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// How many there are on a machine.
    pub count: u32,
    /// The commands that need one.
    pub commands: Vec<String>,
}

/// One `[[gate]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateSpec {
    /// Its name.
    pub name: GateName,
    /// What it does.
    pub kind: GateKind,
    /// The weakness that it guards against.
    pub assumes: Option<String>,
}

/// What a gate does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateKind {
    /// The command exits with 0 on the candidate.
    Command {
        /// A name of `[commands]`.
        command: String,
        /// Its limit.
        timeout_ms: u64,
    },
    /// The same, with the base's tests laid over the candidate.
    BaseTests {
        /// A name of `[commands]`.
        command: String,
        /// Its limit.
        timeout_ms: u64,
        /// Globs of the tests.
        paths: Vec<String>,
    },
    /// Nothing of this changes without a person.
    Protect {
        /// Globs; `moat.toml` is always among them.
        paths: Vec<String>,
    },
}

/// `[deploy]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// Program and arguments, run in the release.
    pub start: Vec<String>,
    /// Probed by GET: a loopback address.
    pub health: Url,
    /// What a healthy service answers.
    pub expect_status: u16,
    /// How long it may take.
    pub patience_ms: u64,
    /// Releases kept beside the current one.
    pub keep: u32,
}

impl Project {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ConfigError`] at the first thing that is wrong, with its line and mend.
    pub fn parse(text: &str, file: &str) -> Result<Project, ConfigError> {
        let source = Source { file, text };
        let raw: Raw = parse(source)?;
        let branch = raw.project.branch.get_ref().clone();
        if !is_branch(&branch) {
            return Err(source.error(
                raw.project.branch.span(),
                format!("{branch:?} is no branch's name"),
                "name the protected branch, such as \"main\"",
            ));
        }
        let commands = commands(raw.commands, source)?;
        let skill = |name: Option<Spanned<String>>| {
            name.map(|name| {
                let refuse = |e: flow::id::InvalidId| {
                    source.error(
                        name.span(),
                        e.to_string(),
                        "name a skill of `moat skill list`",
                    )
                };
                name.get_ref().parse::<SkillName>().map_err(refuse)
            })
            .transpose()
        };
        let deploy_span = raw.pipeline.deploy.as_ref().map(Spanned::span);
        let (triage, test, plan, deploy_skill) = (
            skill(raw.pipeline.triage)?,
            skill(raw.pipeline.test)?,
            skill(raw.pipeline.plan)?,
            skill(raw.pipeline.deploy)?,
        );
        let implement = skill(Some(raw.pipeline.implement))?
            .ok_or_else(|| source.whole("[pipeline] implement is missing", "name a skill"))?;
        let installed = crate::installed::installed(raw.project.installed, source)?;
        let gates = crate::gates::gates(raw.gate, &commands, source)?;
        let resources = crate::resources::resources(raw.resource, &commands, source)?;
        let deploy = raw
            .deploy
            .map(|deploy| crate::deploy::deploy(deploy, source))
            .transpose()?;
        if let (Some(span), None) = (deploy_span, &deploy) {
            return Err(source.error(
                span,
                "a deploy skill needs to know what to start",
                "add a [deploy] section, or take this line out",
            ));
        }
        let models = crate::models::models(raw.models, source)?;
        let idle_ms = crate::models::idle(&raw.budget, source)?;
        let disk_bytes = crate::models::disk(&raw.budget, source)?;
        let budget = crate::models::budget(raw.budget, !models.is_empty(), source)?;
        let at_once = raw
            .at_once
            .map(|table| at_once(table, &models, source))
            .transpose()?
            .unwrap_or_default();
        let env = environment(raw.env, source)?;
        let names = Names {
            commands: &commands,
            env: &env,
            models: &models,
        };
        let grants = crate::grants::grants(raw.grant, &names, source)?;
        Ok(Project {
            branch,
            installed,
            commands,
            triage,
            test,
            plan,
            implement,
            deploy_skill,
            skills: crate::skills::skills(raw.skills, source)?,
            gates,
            models,
            budget,
            idle_ms,
            disk_bytes,
            env,
            deploy,
            grants,
            resources,
            at_once,
        })
    }

    /// What the project gives to a skill.
    pub fn grant_of(&self, skill: &SkillName) -> Option<&ProjectGrant> {
        self.grants.iter().find(|grant| grant.skill == *skill)
    }

    /// What only a person may change, whatever the gates say: this file, and the skills that it names.
    pub fn always_protected(&self) -> Vec<String> {
        let skills = self.skills.values().map(RelPath::to_string);
        std::iter::once(crate::FILE.to_owned())
            .chain(skills)
            .collect()
    }

    /// JSON Schema of the file, for editors.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Raw).to_value()
    }
}

/// A conservative form of `git check-ref-format`.
fn is_branch(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.'))
        && name.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with(['.', '-'])
                && !part.ends_with('.')
                && !part.ends_with(".lock")
        })
        && !name.contains("..")
        && !name.eq_ignore_ascii_case("head")
}

fn commands(
    raw: BTreeMap<String, Spanned<Vec<String>>>,
    source: Source<'_>,
) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let check = |(name, argv): (String, Spanned<Vec<String>>)| {
        let span = argv.span();
        let argv = argv.into_inner();
        if !is_plain_name(&name) {
            return Err(source.error(
                span,
                format!("{name:?} is no command's name"),
                "use letters, digits and hyphens",
            ));
        }
        if !argv.first().is_some_and(|program| is_plain_name(program)) {
            return Err(source.error(
                span,
                format!("command `{name}` begins with a program's plain name"),
                "write [\"cargo\", \"test\"]: no path, no shell",
            ));
        }
        if argv.iter().any(|arg| arg.contains('\0')) {
            return Err(source.error(span, format!("command `{name}` has a NUL"), "take it out"));
        }
        Ok((name, argv))
    };
    raw.into_iter().map(check).collect()
}

fn at_once(
    raw: Spanned<RawAtOnce>,
    models: &BTreeMap<String, String>,
    source: Source<'_>,
) -> Result<AtOnce, ConfigError> {
    let span = raw.span();
    let at_once = raw.into_inner().check(source, span.clone())?;
    match at_once
        .models
        .keys()
        .find(|alias| !models.contains_key(*alias))
    {
        None => Ok(at_once),
        Some(alias) => Err(source.error(
            span,
            format!("[at-once] limits the model alias `{alias}`, but [models] does not have it"),
            "add the alias or take the limit out",
        )),
    }
}

fn environment(
    raw: BTreeMap<String, Spanned<String>>,
    source: Source<'_>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let check = |(name, value): (String, Spanned<String>)| {
        if is_variable(&name) || name == "RUST_BACKTRACE" {
            return Ok((name, value.into_inner()));
        }
        Err(source.error(
            value.span(),
            format!("{name} cannot be set for commands"),
            "use capitals, digits and `_`, and no variable that steers a loader or a tool",
        ))
    };
    raw.into_iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use crate::{Choices, Detected, template};

    fn text() -> String {
        template(&Detected::of_rust(), "main", &Choices::default())
    }

    fn refused(from: &str, to: &str, message: &str) {
        let base = text();
        assert!(base.contains(from), "{from} is not in the template");
        let error = Project::parse(&base.replacen(from, to, 1), "moat.toml").unwrap_err();
        assert!(
            error.to_string().contains(message) && error.line > 0 && !error.mend.is_empty(),
            "{error}"
        );
    }

    #[test]
    fn every_kind_of_mistake_has_its_line_and_mend() {
        refused("branch = \"main\"", "branch = \"../x\"", "no branch's name");
        refused(
            "branch = \"main\"",
            "branch = \"main\"\ncolour = 1",
            "unknown field",
        );
        refused("test = [\"cargo\", ", "test = [\"/bin/sh\", ", "plain name");
        refused(
            "implement = \"search-repair\"",
            "implement = \"Search Repair\"",
            "skill name",
        );
        refused(
            "implement = \"search-repair\"",
            "implement = \"search-repair\"\ndeploy = \"deploy\"",
            "what to start",
        );
        refused(
            "kind = \"command\"",
            "kind = \"commando\"",
            "unknown variant",
        );
        refused("command = \"test\"", "command = \"tset\"", "does not have");
        refused(
            "kind = \"protect\"",
            "kind = \"protect\"\ntimeout = \"1m\"",
            "`paths` only",
        );
        refused("name = \"base-tests\"", "name = \"tests\"", "twice");
        for (own, message) in [
            ("Own = \"tools/own\"", "skill name"),
            ("own = \"../own\"", "folder"),
            ("own = \".\"", "folder"),
            ("own = \"/abs\"", "folder"),
        ] {
            refused("[budget]", &format!("[skills]\n{own}\n[budget]"), message);
        }
        for (table, message) in [
            ("[at-once]\nsteps = 0", "from 1"),
            ("[at-once]\nthreads = 1", "unknown field"),
            ("[at-once]\nskills = { \"A b\" = 1 }", "skill name"),
            (
                "[at-once]\nmodels = { coder = 1 }",
                "[models] does not have it",
            ),
            (
                "[[resource]]\nname = \"A\"\ncount = 1\ncommands = [\"test\"]",
                "no resource",
            ),
            (
                "[[resource]]\nname = \"db\"\ncount = 0\ncommands = [\"test\"]",
                "`count` is from 1",
            ),
            (
                "[[resource]]\nname = \"db\"\ncount = 1\ncommands = []",
                "no command needs",
            ),
            (
                "[[resource]]\nname = \"db\"\ncount = 1\ncommands = [\"tset\"]",
                "does not have it",
            ),
        ] {
            refused("[budget]", &format!("{table}\n[budget]"), message);
        }
        refused(
            "implement = \"search-repair\"",
            "implement = \"search-repair\"\nplan = \"a plan\"",
            "skill name",
        );
        for (paths, message) in [
            ("[\".\"]", "no directory within"),
            ("[\"/venv\"]", "no directory within"),
            ("[\"../venv\"]", "no directory within"),
            ("[\"a\", \"a\"]", "lies within"),
            ("[\"web/node_modules\", \"web\"]", "lies within"),
            (
                "[\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\", \"9\"]",
                "at most 8",
            ),
        ] {
            let line = format!("branch = \"main\"\ninstalled = {paths}");
            refused("branch = \"main\"", &line, message);
        }
        refused("attempts = 3", "attempts = 0", "attempts");
        refused("attempts = 3", "attempts = 3\nidle = \"10\"", "no time");
        refused("attempts = 3", "attempts = 3\nidle = \"0s\"", "1s to 24h");
        refused("attempts = 3", "attempts = 3\nidle = \"25h\"", "1s to 24h");
        refused("attempts = 3", "attempts = 3\ndisk = \"10\"", "GiB");
        refused(
            "attempts = 3",
            "attempts = 3\ndisk = \"1B\"",
            "1MiB to 1024GiB",
        );
        refused(
            "attempts = 3",
            "attempts = 3\ndisk = \"2000GiB\"",
            "1MiB to 1024GiB",
        );
        refused("attempts = 3", "attempts = 3\nmoney = 5", "no [models]");
        refused(
            "[budget]",
            "[models]\ncoder = \"x\"\n[budget]",
            "`tokens` and `money`",
        );
        refused(
            "[budget]",
            "[models]\ncoder = \"a b\"\n[budget]\nmoney = 1\ntokens = 1",
            "plain names",
        );
        refused(
            "[budget]",
            "[models]\ncoder = \"x\"\n[budget]\nmoney = -1\ntokens = 1",
            "`money` is from 0",
        );
        refused(
            "commands = [\"test\"]",
            "commands = [\"test\"]\nmodels = [\"coder\"]",
            "[models] does not have it",
        );
        refused("time = \"30m\"", "time = \"30\"", "no time");
        refused(
            "commands = [\"test\"]",
            "commands = [\"build\"]",
            "does not have it",
        );
        refused("skill = \"test\"", "skill = \"triage\"", "two [[grant]]s");
    }

    #[test]
    fn deploy_probes_loopback_only() {
        let with = |health: &str| {
            let deploy = format!(
                "[deploy]\nstart = [\"python3\"]\nhealth = \"{health}\"\npatience = \"5s\"\nkeep = 2\n"
            );
            Project::parse(&format!("{}\n{deploy}", text()), "moat.toml")
        };
        assert!(with("http://127.0.0.1:8080/health").is_ok());
        for elsewhere in [
            "http://example.com/",
            "https://127.0.0.1/",
            "http://169.254.169.254/",
            "http://localhost/",
            "http://a@127.0.0.1/",
            "file:///etc/passwd",
        ] {
            assert!(with(elsewhere).is_err(), "{elsewhere}");
        }
    }
}
