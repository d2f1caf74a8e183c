//! What every step of one run needs.

use std::path::PathBuf;
use std::sync::Arc;

use capability::{ConfigError, Grant};
use catalog::PackageError;
use flow::grant::Blocked;
use flow::id::{SkillName, TaskId, TreeId};
use flow::{Illegal, Recorded};
use journal::JournalError;
use project::Project;
use repo::{Kept, Mirror, Source, SourceError, StoreError};

use crate::builds::BuildKey;
use crate::grants::{self, Granted};
use crate::house::House;
use crate::ledger::Ledger;
use crate::scheduler::{Party, SlotError, Turn};

/// Hears what happens, to tell people. It decides nothing.
pub trait Watcher: Send + Sync {
    /// An event was recorded.
    fn event(&self, recorded: &Recorded);
    /// A skill said something; untrusted, one short line.
    fn note(&self, text: &str);
    /// Who hears what happens to the run of a task.
    fn of_task(&self, task: &TaskId) -> Arc<dyn Watcher>;
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
    /// The record of the step under way.
    #[error(
        "what is recorded of the step under way of run {run} cannot be read ({why}): cancel the run and open a new one"
    )]
    Unreadable {
        /// The run.
        run: String,
        /// What is wrong.
        why: String,
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
    /// What counts how much is done at the same time.
    #[error(transparent)]
    Slots(#[from] SlotError),
    /// A skill of the run.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Something that the run was opened with is not there.
    #[error("this run needs {what}, which is gone: cancel it and open a new one")]
    Gone {
        /// What.
        what: String,
    },
    /// The grant that was pinned cannot be computed any more: the run is of an older moat.
    #[error(
        "what skill {skill} was granted when this run was opened cannot be told any more, because moat and the policy have changed since: cancel it and open a new one"
    )]
    GrantChanged {
        /// The skill.
        skill: SkillName,
    },
    /// The grant that the run waits for is not given.
    #[error("{}", still_blocked(.0))]
    StillBlocked(Box<Blocked>),
    /// A person's word that does not fit.
    #[error("{0}")]
    NotNow(String),
}

fn still_blocked(blocked: &Blocked) -> String {
    let mut text = format!(
        "the run goes on once skill {} may have what it lacks; still missing on the protected branch and in the policy:",
        blocked.skill
    );
    for need in &blocked.needs {
        text.push_str(&format!("\n  {}: it would need {}", need.what, need.line));
    }
    if blocked.needs.iter().any(|need| !need.declared) {
        text.push_str(
            "\nWhat its skill.toml does not declare no grant can give: mend the skill, cancel this run and open a new one",
        );
    }
    text
}

/// One run with all that it is bound to.
pub(crate) struct Context {
    pub(crate) house: Arc<House>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) source: Source,
    pub(crate) mirror: Mirror,
    pub(crate) project: Arc<Project>,
    pub(crate) skills: Granted,
    pub(crate) watcher: Arc<dyn Watcher>,
    /// What it needs for the step under way.
    pub(crate) turn: Turn,
}

impl Context {
    /// On whose account it does things.
    pub(crate) fn party(&self) -> Party {
        Party::of(&self.ledger.run())
    }

    /// Gathers what the run's first event names, all of it by digest.
    pub(crate) fn of(
        house: Arc<House>,
        ledger: Arc<Ledger>,
        skills: Granted,
        watcher: Arc<dyn Watcher>,
    ) -> Result<Context, DriveError> {
        let opened = ledger.run().opened.clone();
        let source = Source::open(&PathBuf::from(&opened.repository))?;
        let mirror = Mirror::open_or_create(&house.mirror_dir(&opened.repository))?;
        // A mirror that was lost is made again from the repository, as far as that has what was in it.
        if mirror.tree_of(&opened.base.commit).is_err() {
            mirror.fetch_commit(&source, &opened.base.commit)?;
            mirror.keep(&opened.run, "base", opened.base.commit.clone())?;
        }
        let project = grants::kept_project(&house, &opened.project)?;
        Ok(Context {
            house,
            ledger,
            source,
            mirror,
            project: Arc::new(project),
            skills,
            watcher,
            turn: Turn::default(),
        })
    }

    /// What is built of a tree as far as a grant shows it.
    pub(crate) fn build(&self, tree: &TreeId, grant: &Grant) -> BuildKey {
        BuildKey::of(
            &self.ledger.run().opened.repository,
            tree,
            grant,
            &self.project,
            &self.house.tools,
        )
    }

    /// What `[project] installed` names.
    pub(crate) fn installed(&self) -> Vec<PathBuf> {
        let paths = self.project.installed.iter();
        paths.map(|path| path.as_str().into()).collect()
    }

    /// For the run's views.
    pub(crate) fn directory(&self) -> PathBuf {
        self.ledger.directory(&self.house)
    }

    /// Keeps an object of the run in the mirror under a name, if this moat has the run still.
    pub(crate) fn keep(&self, name: &str, what: impl Into<Kept>) -> Result<(), DriveError> {
        let _effect = self.ledger.effect()?;
        let run = self.ledger.run().opened.run;
        Ok(self.mirror.keep(&run, name, what)?)
    }
}
