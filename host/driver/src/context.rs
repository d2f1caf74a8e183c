//! What every step of one run needs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use capability::{ConfigError, Grant};
use catalog::{Package, PackageError};
use flow::id::SkillName;
use flow::{Illegal, Recorded};
use journal::JournalError;
use project::Project;
use repo::{Mirror, Source, SourceError, StoreError};

use crate::house::House;
use crate::ledger::Ledger;

/// Hears what happens, to tell people. It decides nothing.
pub trait Watcher: Send + Sync {
    /// An event was recorded.
    fn event(&self, recorded: &Recorded);
    /// A skill said something; untrusted, one short line.
    fn note(&self, text: &str);
}

/// Why a run cannot be driven at all; its state is as it was.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal holds what cannot be.
    #[error("the journal of this run was written by something else: {0}")]
    Illegal(#[from] Illegal),
    /// An event that this moat does not know.
    #[error(
        "event {number} of this run is unknown to this moat: use the version that wrote it ({error})"
    )]
    Unknown {
        /// Its number.
        number: u64,
        /// What the parser says.
        error: serde_json::Error,
    },
    /// No such run.
    #[error("there is no run {run}: `moat runs` lists them")]
    NoSuchRun {
        /// What was asked for.
        run: String,
    },
    /// The audit trail: what it cannot record is not done.
    #[error(transparent)]
    Trail(#[from] audit::TrailError),
    /// The repository.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The mirror.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run's own `moat.toml`.
    #[error(transparent)]
    Project(#[from] ConfigError),
    /// A skill of the run.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Something that the run was opened with is not there.
    #[error("this run needs {what}, which is gone: cancel it and open a new one")]
    Gone {
        /// What.
        what: String,
    },
    /// The grant is another one than when the run was opened.
    #[error(
        "what skill {skill} may do has changed since this run was opened (the policy did): cancel it and open a new one"
    )]
    GrantChanged {
        /// The skill.
        skill: SkillName,
    },
    /// A person's word that does not fit.
    #[error("{0}")]
    NotNow(String),
}

/// One run with all that it is bound to.
pub(crate) struct Context {
    pub(crate) house: Arc<House>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) source: Source,
    pub(crate) mirror: Mirror,
    pub(crate) project: Arc<Project>,
    pub(crate) skills: BTreeMap<SkillName, (Package, Arc<Grant>)>,
    pub(crate) watcher: Arc<dyn Watcher>,
}

impl Context {
    /// Gathers what the run's first event names, all of it by digest.
    pub(crate) fn of(
        house: Arc<House>,
        ledger: Ledger,
        watcher: Arc<dyn Watcher>,
    ) -> Result<Context, DriveError> {
        let opened = ledger.run().opened.clone();
        let source = Source::open(&PathBuf::from(&opened.repository))?;
        let mirror = Mirror::open_or_create(&house.mirror_dir(&opened.repository))?;
        let gone = |what: &str| DriveError::Gone {
            what: what.to_owned(),
        };
        let text = house
            .journal
            .get_blob(&opened.project)?
            .ok_or_else(|| gone("its moat.toml"))?;
        let project = Project::parse(&String::from_utf8_lossy(&text), project::FILE)?;
        let mut skills = BTreeMap::new();
        for skill in opened.pipeline.skills() {
            let component = house
                .journal
                .get_blob(&skill.digest)?
                .ok_or_else(|| gone(&format!("skill {}", skill.name)))?;
            let package = Package::from_component(&component)?;
            let grant = Grant::compute(
                &package.manifest,
                project.grant_of(&skill.name),
                &house.policy,
            );
            if grant.digest() != skill.grant {
                return Err(DriveError::GrantChanged {
                    skill: skill.name.clone(),
                });
            }
            skills.insert(skill.name.clone(), (package, Arc::new(grant)));
        }
        Ok(Context {
            house,
            ledger: Arc::new(ledger),
            source,
            mirror,
            project: Arc::new(project),
            skills,
            watcher,
        })
    }
}
