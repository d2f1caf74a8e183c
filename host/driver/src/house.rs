//! What moat has on this machine: its state directory, journal, sandbox, tools, catalog and policy.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use audit::{Trail, TrailError};
use capability::{ConfigError, LeastConfinement, Policy};
use catalog::{Catalog, PackageError};
use confine::{Launcher, Level, Toolchains};
use egress::store::{self, Stores};
use egress::{Clamps, EgressError, Outbound, Setup, SystemResolver};
use flow::id::{Digest, RunId};
use journal::{Journal, JournalError};
use model::{Backoff, Models};
use sandbox::{LoadError, Sandbox, SandboxConfig};

use crate::approvals::Approvals;
use crate::builds::Builds;
use crate::known::Known;
use crate::lease::{self, Keeper};
use crate::owner::OwnerPrograms;
use crate::scheduler::Scheduler;
use crate::views::{self, Views, Worktrees};

/// Opened once a process.
#[derive(Debug)]
pub struct House {
    root: PathBuf,
    swept: Once,
    // Before the journal, which its thread uses.
    pub(crate) keeper: Keeper,
    /// The log of runs.
    pub journal: Journal,
    /// Who was allowed and refused what.
    pub trail: Arc<Trail>,
    /// Calls skills.
    pub sandbox: Sandbox,
    /// Starts confined programs.
    pub launcher: Launcher,
    /// The machine's compilers and interpreters.
    pub tools: Toolchains,
    /// Skills at hand.
    pub catalog: Catalog,
    /// The ceiling for all of them.
    pub policy: Policy,
    policy_text: String,
    /// Models of this machine's `models.toml`.
    pub models: Arc<Models>,
    /// Secrets of this machine's `secrets.toml`.
    pub secrets: Arc<Stores>,
    /// The way out for what skills ask for.
    pub outbound: Outbound,
    /// How views of trees are made here.
    pub views: Views,
    /// What was built of bases.
    pub(crate) builds: Builds,
    pub(crate) scheduler: Scheduler,
}

/// Why the house cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum HouseError {
    /// The state directory.
    #[error(
        "the state directory {path} cannot be used: {error}; set MOAT_HOME to a directory that you can write"
    )]
    State {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The organisation's policy, or the machine's models or secrets.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The audit trail.
    #[error(transparent)]
    Trail(#[from] TrailError),
    /// A bundled skill.
    #[error(transparent)]
    Catalog(#[from] PackageError),
    /// The way out.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The cache of compiled skills.
    #[error(transparent)]
    Sandbox(#[from] LoadError),
}

impl House {
    /// Opens the house at a state directory. `program` is this very program, which becomes launcher and worker.
    ///
    /// # Errors
    /// [`HouseError`]. An unreadable file stops everything: policy never falls back to the built-in one.
    pub fn open(root: &Path, program: &Path) -> Result<House, HouseError> {
        let state = |error| HouseError::State {
            path: root.to_owned(),
            error,
        };
        private_dir(root).map_err(state)?;
        let root = root.canonicalize().map_err(state)?;
        let (policy, policy_text) = match config_text(&root, "policy.toml")? {
            Some((text, path)) => (Policy::parse(&text, &path)?, text),
            None => (Policy::builtin()?, Policy::BUILTIN_TEXT.to_owned()),
        };
        let launcher = Launcher::new(program).accepting(match policy.least_confinement {
            LeastConfinement::Full => Level::Full,
            LeastConfinement::Namespaces => Level::Namespaces,
        });
        let config = SandboxConfig {
            launcher: launcher.clone(),
            worker_program: program.to_owned(),
            cache_dir: root.join("compiled"),
        };
        let models = match config_text(&root, model::FILE)? {
            Some((text, path)) => model::Config::parse(&text, &path)?,
            None => model::Config::default(),
        };
        let models = Arc::new(Models::new(models, Backoff::STANDARD));
        let secrets = store::Config::load(&root.join(store::FILE))?.unwrap_or_default();
        let secrets = Arc::new(Stores::new(secrets, Arc::new(OwnerPrograms)));
        let authorities = policy.authorities.as_deref().map(Path::new);
        let authorities = authorities.map(authority_file).transpose()?;
        let outbound = Outbound::new(Setup {
            resolver: Arc::new(SystemResolver),
            authorities,
            secrets: Arc::new(Known {
                stores: secrets.clone(),
                models: models.clone(),
            }),
            clamps: Clamps::default(),
        })?;
        let journal = Journal::open(&root)?;
        Ok(House {
            keeper: Keeper::new(journal.clone(), lease::LENGTH),
            scheduler: Scheduler::new(root.join("slots"), &policy.at_once, journal.clone()),
            journal,
            trail: Arc::new(Trail::open(&root.join("audit"))?),
            sandbox: Sandbox::new(config)?,
            views: Views::new(&root, launcher.clone(), Worktrees::default()),
            builds: Builds::at(&root.join("builds")),
            launcher,
            tools: Toolchains::discover(&|name| std::env::var_os(name)),
            catalog: Catalog::bundled()?,
            policy_text,
            models,
            secrets,
            outbound,
            policy,
            root,
            swept: Once::new(),
        })
    }

    /// Takes away what processes left that were killed, once for as long as this one lives.
    pub(crate) fn sweep(&self) {
        self.swept.call_once(|| {
            crate::drive::sweep_ended(self);
            self.builds.sweep(views::keep(&self.root));
        });
    }

    /// Lets other moats take a run of this one over after so long without a sign of life, instead of 30 s.
    pub fn leasing(mut self, length: Duration) -> House {
        self.keeper = Keeper::new(self.journal.clone(), length);
        self
    }

    /// Makes views in one way, instead of by the cheapest means that works.
    pub fn with_worktrees(mut self, asked: Worktrees) -> House {
        self.views = self.views.asking(asked);
        self
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The text that the policy was read from.
    pub fn policy_text(&self) -> &str {
        &self.policy_text
    }

    /// Which versions of skills may be used.
    pub fn approvals(&self) -> Approvals {
        Approvals::at(self.root.join("approvals"))
    }

    /// The mirror of a repository.
    pub fn mirror_dir(&self, repository: &str) -> PathBuf {
        mirror_dir(&self.root, repository)
    }

    /// The releases of a repository.
    pub fn releases_dir(&self, repository: &str) -> PathBuf {
        self.root
            .join("repositories")
            .join(key(repository))
            .join("releases")
    }

    /// For skills' accounts of what they do outside.
    pub(crate) fn accounts_dir(&self) -> PathBuf {
        self.root.join("effects")
    }

    /// Disposable things of a run.
    pub fn run_dir(&self, run: &RunId) -> PathBuf {
        self.root.join("runs").join(run.as_str())
    }
}

/// The mirror of a repository in a state directory.
pub fn mirror_dir(root: &Path, repository: &str) -> PathBuf {
    root.join("repositories")
        .join(key(repository))
        .join("mirror.git")
}

/// The text of a file of the state directory with its path, if it is there.
fn config_text(root: &Path, name: &str) -> Result<Option<(String, String)>, HouseError> {
    let path = root.join(name);
    let text = store::owners_text(&path)?;
    Ok(text.map(|text| (text, path.display().to_string())))
}

/// A policy that names authorities means them: without the file nothing starts.
fn authority_file(path: &Path) -> Result<Vec<u8>, HouseError> {
    std::fs::read(path).map_err(|error| HouseError::State {
        path: path.to_owned(),
        error,
    })
}

/// A repository's directory name: its path is not one.
pub(crate) fn key(repository: &str) -> String {
    Digest::of(repository.as_bytes()).short().to_owned()
}

/// Makes a directory that only its owner can enter.
pub(crate) fn private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}
