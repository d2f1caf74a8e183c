//! A step's view: the part of a tree that its grant holds, written out as a plain directory, and thrown away afterwards.

use std::path::{Path, PathBuf};

use capability::{Grant, RelPath};
use flow::id::TreeId;
use repo::{EntryKind, ImportReport, ImportRules, Mirror, StoreError};

use crate::house::private_dir;

/// A directory for one step. Dropping it removes it.
#[derive(Debug)]
pub struct View {
    directory: PathBuf,
}

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
}

impl View {
    /// Writes what `keep` lets through of a tree into a fresh directory below `parent`.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn of_tree(
        parent: &Path,
        mirror: &Mirror,
        tree: &TreeId,
        keep: &dyn Fn(&str, EntryKind) -> bool,
    ) -> Result<View, ViewError> {
        let mut random = [0u8; 6];
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| ViewError::Directory { path, error }
        };
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| failed(parent)(errno.into()))?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let directory = parent.join(name);
        private_dir(&directory.join("scratch")).map_err(failed(&directory))?;
        let view = View { directory };
        let written = mirror.materialise(tree, &view.root(), keep)?;
        for skipped in &written.skipped {
            tracing::warn!(path = skipped.path, reason = %skipped.reason, "left out of the view");
        }
        Ok(view)
    }

    /// The part of a tree that a grant lets the skill see.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn of_grant(
        parent: &Path,
        mirror: &Mirror,
        tree: &TreeId,
        grant: &Grant,
    ) -> Result<View, ViewError> {
        View::of_tree(parent, mirror, tree, &|path, kind| {
            visible(grant, path, kind)
        })
    }

    /// What is seen as the root.
    pub fn root(&self) -> PathBuf {
        self.directory.join("tree")
    }

    /// For build outputs and caches of this step.
    pub fn scratch(&self) -> PathBuf {
        self.directory.join("scratch")
    }

    /// What of it the grant lets be changed, as far as it is there: what is not cannot be mounted, and is made by writing to the directory above it.
    pub fn writable(&self, grant: &Grant) -> Vec<RelPath> {
        let is_there = |path: &RelPath| path.is_root() || self.root().join(path.as_str()).exists();
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
        mirror.import(
            &self.root(),
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

impl Drop for View {
    #[tracing::instrument(name = "remove", level = "debug", skip_all)]
    fn drop(&mut self) {
        if let Err(error) = confine::remove_tree(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "a view could not be removed; it is swept at the next start");
        }
    }
}
