//! Opening a run: everything that it will need is looked up and pinned before its first event, or it is not opened.

use std::path::Path;

use capability::{ConfigError, Denial, Grant};
use flow::Event;
use flow::id::{Digest, InvalidId, Role, RunId, SkillName};
use flow::pipeline::{Check, Deploy, Gate, Pipeline, Skill};
use flow::role::Report;
use flow::verdict::Base;
use journal::JournalError;
use project::{GateKind, GateSpec, Project};
use repo::{Mirror, Source, SourceError, StoreError};

use crate::clock::now_ms;
use crate::context::DriveError;
use crate::house::House;
use crate::ledger::Ledger;

/// A run that exists now.
#[derive(Debug)]
pub struct Opened {
    /// Its id.
    pub run: RunId,
    /// What skills declare and do not get, for people.
    pub withheld: Vec<(SkillName, Denial)>,
}

/// Why no run was opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The repository.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The mirror.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `moat.toml` is not on the branch.
    #[error("branch {branch} has no moat.toml: run `moat init`, look at it, and commit it")]
    NoProject {
        /// The branch.
        branch: String,
    },
    /// `moat.toml` is wrong.
    #[error(transparent)]
    Project(#[from] ConfigError),
    /// `moat.toml` names another branch as protected.
    #[error(
        "moat.toml on branch {here} says that {named} is the protected branch: check it out, or correct the file"
    )]
    OtherBranch {
        /// Where the file was read.
        here: String,
        /// What it says.
        named: String,
    },
    /// A skill is not at hand.
    #[error("there is no skill `{name}`: `moat skill list` shows them; [pipeline] {role} names it")]
    NoSkill {
        /// Its name.
        name: SkillName,
        /// Where it is named.
        role: Role,
    },
    /// A skill plays another role.
    #[error("skill `{name}` has the role {is}, but [pipeline] names it as {wanted}")]
    WrongRole {
        /// Its name.
        name: SkillName,
        /// Its role.
        is: Role,
        /// The wanted one.
        wanted: Role,
    },
    /// A command's program is not on this machine.
    #[error("command `{command}` needs `{program}`, which is not on this machine's PATH")]
    NoProgram {
        /// The command.
        command: String,
        /// The program.
        program: String,
    },
    /// An alias stands for a model that this machine does not have.
    #[error(
        "[models] {alias} = \"{model}\": {file} has no [model.{model}]{known}; docs/models.md says how to add one"
    )]
    NoModel {
        /// The alias.
        alias: String,
        /// The model.
        model: String,
        /// The machine's file.
        file: String,
        /// What there is instead, for people.
        known: String,
    },
    /// A name in the file is none.
    #[error(transparent)]
    Name(#[from] InvalidId),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The first event.
    #[error(transparent)]
    Drive(#[from] Box<DriveError>),
}

/// Opens a run of a repository for a report.
///
/// # Errors
/// [`OpenError`]: nothing was opened.
pub fn open(house: &House, repository: &Path, report: Report) -> Result<Opened, OpenError> {
    let source = Source::open(repository)?;
    let branch = source.current_branch()?;
    let inspection = source.inspect(&branch)?;
    let path = source.path().display().to_string();
    let mirror = Mirror::open_or_create(&house.mirror_dir(&path))?;
    mirror.fetch_commit(&source, &inspection.tip)?;
    let base = Base {
        tree: mirror.tree_of(&inspection.tip)?,
        commit: inspection.tip,
    };
    let text = mirror
        .read(&base.tree, project::FILE, 1 << 20)?
        .ok_or_else(|| OpenError::NoProject {
            branch: branch.clone(),
        })?;
    let project = Project::parse(&String::from_utf8_lossy(&text), project::FILE)?;
    if project.branch != branch {
        return Err(OpenError::OtherBranch {
            here: branch,
            named: project.branch,
        });
    }
    for (command, argv) in &project.commands {
        let program = argv.first().cloned().unwrap_or_default();
        if house.tools.resolve(&program).is_err() {
            return Err(OpenError::NoProgram {
                command: command.clone(),
                program,
            });
        }
    }
    check_models(house, &project)?;
    let mut pinning = Pinning {
        house,
        project: &project,
        withheld: Vec::new(),
    };
    let pipeline = pinning.pipeline()?;
    let run = fresh_id()?;
    let opened = flow::event::Opened {
        run: run.clone(),
        repository: path,
        report,
        base: base.clone(),
        pipeline,
        project: house.journal.put_blob(&text)?,
    };
    mirror.keep(&run, "base", base.commit)?;
    Ledger::begin(&house.journal, &run, &Event::Opened(Box::new(opened))).map_err(Box::new)?;
    Ok(Opened {
        run,
        withheld: pinning.withheld,
    })
}

fn check_models(house: &House, project: &Project) -> Result<(), OpenError> {
    for (alias, model) in &project.models {
        if house.models.find(model).is_none() {
            let known: Vec<&str> = house.models.names().collect();
            return Err(OpenError::NoModel {
                alias: alias.clone(),
                model: model.clone(),
                file: house.root().join(model::FILE).display().to_string(),
                known: match known.as_slice() {
                    [] => String::new(),
                    names => format!(" (it has {})", names.join(", ")),
                },
            });
        }
    }
    Ok(())
}

/// Sortable by time, and not to be guessed twice.
fn fresh_id() -> Result<RunId, InvalidId> {
    let mut random = [0u8; 2];
    // Without randomness two runs of one millisecond would collide, and the journal would refuse the second.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    format!("r{:x}-{:02x}{:02x}", now_ms(), random[0], random[1]).parse()
}

struct Pinning<'a> {
    house: &'a House,
    project: &'a Project,
    withheld: Vec<(SkillName, Denial)>,
}

impl Pinning<'_> {
    fn pipeline(&mut self) -> Result<Pipeline, OpenError> {
        let project = self.project;
        let triage = project
            .triage
            .as_ref()
            .map(|name| self.skill(name, Role::Triage))
            .transpose()?;
        let test = project
            .test
            .as_ref()
            .map(|name| self.skill(name, Role::Test))
            .transpose()?;
        let implement = self.skill(&project.implement, Role::Implement)?;
        let deploy = match (&project.deploy_skill, &project.deploy) {
            (Some(name), Some(deploy)) => Some(Deploy {
                skill: self.skill(name, Role::Deploy)?,
                patience_ms: deploy.patience_ms,
            }),
            _ => None,
        };
        Ok(Pipeline {
            branch: project.branch.clone(),
            triage,
            test,
            implement,
            deploy,
            gates: pinned_gates(project),
            budget: project.budget,
        })
    }

    fn skill(&mut self, name: &SkillName, wanted: Role) -> Result<Skill, OpenError> {
        let package = self
            .house
            .catalog
            .find(name)
            .ok_or_else(|| OpenError::NoSkill {
                name: name.clone(),
                role: wanted,
            })?;
        if package.manifest.role != wanted {
            return Err(OpenError::WrongRole {
                name: name.clone(),
                is: package.manifest.role,
                wanted,
            });
        }
        let grant = Grant::compute(
            &package.manifest,
            self.project.grant_of(name),
            &self.house.policy,
        );
        self.withheld.extend(
            grant
                .withheld()
                .iter()
                .map(|denial| (name.clone(), denial.clone())),
        );
        let digest = self.house.journal.put_blob(&package.component)?;
        Ok(Skill {
            name: name.clone(),
            digest,
            grant: grant.digest(),
        })
    }
}

/// The gates of a project, pinned as a run pins them.
pub fn pinned_gates(project: &Project) -> Vec<Gate> {
    project
        .gates
        .iter()
        .map(|gate| pinned_gate(gate, project))
        .collect()
}

/// The gate with everything that decides its verdict: commands by their arguments, not by their names alone.
fn pinned_gate(spec: &GateSpec, project: &Project) -> Gate {
    let argv = |command: &String| project.commands.get(command).cloned().unwrap_or_default();
    let check = match &spec.kind {
        GateKind::Command {
            command,
            timeout_ms,
        } => Check::Command {
            name: command.clone(),
            argv: argv(command),
            timeout_ms: *timeout_ms,
        },
        GateKind::BaseTests {
            command,
            timeout_ms,
            paths,
        } => Check::BaseTests {
            name: command.clone(),
            argv: argv(command),
            timeout_ms: *timeout_ms,
            paths: paths.clone(),
        },
        GateKind::Protect { paths } => {
            let mut paths = paths.clone();
            paths.push(project::FILE.to_owned());
            paths.sort();
            paths.dedup();
            Check::Protect { paths }
        }
    };
    let definition = serde_json::to_vec(&(&check, &project.env)).unwrap_or_default();
    Gate {
        name: spec.name.clone(),
        digest: Digest::of(&definition),
        check,
        assumes: spec.assumes.clone(),
    }
}
