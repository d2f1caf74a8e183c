//! Base directories: what runs see of a tree is written out once for the whole machine, as `<tree>-<part>/tree` on a [`Shelf`], and shared by all
//! their worktrees. No file of one is a file of another as well: how many names a file has, and when that changed, is seen in every view.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flow::id::TreeId;

use crate::error::StoreError;
use crate::materialise::Materialised;
use crate::mirror::Mirror;
use crate::shelf::{Keep, Lease, Shelf, Swept};
use crate::tree::EntryKind;

/// Which part of a tree is written out.
pub struct Part<'a> {
    /// Names what `keep` does, the same for the same answers: lower-case letters, digits and `-`, at most 100.
    pub name: &'a str,
    /// Asked for every path, directories first; what it refuses is left out, a directory with all below it.
    pub keep: &'a dyn Fn(&str, EntryKind) -> bool,
}

impl Part<'_> {
    /// All of it.
    pub const ALL: Part<'static> = Part {
        name: "all",
        keep: &|_, _| true,
    };
}

/// What a file takes of a disk beside its content: the rest of its last block, its inode, its name. Files of projects are small, and it is most of
/// what they take.
const FILE_BYTES: u64 = 4096;

/// The base directories of one machine.
#[derive(Debug, Clone)]
pub struct Bases {
    shelf: Shelf,
    grown: Arc<AtomicBool>,
}

/// A base directory in use: as long as this lives, nobody removes it.
#[derive(Debug)]
pub struct Base {
    tree: PathBuf,
    _lease: Lease,
}

impl Bases {
    /// The bases in a directory, which is made when the first one is.
    pub fn at(root: &Path) -> Bases {
        Bases {
            shelf: Shelf::at(root, |base| fs::remove_dir_all(base)),
            grown: Arc::default(),
        }
    }

    /// Where they are.
    pub fn root(&self) -> &Path {
        self.shelf.root()
    }

    /// The base of a part of a tree; written out now, if it is not there.
    ///
    /// Who asks while another process writes it waits for that.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of it is taken for whole then.
    #[tracing::instrument(name = "base", level = "debug", skip_all)]
    pub fn lease(
        &self,
        mirror: &Mirror,
        tree: &TreeId,
        part: &Part<'_>,
    ) -> Result<Base, StoreError> {
        let mut tried = false;
        let lease = self.shelf.lease(&part.key(tree)?, |directory| {
            tried = true;
            let written = mirror.materialise(tree, &directory.join("tree"), part.keep)?;
            warn(&written);
            Ok(written.bytes + FILE_BYTES * written.files)
        });
        // Also one that failed: what is there of it takes room, and it may be that there was none.
        if tried {
            self.grown.store(true, Ordering::Relaxed);
        }
        Ok(Base::of(lease?))
    }

    /// Whether one was written, or tried, since this was last asked: a reason to look whether there are too many.
    pub fn have_grown(&self) -> bool {
        self.grown.swap(false, Ordering::Relaxed)
    }

    /// Removes bases that nobody uses and that are too many. One in use stays, whatever its age.
    ///
    /// # Errors
    /// [`StoreError`] at the first that cannot be removed.
    pub fn sweep(&self, keep: Keep) -> Result<Swept, StoreError> {
        self.shelf.sweep(keep)
    }
}

impl Part<'_> {
    fn key(&self, tree: &TreeId) -> Result<String, StoreError> {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.name.is_empty() || self.name.len() > 100 || !self.name.bytes().all(valid) {
            return Err(StoreError::PartName {
                name: self.name.chars().take(80).collect(),
            });
        }
        Ok(format!("{tree}-{}", self.name))
    }
}

impl Base {
    fn of(lease: Lease) -> Base {
        Base {
            tree: lease.directory().join("tree"),
            _lease: lease,
        }
    }

    /// The directory that holds its files. It must not be changed.
    pub fn path(&self) -> &Path {
        &self.tree
    }
}

pub(crate) fn warn(written: &Materialised) {
    for skipped in &written.skipped {
        tracing::warn!(path = skipped.path, reason = %skipped.reason, "left out of the worktree");
    }
}
