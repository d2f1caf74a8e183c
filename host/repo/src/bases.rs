//! Base directories: what runs see of a tree is written out once for the whole machine, on a [`Shelf`], and shared by all their worktrees.
//!
//! ```text
//!   <tree>-<part>/tree           all of it
//!   <tree>+<other>-<part>/tree   what differs from another tree, as a layer over that one's: a branch moves by little with each commit
//! ```
//!
//! No file of one is a file of another as well: how many names a file has, and when that changed, is seen in every view.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flow::id::TreeId;

use crate::difference::Over;
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
pub(crate) const FILE_BYTES: u64 = 4096;

/// A layer is at most this part of what it lies over. Layers grow as a branch moves on, and at some time all of it is written out again: with much
/// larger ones more is written of layers than is saved.
const LAYER_SHARE: u64 = 64;

/// How many bases are looked at for one that differs little.
const LIKE_MAX: usize = 4;

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
    lease: Lease,
}

/// Base directories in use that show, one over the other, a part of a tree.
#[derive(Debug)]
pub struct Stack {
    layers: Vec<PathBuf>,
    _leases: Vec<Lease>,
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
        self.make(&part.key(tree)?, |directory| {
            mirror.materialise(tree, directory, part.keep)
        })
    }

    /// The same for who can lay one directory over another: where a base of the part is there that differs little, only the difference is written.
    ///
    /// # Errors
    /// [`StoreError`].
    #[tracing::instrument(name = "base", level = "debug", skip_all)]
    pub fn stack(
        &self,
        mirror: &Mirror,
        tree: &TreeId,
        part: &Part<'_>,
    ) -> Result<Stack, StoreError> {
        let key = part.key(tree)?;
        if let Some(lease) = self.shelf.find(&key)? {
            return Ok(Base::of(lease).into());
        }
        match self.layer(mirror, tree, part) {
            Ok(Some(stack)) => return Ok(stack),
            Ok(None) => {}
            // All of it may be written still.
            Err(error) => tracing::debug!(%error, "there is no layer"),
        }
        Ok(self.lease(mirror, tree, part)?.into())
    }

    /// A layer, and what it lies over, if one is there or can be made.
    fn layer(
        &self,
        mirror: &Mirror,
        tree: &TreeId,
        part: &Part<'_>,
    ) -> Result<Option<Stack>, StoreError> {
        for (below, layer) in self.layers(tree, part)? {
            // Held before it is relied on: it may have gone.
            if let Some(below) = self.shelf.find(&below)?
                && let Some(layer) = self.shelf.find(&layer)?
            {
                return Ok(Some(Base::of(layer).over(Base::of(below))));
            }
        }
        let like = self.whole(part)?.into_iter().filter(|like| like != tree);
        // Those of other repositories are on the same shelf.
        let like = like.filter(|like| mirror.has_tree(like));
        for like in like.take(LIKE_MAX) {
            let below = part.key(&like)?;
            let Some(bytes) = self.shelf.bytes(&below)? else {
                continue;
            };
            if !mirror.differs_little(&like, tree, part.keep, bytes / LAYER_SHARE)? {
                continue;
            }
            if let Some(below_lease) = self.shelf.find(&below)? {
                let layer = self.make(&format!("{tree}+{below}"), |directory| {
                    fs::create_dir(directory)
                        .map_err(|e| StoreError::io("create", directory, e))?;
                    mirror.write_difference(&like, tree, part.keep, directory, Over::Beneath)
                })?;
                return Ok(Some(layer.over(Base::of(below_lease))));
            }
        }
        Ok(None)
    }

    fn make(
        &self,
        key: &str,
        write: impl Fn(&Path) -> Result<Materialised, StoreError>,
    ) -> Result<Base, StoreError> {
        let mut tried = false;
        let lease = self.shelf.lease(key, |directory| {
            tried = true;
            let written = write(&directory.join("tree"))?;
            warn(&written);
            Ok(written.bytes + FILE_BYTES * written.files)
        });
        // Also one that failed: what is there of it takes room, and it may be that there was none.
        if tried {
            self.grown.store(true, Ordering::Relaxed);
        }
        Ok(Base::of(lease?))
    }

    /// The layers that show a part of a tree: the name of what each lies over, and its own.
    fn layers(&self, tree: &TreeId, part: &Part<'_>) -> Result<Vec<(String, String)>, StoreError> {
        let (start, end) = (format!("{tree}+"), format!("-{}", part.name));
        let below = |name: &str| {
            let below = name.strip_prefix(&start)?;
            let tree = below.strip_suffix(&end)?.parse::<TreeId>();
            tree.is_ok().then(|| below.to_owned())
        };
        let found = self.shelf.found(|name| below(name).is_some())?;
        let names = found.into_iter().map(|one| one.name);
        Ok(names
            .filter_map(|name| Some((below(&name)?, name)))
            .collect())
    }

    /// The trees of which all of a part is written out, or was to be, what was used last first.
    fn whole(&self, part: &Part<'_>) -> Result<Vec<TreeId>, StoreError> {
        let end = format!("-{}", part.name);
        let tree = |name: &str| name.strip_suffix(&end)?.parse::<TreeId>().ok();
        let mut found = self.shelf.found(|name| tree(name).is_some())?;
        found.sort_by_key(|one| std::cmp::Reverse(one.used));
        Ok(found.iter().filter_map(|one| tree(&one.name)).collect())
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
            lease,
        }
    }

    fn over(self, below: Base) -> Stack {
        // After the layer: it must not go before what is nothing without it.
        below.lease.note_use();
        Stack {
            layers: vec![self.tree, below.tree],
            _leases: vec![self.lease, below.lease],
        }
    }

    /// The directory that holds its files. It must not be changed.
    pub fn path(&self) -> &Path {
        &self.tree
    }
}

impl Stack {
    /// The directories, the topmost first: what an overlay of them shows. They must not be changed.
    pub fn layers(&self) -> &[PathBuf] {
        &self.layers
    }
}

impl From<Base> for Stack {
    fn from(base: Base) -> Stack {
        Stack {
            layers: vec![base.tree],
            _leases: vec![base.lease],
        }
    }
}

pub(crate) fn warn(written: &Materialised) {
    for skipped in &written.skipped {
        tracing::warn!(path = skipped.path, reason = %skipped.reason, "left out of the worktree");
    }
}
