//! How this machine makes views: tried once a process, by the cheapest means that works in the state directory.
//!
//! ```text
//!   bases/       what is shared of trees, by whom it is used: see `repo::Bases`
//!   trials/<n>   while a layer is tried, and <n>.lock, held meanwhile
//! ```

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use capability::Grant;
use confine::{Found, Launcher};
use flow::id::TreeId;
use repo::{Bases, Keep, Means, Mirror, Worktree};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::sync::OnceCell;

use crate::house::private_dir;
use crate::view::{self, View, ViewError};

/// A base, or what was built of it, that nobody used for so long is not there for tomorrow's runs any more.
const IDLE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// What there is of them beyond so many bytes goes, what was longest not used first; on a small disk beyond [`SHARE`] of it.
const BYTES_MAX: u64 = 16 << 30;

/// Which part of the disk they may take.
const SHARE: u64 = 10;

/// How the machine's owner wants views made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Worktrees {
    /// By the cheapest means that works.
    #[default]
    Cheapest,
    /// As layers over shared bases; where that does not work, no view is made.
    Layers,
    /// As copies: those that share blocks with their base where the file system has such, plain ones elsewhere.
    Copies,
}

/// What came of the trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// How views are made.
    pub means: Means,
    /// Why not more cheaply; nothing where there is no cheaper means, or none was asked for.
    pub why: Option<String>,
}

/// Makes the views of one state directory.
#[derive(Debug)]
pub struct Views {
    root: PathBuf,
    bases: Bases,
    launcher: Launcher,
    asked: Worktrees,
    chosen: OnceCell<Chosen>,
}

impl Views {
    pub(crate) fn new(root: &Path, launcher: Launcher, asked: Worktrees) -> Views {
        Views {
            root: root.to_owned(),
            bases: Bases::at(&root.join("bases")),
            launcher,
            asked,
            chosen: OnceCell::new(),
        }
    }

    pub(crate) fn asking(self, asked: Worktrees) -> Views {
        Views { asked, ..self }
    }

    /// How views are made here.
    ///
    /// # Errors
    /// [`ViewError`] when the machine has not what was asked for, or the state directory cannot be written.
    pub async fn chosen(&self) -> Result<&Chosen, ViewError> {
        self.chosen
            .get_or_try_init(|| async {
                self.sweep();
                self.choose().await
            })
            .await
    }

    async fn choose(&self) -> Result<Chosen, ViewError> {
        let mut why = None;
        if self.asked != Worktrees::Copies {
            let trial = Trial::begin(&self.root.join("trials"))?;
            match confine::probe_layers(&self.launcher, &trial.directory).await {
                Found::Works(_) => {
                    return Ok(Chosen {
                        means: Means::Layer,
                        why,
                    });
                }
                Found::Missing { why, mend } if self.asked == Worktrees::Layers => {
                    return Err(ViewError::NoLayers { why, mend });
                }
                Found::Missing { why: said, .. } => why = Some(said),
            }
        }
        let trial = Trial::begin(&self.root.join("trials"))?;
        let means = Means::of_copies(&trial.directory);
        Ok(Chosen { means, why })
    }

    /// What a grant lets its skill see of a tree, in a fresh directory below `parent`.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn of_grant(
        &self,
        parent: &Path,
        mirror: &Mirror,
        tree: &TreeId,
        grant: &Grant,
    ) -> Result<View, ViewError> {
        let means = self.chosen().await?.means;
        let made = View::make(parent, |directory| {
            view::part(grant, |part| {
                (self.bases).worktree(mirror, tree, part, directory, means)
            })
        });
        self.sweep_what_is_new();
        made
    }

    /// A whole tree that differs little from another, in a fresh directory below `parent`.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn of_tree(
        &self,
        parent: &Path,
        mirror: &Mirror,
        tree: &TreeId,
        like: &TreeId,
    ) -> Result<View, ViewError> {
        let means = self.chosen().await?.means;
        let made = View::make(parent, |directory| -> Result<Worktree, _> {
            (self.bases).worktree_like(mirror, tree, like, directory, means)
        });
        self.sweep_what_is_new();
        made
    }

    /// A branch that moves while one process goes on and on leaves a base behind with each commit.
    fn sweep_what_is_new(&self) {
        if self.bases.have_grown() {
            self.sweep();
        }
    }

    /// Removes bases that are not worth their place; none that is in use.
    pub(crate) fn sweep(&self) {
        if let Err(error) = self.bases.sweep(keep(&self.root)) {
            tracing::warn!(%error, "bases that nobody uses are left");
        }
    }
}

/// What is kept beside the runs of a state directory, of each kind.
pub(crate) fn keep(root: &Path) -> Keep {
    let disk = rustix::fs::statvfs(root).map_or(u64::MAX, |disk| {
        disk.f_blocks.saturating_mul(disk.f_frsize) / SHARE
    });
    Keep {
        idle_max: IDLE_MAX,
        bytes_max: BYTES_MAX.min(disk),
    }
}

/// A directory to try something in. What a killed moat left in it is removed first.
struct Trial {
    directory: PathBuf,
    /// The kernel lets go of it with its process.
    _lock: File,
}

impl Trial {
    fn begin(parent: &Path) -> Result<Trial, ViewError> {
        let failed = |error| ViewError::Directory {
            path: parent.to_owned(),
            error,
        };
        private_dir(parent).map_err(failed)?;
        for number in 0u32.. {
            let directory = parent.join(number.to_string());
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(directory.with_extension("lock"))
                .map_err(failed)?;
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    confine::remove_tree(&directory)
                        .and_then(|()| private_dir(&directory))
                        .map_err(failed)?;
                    return Ok(Trial {
                        directory,
                        _lock: lock,
                    });
                }
                // Somebody tries something now.
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        Err(failed(io::ErrorKind::ResourceBusy.into()))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Err(error) = confine::remove_tree(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "what was tried is left");
        }
    }
}
