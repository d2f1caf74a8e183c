//! What a project's own tools installed inside a worktree, beside what the repository holds.

use std::fs;
use std::path::{Path, PathBuf};

use flow::id::TreeId;
use git2::Oid;

use crate::error::{Doing, StoreError};
use crate::mirror::Mirror;
use crate::objects;
use crate::tree;

impl Mirror {
    /// Those of `paths` that are directories in a worktree of `base`, or in a layer over one, of which the base has nothing, but the directory that
    /// they are in.
    ///
    /// # Errors
    /// [`StoreError`] when the base cannot be read.
    pub fn installed(
        &self,
        directory: &Path,
        base: &TreeId,
        paths: &[PathBuf],
    ) -> Result<Vec<PathBuf>, StoreError> {
        let base = objects::oid(base.as_str())?;
        let mut found = Vec::new();
        for path in paths {
            if self.is_beside(base, path)? && is_directory(directory, path) {
                found.push(path.clone());
            }
        }
        Ok(found)
    }

    /// Whether a tree has the directory that a path is in, and not the path.
    fn is_beside(&self, tree: Oid, path: &Path) -> Result<bool, StoreError> {
        let repo = self.repository()?;
        let odb = repo.odb().doing("open the objects")?;
        let (mut within, mut names) = (Some(tree), path.iter().peekable());
        while let Some(name) = names.next() {
            let Some(directory) = within else {
                return Ok(false);
            };
            let items = tree::read(&odb, directory)?;
            let item = items
                .into_iter()
                .find(|item| item.name == name.as_encoded_bytes());
            if names.peek().is_none() {
                return Ok(item.is_none());
            }
            within = tree::subtree(&item);
        }
        Ok(false)
    }
}

/// Whether it is one, and no symbolic link on the way.
fn is_directory(root: &Path, path: &Path) -> bool {
    let mut at = root.to_owned();
    path.iter().all(|name| {
        at.push(name);
        fs::symlink_metadata(&at).is_ok_and(|data| data.is_dir())
    })
}
