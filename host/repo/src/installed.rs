//! What a project's own tools installed inside a worktree, beside what the repository holds.

use std::path::{Path, PathBuf};

use flow::id::TreeId;

use crate::error::StoreError;
use crate::mirror::Mirror;
use crate::tree::EntryKind;
use crate::worktree::show;

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
        let mut found = Vec::new();
        for path in paths {
            // Shown is what no symbolic link leads to.
            let is_there = show([directory], path) && directory.join(path).is_dir();
            if is_there && self.is_beside(base, path)? {
                found.push(path.clone());
            }
        }
        Ok(found)
    }

    /// Whether a tree has the directory that a path is in, and not the path.
    fn is_beside(&self, tree: &TreeId, path: &Path) -> Result<bool, StoreError> {
        let kind = |path: &Path| -> Result<Option<EntryKind>, StoreError> {
            let entry = self.entry(tree, &path.to_string_lossy())?;
            Ok(entry.map(|(kind, _)| kind))
        };
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let has_parent = match parent {
            None => true,
            Some(parent) => kind(parent)? == Some(EntryKind::Directory),
        };
        Ok(has_parent && kind(path)?.is_none())
    }
}
