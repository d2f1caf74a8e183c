//! A step's view: the part of a tree that its grant holds, as a worktree by the machine's means, and thrown away afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use capability::{Grant, RelPath};
use confine::Tree;
use flow::id::{Digest, TreeId};
use repo::{EntryKind, Files, ImportReport, ImportRules, Mirror, Part, StoreError, Worktree};

use crate::house::private_dir;
use crate::scratch::Scratch;

/// Whose rules name a part: what is seen, and what is written of it, another moat may decide otherwise.
const RULE: &str = env!("CARGO_PKG_VERSION");

/// The files of one step, with a scratch directory. Dropping it removes both.
#[derive(Debug)]
pub struct View {
    // Before the worktree: its base is let go of when nothing lies over it any more.
    disposable: Disposable,
    scratch: Arc<Scratch>,
    worktree: Worktree,
}

/// A directory that is removed when this is dropped.
#[derive(Debug)]
struct Disposable(PathBuf);

/// Why a view could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The directory.
    #[error("{path} cannot be made: {error}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The tree.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The machine's owner asked for layers alone.
    #[error(
        "MOAT_WORKTREES asks for layers, which do not work in the state directory: {why} ({mend})"
    )]
    NoLayers {
        /// What the system said.
        why: String,
        /// What to do about it.
        mend: String,
    },
}

impl View {
    /// Has a worktree made in a fresh directory below `parent`.
    pub(crate) fn make(
        parent: &Path,
        worktree: impl FnOnce(&Path) -> Result<Worktree, StoreError>,
    ) -> Result<View, ViewError> {
        let mut random = [0u8; 6];
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| ViewError::Directory { path, error }
        };
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| failed(parent)(errno.into()))?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let disposable = Disposable(parent.join(name));
        let directory = &disposable.0;
        for part in ["scratch", "work"] {
            private_dir(&directory.join(part)).map_err(failed(directory))?;
        }
        let worktree = worktree(&directory.join("tree"))?;
        // After the worktree: what that takes was left by no command.
        let scratch = Arc::new(Scratch::at(&directory.join("scratch")));
        Ok(View {
            disposable,
            scratch,
            worktree,
        })
    }

    /// What is seen.
    pub fn tree(&self) -> Tree {
        match self.worktree.files() {
            Files::Directory(directory) => Tree::Directory(directory.to_owned()),
            Files::Layers { lower, upper } => Tree::Layers {
                lower: lower.to_vec(),
                upper: upper.to_owned(),
                work: self.disposable.0.join("work"),
            },
        }
    }

    /// For what commands leave beside it.
    pub fn scratch(&self) -> Arc<Scratch> {
        self.scratch.clone()
    }

    /// What of it the grant lets be changed, as far as it is there: what is not cannot be mounted, and is made by writing to the directory above it.
    pub fn writable(&self, grant: &Grant) -> Vec<RelPath> {
        let is_there = |path: &RelPath| path.is_root() || self.worktree.has(path.as_str().as_ref());
        grant.writable().into_iter().filter(is_there).collect()
    }

    /// Imports what was made of it; what the grant hides or does not let change stays as in the base.
    ///
    /// # Errors
    /// [`repo::ImportError`].
    pub fn import(
        &self,
        mirror: &Mirror,
        base: &TreeId,
        grant: &Grant,
    ) -> Result<ImportReport, repo::ImportError> {
        let parsed = |path: &str| path.parse::<RelPath>().ok();
        let withheld = |path: &str| parsed(path).is_some_and(|path| grant.may_read(&path).is_err());
        let writable = |path: &str| parsed(path).is_some_and(|path| grant.may_write(&path).is_ok());
        self.worktree.import(
            mirror,
            base,
            &ImportRules {
                withheld: &withheld,
                writable: &writable,
                ..ImportRules::default()
            },
        )
    }
}

/// A directory on the way to something granted is seen as well, or the granted thing could not be.
fn visible(grant: &Grant, path: &str, kind: EntryKind) -> bool {
    let Ok(path) = path.parse::<RelPath>() else {
        return false;
    };
    grant.may_read(&path).is_ok() || (kind == EntryKind::Directory && grant.leads_to(&path))
}

/// The part of a tree that a grant lets its skill see. It is named by what decides that, so that grants that let see the same share it.
pub(crate) fn part<T>(grant: &Grant, with: impl FnOnce(&Part<'_>) -> T) -> T {
    let paths: Vec<&str> = grant.readable().map(RelPath::as_str).collect();
    let rule = serde_json::json!([RULE, paths, grant.hidden().patterns()]);
    let name = Digest::of(rule.to_string().as_bytes());
    with(&Part {
        name: &name.as_str().replace(':', "-"),
        keep: &|path, kind| visible(grant, path, kind),
    })
}

impl Drop for Disposable {
    #[tracing::instrument(name = "remove", level = "debug", skip_all)]
    fn drop(&mut self) {
        if let Err(error) = confine::remove_tree(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "a view could not be removed; it is swept at the next start");
        }
    }
}
