//! Worktrees by the cheapest means that the machine has, which look and are taken in alike.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use flow::id::TreeId;

use crate::bases::{self, Bases, Part, Stack};
use crate::clone;
use crate::difference::Over;
use crate::error::StoreError;
use crate::import::{ImportError, ImportReport, ImportRules};
use crate::mirror::Mirror;

/// How a worktree is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Means {
    /// Nothing is copied: changes go to a layer over the shared base, once somebody mounts the two.
    Layer,
    /// A copy of the shared base that shares its blocks as well (reflink). A checkout, where the file system has none.
    Clone,
    /// Every file is written.
    Checkout,
}

impl Means {
    /// The cheapest of those that need no mount, for worktrees in a directory like this one, which must be there and is left as it was.
    pub fn of_copies(directory: &Path) -> Means {
        match clone::works_in(directory) {
            true => Means::Clone,
            false => Means::Checkout,
        }
    }
}

/// A worktree: a directory of its own, or a layer over a base that it holds a lease of.
#[derive(Debug)]
pub struct Worktree {
    directory: PathBuf,
    base: Option<Stack>,
}

/// Where the files of a worktree are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files<'a> {
    /// In this directory.
    Directory(&'a Path),
    /// In `lower`, which is shared and must not be changed, and over it in `upper`.
    Layers {
        /// What was written out of the tree, the topmost directory first.
        lower: &'a [PathBuf],
        /// What differs from it; holds nothing at first.
        upper: &'a Path,
    },
}

impl Bases {
    /// Makes a worktree of a part of a tree at a path that does not exist; its parent does. On an error a part may be there.
    ///
    /// # Errors
    /// [`StoreError`].
    #[tracing::instrument(name = "worktree", level = "debug", skip_all)]
    pub fn worktree(
        &self,
        mirror: &Mirror,
        tree: &TreeId,
        part: &Part<'_>,
        directory: &Path,
        means: Means,
    ) -> Result<Worktree, StoreError> {
        let directory = directory.to_path_buf();
        match means {
            Means::Layer => {
                let base = self.stack(mirror, tree, part)?;
                // As the base's own root, which it covers.
                DirBuilder::new()
                    .mode(0o755)
                    .create(&directory)
                    .map_err(|e| StoreError::io("create", &directory, e))?;
                Ok(Worktree {
                    directory,
                    base: Some(base),
                })
            }
            Means::Clone => {
                let base = self.lease(mirror, tree, part)?;
                if !clone::clone_tree(base.path(), &directory)? {
                    return checkout(mirror, tree, part, directory);
                }
                Ok(Worktree {
                    directory,
                    base: None,
                })
            }
            Means::Checkout => checkout(mirror, tree, part, directory),
        }
    }
}

impl Bases {
    /// As [`Bases::worktree`], of a whole tree that differs little from another: the base is the other's, so that only what differs is
    /// written. It is [`like`](Worktree::import) that it was made of.
    ///
    /// # Errors
    /// [`StoreError`].
    #[tracing::instrument(name = "worktree", level = "debug", skip_all)]
    pub fn worktree_like(
        &self,
        mirror: &Mirror,
        tree: &TreeId,
        like: &TreeId,
        directory: &Path,
        means: Means,
    ) -> Result<Worktree, StoreError> {
        if means == Means::Checkout {
            return checkout(mirror, tree, &Part::ALL, directory.to_path_buf());
        }
        let worktree = self.worktree(mirror, like, &Part::ALL, directory, means)?;
        let over = match worktree.files() {
            Files::Directory(_) => Over::Within,
            Files::Layers { .. } => Over::Beneath,
        };
        bases::warn(&mirror.write_difference(like, tree, Part::ALL.keep, directory, over)?);
        Ok(worktree)
    }
}

fn checkout(
    mirror: &Mirror,
    tree: &TreeId,
    part: &Part<'_>,
    directory: PathBuf,
) -> Result<Worktree, StoreError> {
    bases::warn(&mirror.materialise(tree, &directory, part.keep)?);
    Ok(Worktree {
        directory,
        base: None,
    })
}

impl Worktree {
    /// Where its files are.
    pub fn files(&self) -> Files<'_> {
        match &self.base {
            None => Files::Directory(&self.directory),
            Some(base) => Files::Layers {
                lower: base.layers(),
                upper: &self.directory,
            },
        }
    }

    /// Whether there is a file or directory at a path of plain names. A symbolic link on the way, or there, counts for none.
    pub fn has(&self, path: &Path) -> bool {
        match self.files() {
            Files::Directory(root) => show([root], path),
            Files::Layers { lower, upper } => {
                let lower = lower.iter().map(PathBuf::as_path);
                show(std::iter::once(upper).chain(lower), path)
            }
        }
    }

    /// Takes in what was made of it; `base` is the tree that it was made of.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn import(
        &self,
        mirror: &Mirror,
        base: &TreeId,
        rules: &ImportRules<'_>,
    ) -> Result<ImportReport, ImportError> {
        match self.files() {
            Files::Directory(root) => mirror.import(root, base, rules),
            Files::Layers { upper, .. } => mirror.import_layer(upper, base, rules),
        }
    }
}

/// Whether directories, the topmost first, show a file or directory at a path of plain names where they lie over each other.
pub fn show<'a>(layers: impl IntoIterator<Item = &'a Path>, path: &Path) -> bool {
    let mut said = layers.into_iter().map(|layer| look(layer, path));
    let first = said.find(|said| !matches!(said, Look::NotHere));
    matches!(first, Some(Look::There))
}

/// What one directory says about a path.
enum Look {
    There,
    /// It has nothing to say: a layer below may have it.
    NotHere,
    /// It says that there is none.
    Hidden,
}

fn look(root: &Path, path: &Path) -> Look {
    let mut at = root.to_path_buf();
    let mut hides = false;
    for component in path.components() {
        let Component::Normal(name) = component else {
            return Look::Hidden;
        };
        at.push(name);
        match fs::symlink_metadata(&at) {
            // A whiteout, or something that covers whatever is below.
            Ok(data) if data.file_type().is_char_device() && data.rdev() == 0 => {
                return Look::Hidden;
            }
            Ok(data) if data.is_symlink() => return Look::Hidden,
            Ok(data) if data.is_dir() => hides |= is_opaque(&at),
            Ok(_) => hides = true,
            Err(_) if hides => return Look::Hidden,
            Err(_) => return Look::NotHere,
        }
    }
    Look::There
}

fn is_opaque(directory: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(directory, "user.overlay.opaque", &mut value).is_ok()
}
