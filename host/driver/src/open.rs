//! Opening a run: everything that it will need is looked up and pinned before its first event, or it is not opened.

use std::collections::BTreeSet;
use std::path::Path;

use capability::denial::Capability;
use capability::manifest::{Manifest, ProcessRequest, Runnable};
use capability::{ConfigError, Denial, Grant};
use catalog::{Package, PackageError};
use flow::Event;
use flow::id::{Digest, GateName, InvalidId, Role, RunId, SkillName};
use flow::pipeline::{Check, Deploy, Gate, Pipeline, Skill};
use flow::role::Report;
use flow::verdict::Base;
use journal::JournalError;
use project::{GateKind, GateSpec, Project};
use repo::{Mirror, Source, SourceError, StoreError};

use crate::approvals::{ApprovalError, Scope};
use crate::branch::{own_skills, protected};
use crate::clock::now_ms;
use crate::context::DriveError;
use crate::grants;
use crate::house::House;
use crate::ledger::Ledger;

/// A run that exists now.
#[derive(Debug)]
pub struct Opened {
    /// Its id.
    pub run: RunId,
    /// What skills declare and do not get, for people.
    pub withheld: Vec<(SkillName, Denial)>,
    /// Files that are git-lfs pointers on the branch, for people: the first of them.
    pub lfs_pointers: Vec<String>,
}

/// Why no run was opened. Nothing was changed, but what a killed moat had left half done of a move of the branch may be finished.
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
    /// A skill of the project's own has the name of a bundled one.
    #[error("[skills] {name}: a skill of this name comes with moat; give yours another")]
    NameTaken {
        /// The name.
        name: SkillName,
    },
    /// A skill of the project's own is not on the branch.
    #[error("[skills] {name}: the branch has no {path}; build the skill and commit both files")]
    NoOwnSkill {
        /// The skill.
        name: SkillName,
        /// The missing file.
        path: String,
    },
    /// A skill of the project's own calls itself otherwise.
    #[error("[skills] {name}: {file} says that its name is {is}")]
    OtherName {
        /// The name in `moat.toml`.
        name: SkillName,
        /// Its own.
        is: SkillName,
        /// Where it says so.
        file: String,
    },
    /// A skill of the project's own is none.
    #[error(transparent)]
    Package(#[from] PackageError),
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
    /// A skill asks for more than the version before it, and nobody has approved that.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
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
    house.sweep();
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
    let project = protected(&text, branch)?;
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
        own: own_skills(house, &project, &mirror, &base.tree)?,
        withheld: Vec::new(),
        pinned: BTreeSet::new(),
    };
    let pipeline = pinning.pipeline()?;
    pinning.admit(&path)?;
    let run = fresh_id()?;
    let opened = flow::event::Opened {
        run: run.clone(),
        repository: path,
        report,
        base: base.clone(),
        pipeline,
        project: house.journal.put_blob(&text)?,
        policy: Some(grants::pinned_policy(house).map_err(Box::new)?),
        child: None,
    };
    // The base is kept when the run is driven: what is kept for a run that is never opened would stay for ever.
    Ledger::begin(house, &run, &Event::Opened(Box::new(opened))).map_err(Box::new)?;
    Ok(Opened {
        run,
        withheld: pinning.withheld,
        lfs_pointers: inspection.lfs_pointers,
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
    own: Vec<Package>,
    withheld: Vec<(SkillName, Denial)>,
    pinned: BTreeSet<SkillName>,
}

impl Pinning<'_> {
    /// Lets the versions of the pipeline's skills in, all or none.
    fn admit(&self, repository: &str) -> Result<(), ApprovalError> {
        let own = (self.own.iter()).map(|one| (Scope::Repository(repository.to_owned()), one));
        let bundled = (self.house.catalog.list().iter()).map(|one| (Scope::Machine, one));
        let wanted: Vec<_> = own
            .chain(bundled)
            .filter(|(_, package)| self.pinned.contains(&package.manifest.name))
            .collect();
        self.house.approvals().admit(&wanted)
    }

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
        let plan = project
            .plan
            .as_ref()
            .map(|name| self.skill(name, Role::Plan))
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
            plan,
            implement,
            deploy,
            gates: pinned_gates(project),
            budget: project.budget,
        })
    }

    fn skill(&mut self, name: &SkillName, wanted: Role) -> Result<Skill, OpenError> {
        let own = self.own.iter().find(|own| own.manifest.name == *name);
        let package = own
            .or_else(|| self.house.catalog.find(name))
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
                .filter(|denial| !is_no_command_here(self.project, &package.manifest, denial))
                .map(|denial| (name.clone(), denial.clone())),
        );
        let digest = self.house.journal.put_blob(&package.component)?;
        self.pinned.insert(name.clone());
        Ok(Skill {
            name: name.clone(),
            digest,
            grant: grants::keep(self.house, &grant)?,
        })
    }
}

/// A command that a skill would use where a project has it is not missed where the project has none.
pub(crate) fn is_no_command_here(project: &Project, manifest: &Manifest, denial: &Denial) -> bool {
    let names_it = |request: &ProcessRequest| matches!(&request.what, Runnable::Project { name, .. } if *name == denial.what);
    denial.capability == Capability::Processes
        && manifest.processes.iter().any(names_it)
        && !project.commands.contains_key(&denial.what)
}

/// The gates of a project, pinned as a run pins them: one of kind `protect` is always among them.
pub fn pinned_gates(project: &Project) -> Vec<Gate> {
    let mut gates: Vec<Gate> = project
        .gates
        .iter()
        .map(|gate| pinned_gate(gate, project))
        .collect();
    let protects = |gate: &Gate| matches!(gate.check, Check::Protect { .. });
    if !gates.iter().any(protects)
        && let Some(name) = free_name(&gates)
    {
        let spec = GateSpec {
            name,
            kind: GateKind::Protect { paths: vec![] },
            assumes: Some("an agent may change the rules that it is held to".into()),
        };
        gates.insert(0, pinned_gate(&spec, project));
    }
    gates
}

/// A name for the gate that a project did not write; one of the first few is free.
fn free_name(gates: &[Gate]) -> Option<GateName> {
    let names = std::iter::once("protect".to_owned()).chain((2..).map(|n| format!("protect-{n}")));
    names
        .take(gates.len() + 1)
        .filter_map(|name| name.parse::<GateName>().ok())
        .find(|name| gates.iter().all(|gate| gate.name != *name))
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
            paths.extend(project.always_protected());
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
