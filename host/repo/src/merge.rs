//! Three-way merges of trees, in memory, that read only what differs.
//!
//! Decided so that the same two commits always merge the same way:
//! - renames are not followed: a file moved on one side and edited on the other is a conflict, for a person or another
//!   attempt to solve, never a guess;
//! - attributes choose no merge driver; binary files do not merge;
//! - after criss-cross merges (several best common ancestors) libgit2's recursive merge decides, renames off as well.

use std::collections::HashMap;

use flow::id::{CommitId, TreeId};
use git2::{MergeFileInput, MergeFileOptions, MergeOptions, ObjectType, Odb, Oid, Repository};

use crate::error::{Doing, StoreError};
use crate::mirror::Mirror;
use crate::names;
use crate::objects;
use crate::tree::{self, Bounds, EntryKind, Item, MODE_TREE};

/// Larger files do not merge by lines.
const FILE_BYTES_MAX: usize = 16 << 20;

/// git looks this far for the NUL that makes a file binary.
const BINARY_LOOK_BYTES: usize = 8_000;

/// How two commits merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeOutcome {
    /// `ours` holds `theirs` already.
    UpToDate,
    /// `theirs` follows from `ours`: its tree as it is.
    FastForward {
        /// The tree of `theirs`.
        tree: TreeId,
    },
    /// Both sides changed different things.
    Clean {
        /// The merged tree.
        tree: TreeId,
    },
    /// Both sides changed the same things.
    Conflict {
        /// Where, in the order of paths.
        conflicts: Vec<Conflict>,
    },
    /// They have no common ancestor.
    Unrelated,
}

/// A path that does not merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The path, escaped.
    pub path: String,
    /// Why.
    pub kind: ConflictKind,
}

/// Why a path does not merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ConflictKind {
    /// The same or neighbouring lines.
    #[error("both sides changed the same lines")]
    Content,
    /// Binary or very large files, symlinks, submodules.
    #[error("both sides changed it, and it does not merge by lines")]
    NotText,
    /// Added on both sides, with different content.
    #[error("both sides added it, differently")]
    BothAdded,
    /// Removed on one side, changed on the other.
    #[error("one side removed it, the other changed it")]
    ChangedAndRemoved,
    /// A file on one side, a directory on the other.
    #[error("it is a file on one side and a directory on the other")]
    FileAndDirectory,
    /// The sides added names that differ only in case.
    #[error("the sides have names here that differ only in upper and lower case")]
    CaseCollision,
    /// A conflict after a criss-cross merge.
    #[error("both sides changed it")]
    CrissCross,
}

impl Mirror {
    /// Merges `theirs` into `ours`; writes objects, moves nothing.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn merge(&self, ours: &CommitId, theirs: &CommitId) -> Result<MergeOutcome, StoreError> {
        let repo = self.repository()?;
        let (ours, theirs) = (objects::oid(ours.as_str())?, objects::oid(theirs.as_str())?);
        let (our_tree, their_tree) = (
            objects::tree_of(&repo, ours)?,
            objects::tree_of(&repo, theirs)?,
        );
        let bases = match repo.merge_bases(ours, theirs) {
            Ok(bases) => bases.to_vec(),
            Err(e) if e.code() == git2::ErrorCode::NotFound => return Ok(MergeOutcome::Unrelated),
            Err(source) => {
                return Err(StoreError::Git {
                    doing: "find the common ancestor",
                    source,
                });
            }
        };
        match bases.as_slice() {
            [] => Ok(MergeOutcome::Unrelated),
            [base] if *base == theirs => Ok(MergeOutcome::UpToDate),
            [base] if *base == ours => Ok(MergeOutcome::FastForward {
                tree: objects::tree_id(their_tree)?,
            }),
            [base] => {
                self.merge_trees(&repo, objects::tree_of(&repo, *base)?, our_tree, their_tree)
            }
            _ => self.merge_criss_cross(&repo, ours, theirs),
        }
    }

    fn merge_trees(
        &self,
        repo: &Repository,
        base: Oid,
        ours: Oid,
        theirs: Oid,
    ) -> Result<MergeOutcome, StoreError> {
        let odb = repo.odb().doing("open the objects")?;
        let mut merge = Merge {
            odb: &odb,
            conflicts: Vec::new(),
            written: Vec::new(),
            bounds: Bounds::new(ours),
        };
        let items = merge.directory([Some(base), Some(ours), Some(theirs)], &[], 0)?;
        if !merge.conflicts.is_empty() {
            let mut conflicts = merge.conflicts;
            conflicts.sort_by(|a, b| a.path.cmp(&b.path));
            return Ok(MergeOutcome::Conflict { conflicts });
        }
        let id = merge.write(
            ObjectType::Tree,
            &tree::serialise(&mut items.unwrap_or_default()),
        )?;
        objects::flush(&self.objects_dir(), &merge.written)?;
        Ok(MergeOutcome::Clean {
            tree: objects::tree_id(id)?,
        })
    }

    fn merge_criss_cross(
        &self,
        repo: &Repository,
        ours: Oid,
        theirs: Oid,
    ) -> Result<MergeOutcome, StoreError> {
        let (ours, theirs) = (
            objects::find_commit(repo, ours)?,
            objects::find_commit(repo, theirs)?,
        );
        let mut options = MergeOptions::new();
        options.find_renames(false);
        let mut index = repo
            .merge_commits(&ours, &theirs, Some(&options))
            .doing("merge two commits")?;
        if index.has_conflicts() {
            let mut conflicts = Vec::new();
            for conflict in index.conflicts().doing("list the conflicts")? {
                let conflict = conflict.doing("list the conflicts")?;
                let side = conflict.our.or(conflict.their).or(conflict.ancestor);
                let path = side.map(|s| names::escape(&s.path)).unwrap_or_default();
                conflicts.push(Conflict {
                    path,
                    kind: ConflictKind::CrissCross,
                });
            }
            return Ok(MergeOutcome::Conflict { conflicts });
        }
        let id = index.write_tree_to(repo).doing("write the merged tree")?;
        let directory = std::fs::File::open(self.objects_dir())
            .map_err(|e| StoreError::io("open", &self.objects_dir(), e))?;
        rustix::fs::syncfs(&directory)
            .map_err(|e| StoreError::io("write through", &self.objects_dir(), e))?;
        Ok(MergeOutcome::Clean {
            tree: objects::tree_id(id)?,
        })
    }
}

struct Merge<'a> {
    odb: &'a Odb<'a>,
    conflicts: Vec<Conflict>,
    written: Vec<Oid>,
    bounds: Bounds,
}

impl Merge<'_> {
    /// The entries of a merged directory; `None` when no side has it.
    fn directory(
        &mut self,
        sides: [Option<Oid>; 3],
        path: &[u8],
        depth: usize,
    ) -> Result<Option<Vec<Item>>, StoreError> {
        if sides.iter().all(Option::is_none) {
            return Ok(None);
        }
        let pairs = tree::pair(self.odb, sides)?;
        self.bounds.enter(pairs.len(), depth)?;
        let mut result = Vec::with_capacity(pairs.len());
        let mut names = Vec::new();
        for (name, [base, ours, theirs]) in pairs {
            let present = [ours.is_some(), theirs.is_some()];
            let before = result.len();
            self.entry(path, name.clone(), [base, ours, theirs], depth, &mut result)?;
            if result.len() > before {
                names.push((name, present));
            }
        }
        self.case_collisions(path, &names);
        Ok(Some(result))
    }

    fn entry(
        &mut self,
        directory: &[u8],
        name: Vec<u8>,
        [base, ours, theirs]: [Option<Item>; 3],
        depth: usize,
        result: &mut Vec<Item>,
    ) -> Result<(), StoreError> {
        if let Some(decided) = decide(&base, &ours, &theirs) {
            result.extend(decided.clone());
            return Ok(());
        }
        let path = if directory.is_empty() {
            name.clone()
        } else {
            [directory, b"/", &name].concat()
        };
        let trees = [
            tree::subtree(&base),
            tree::subtree(&ours),
            tree::subtree(&theirs),
        ];
        let below = self
            .directory(trees, &path, depth + 1)?
            .filter(|items| !items.is_empty());
        let [base, ours, theirs] = [base, ours, theirs].map(|i| i.filter(|i| !i.is_tree()));
        let leaf = self.leaf(&path, &name, base, ours, theirs)?;
        match (leaf, below) {
            (Some(_), Some(_)) => self.conflict(&path, ConflictKind::FileAndDirectory),
            (Some(leaf), None) => result.push(leaf),
            (None, Some(mut items)) => {
                let id = self.write(ObjectType::Tree, &tree::serialise(&mut items))?;
                result.push(Item {
                    mode: MODE_TREE,
                    name,
                    id,
                });
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        path: &[u8],
        name: &[u8],
        base: Option<Item>,
        ours: Option<Item>,
        theirs: Option<Item>,
    ) -> Result<Option<Item>, StoreError> {
        if let Some(decided) = decide(&base, &ours, &theirs) {
            return Ok(decided.clone());
        }
        let is_file = |item: &Item| matches!(item.kind(), EntryKind::File { .. });
        match (base, ours, theirs) {
            (Some(base), Some(ours), Some(theirs))
                if [&base, &ours, &theirs].into_iter().all(is_file) =>
            {
                let mode = if ours.mode == base.mode {
                    theirs.mode
                } else {
                    ours.mode
                };
                let id = match decide(&base.id, &ours.id, &theirs.id) {
                    Some(id) => *id,
                    None => match self.content(path, base.id, ours.id, theirs.id)? {
                        Some(id) => id,
                        None => return Ok(None),
                    },
                };
                return Ok(Some(Item {
                    mode,
                    name: name.to_vec(),
                    id,
                }));
            }
            (Some(_), Some(_), Some(_)) => self.conflict(path, ConflictKind::NotText),
            (None, Some(_), Some(_)) => self.conflict(path, ConflictKind::BothAdded),
            _ => self.conflict(path, ConflictKind::ChangedAndRemoved),
        }
        Ok(None)
    }

    fn content(
        &mut self,
        path: &[u8],
        base: Oid,
        ours: Oid,
        theirs: Oid,
    ) -> Result<Option<Oid>, StoreError> {
        let read = |id| objects::read(self.odb, id, ObjectType::Blob, "file");
        let (base, ours, theirs) = (read(base)?, read(ours)?, read(theirs)?);
        let merges = |bytes: &[u8]| {
            bytes.len() <= FILE_BYTES_MAX && !bytes.iter().take(BINARY_LOOK_BYTES).any(|b| *b == 0)
        };
        if ![base.data(), ours.data(), theirs.data()]
            .into_iter()
            .all(merges)
        {
            self.conflict(path, ConflictKind::NotText);
            return Ok(None);
        }
        let (mut old, mut our, mut their) = (
            MergeFileInput::new(),
            MergeFileInput::new(),
            MergeFileInput::new(),
        );
        old.content(base.data());
        our.content(ours.data());
        their.content(theirs.data());
        let merged = git2::merge_file(&old, &our, &their, Some(&mut MergeFileOptions::new()))
            .doing("merge two files")?;
        if !merged.is_automergeable() {
            self.conflict(path, ConflictKind::Content);
            return Ok(None);
        }
        self.write(ObjectType::Blob, merged.content()).map(Some)
    }

    /// Names that come from different sides and that one directory cannot hold on every system.
    fn case_collisions(&mut self, directory: &[u8], names: &[(Vec<u8>, [bool; 2])]) {
        let mut seen: HashMap<String, [bool; 2]> = HashMap::with_capacity(names.len());
        for (name, present) in names {
            let Ok(text) = std::str::from_utf8(name) else {
                continue;
            };
            if let Some(other) = seen.insert(names::fold(text), *present) {
                // One side has both already: then it is that side's own matter.
                let together = (0..2)
                    .any(|side| other.get(side) == Some(&true) && present.get(side) == Some(&true));
                if !together {
                    let path = if directory.is_empty() {
                        name.clone()
                    } else {
                        [directory, b"/", name].concat()
                    };
                    self.conflict(&path, ConflictKind::CaseCollision);
                }
            }
        }
    }

    fn write(&mut self, kind: ObjectType, data: &[u8]) -> Result<Oid, StoreError> {
        let id = self.odb.write(kind, data).doing("write a merged object")?;
        self.written.push(id);
        Ok(id)
    }

    fn conflict(&mut self, path: &[u8], kind: ConflictKind) {
        self.conflicts.push(Conflict {
            path: names::escape(path),
            kind,
        });
    }
}

/// What three sides come to when at most one of the two differs from the base.
fn decide<'a, T: PartialEq>(base: &T, ours: &'a T, theirs: &'a T) -> Option<&'a T> {
    if ours == theirs || theirs == base {
        Some(ours)
    } else if ours == base {
        Some(theirs)
    } else {
        None
    }
}
