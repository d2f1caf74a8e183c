//! Objects: ids, bounded reads, copies from one repository into another, and writing through to the disk.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use flow::id::{CommitId, TreeId};
use git2::{ObjectType, Odb, OdbLookupFlags, OdbObject, Oid, Repository, Sort};

use crate::error::{Doing, StoreError};
use crate::packs;
use crate::tree::{self, Bounds};

/// Beyond this many new objects one flush of the whole file system is cheaper than one for each.
const FLUSH_SINGLY_MAX: usize = 64;

/// git follows alternates to this depth.
const ALTERNATES_DEPTH_MAX: usize = 5;

/// libgit2's id for one of ours.
pub(crate) fn oid(text: &str) -> Result<Oid, StoreError> {
    Oid::from_str(text).doing("read an object id")
}

pub(crate) fn commit_id(id: Oid) -> Result<CommitId, StoreError> {
    CommitId::try_from(id.to_string()).map_err(|_| StoreError::Missing {
        kind: "SHA-1 commit",
        id: id.to_string(),
    })
}

pub(crate) fn tree_id(id: Oid) -> Result<TreeId, StoreError> {
    TreeId::try_from(id.to_string()).map_err(|_| StoreError::Missing {
        kind: "SHA-1 tree",
        id: id.to_string(),
    })
}

/// Reads an object that must be of a kind.
pub(crate) fn read<'o>(
    odb: &'o Odb<'_>,
    id: Oid,
    kind: ObjectType,
    name: &'static str,
) -> Result<OdbObject<'o>, StoreError> {
    let missing = || StoreError::Missing {
        kind: name,
        id: id.to_string(),
    };
    let object = odb.read(id).map_err(|source| match source.code() {
        git2::ErrorCode::NotFound => missing(),
        _ => StoreError::Git {
            doing: "read an object",
            source,
        },
    })?;
    if object.kind() == kind {
        Ok(object)
    } else {
        Err(missing())
    }
}

/// The tree of a commit.
pub(crate) fn tree_of(repo: &Repository, commit: Oid) -> Result<Oid, StoreError> {
    Ok(find_commit(repo, commit)?.tree_id())
}

pub(crate) fn find_commit(repo: &Repository, commit: Oid) -> Result<git2::Commit<'_>, StoreError> {
    repo.find_commit(commit)
        .map_err(|source| match source.code() {
            git2::ErrorCode::NotFound => StoreError::Missing {
                kind: "commit",
                id: commit.to_string(),
            },
            _ => StoreError::Git {
                doing: "read a commit",
                source,
            },
        })
}

/// Whether `ancestor` is `commit` or one of its ancestors.
pub(crate) fn is_ancestor(
    repo: &Repository,
    ancestor: Oid,
    commit: Oid,
) -> Result<bool, StoreError> {
    Ok(ancestor == commit
        || repo
            .graph_descendant_of(commit, ancestor)
            .doing("compare two commits")?)
}

/// Copies what `to` lacks of everything reachable from `tip`, and answers with the ids that were written.
///
/// `complete` names commits of which `to` holds everything. An object is written after all it refers to, so a copy
/// that breaks off leaves no commit without its trees.
pub(crate) fn copy_reachable(
    from: &Repository,
    to: &Repository,
    tip: Oid,
    complete: &[Oid],
) -> Result<Vec<Oid>, StoreError> {
    let from_odb = from.odb().doing("open the objects")?;
    let to_odb = to.odb().doing("open the objects")?;
    to_odb.refresh().doing("open the objects")?;
    let mut copy = Copy {
        from: &from_odb,
        to: &to_odb,
        seen: HashSet::new(),
        written: Vec::new(),
    };

    let mut commits = from.revwalk().doing("walk the history")?;
    commits
        .set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)
        .doing("walk the history")?;
    commits.push(tip).doing("walk the history")?;
    for commit in complete {
        if from_odb.exists(*commit) {
            commits.hide(*commit).doing("walk the history")?;
        }
    }
    for id in commits {
        let id = id.doing("walk the history")?;
        let commit = find_commit(from, id)?;
        let parent = match commit.parent_ids().next() {
            Some(parent) => Some(tree_of(from, parent)?),
            None => None,
        };
        copy.tree(
            commit.tree_id(),
            parent,
            0,
            &mut Bounds::new(commit.tree_id()),
        )?;
        copy.object(id, ObjectType::Commit, "commit")?;
    }
    Ok(copy.written)
}

struct Copy<'a> {
    from: &'a Odb<'a>,
    to: &'a Odb<'a>,
    seen: HashSet<Oid>,
    written: Vec<Oid>,
}

impl Copy<'_> {
    /// Copies a tree; what `old`, a tree of the parent commit, holds as well is there already.
    fn tree(
        &mut self,
        id: Oid,
        old: Option<Oid>,
        depth: usize,
        bounds: &mut Bounds,
    ) -> Result<(), StoreError> {
        if old == Some(id) || !self.seen.insert(id) {
            return Ok(());
        }
        let items = tree::read(self.from, id)?;
        bounds.enter(items.len(), depth)?;
        let old = old
            .map(|old| tree::read(self.from, old))
            .transpose()?
            .unwrap_or_default();
        let mut old = old.into_iter().peekable();
        for item in items {
            // Both lists are in one order but for a file that became a directory; missing such a pair costs a second look, no more.
            while old.next_if(|o| o.name < item.name).is_some() {}
            let before = old.next_if(|o| o.name == item.name);
            if before.as_ref().is_some_and(|b| b.id == item.id) {
                continue;
            }
            match item.kind() {
                tree::EntryKind::Submodule => {}
                tree::EntryKind::Directory => {
                    let before = before.filter(tree::Item::is_tree).map(|b| b.id);
                    self.tree(item.id, before, depth + 1, bounds)?;
                }
                tree::EntryKind::File { .. } | tree::EntryKind::Symlink => {
                    self.object(item.id, ObjectType::Blob, "file")?
                }
            }
        }
        self.object(id, ObjectType::Tree, "tree")
    }

    fn object(&mut self, id: Oid, kind: ObjectType, name: &'static str) -> Result<(), StoreError> {
        if self.to.exists_ext(id, OdbLookupFlags::NO_REFRESH) {
            return Ok(());
        }
        let object = read(self.from, id, kind, name)?;
        self.to.write(kind, object.data()).doing("copy an object")?;
        self.written.push(id);
        Ok(())
    }
}

/// An object directory and those that it borrows from, itself first.
pub(crate) fn stores(objects: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![(objects.to_path_buf(), 0)];
    while let Some((objects, depth)) = left.pop() {
        if depth < ALTERNATES_DEPTH_MAX {
            let list = fs::read_to_string(objects.join("info/alternates")).unwrap_or_default();
            let alternates = list
                .lines()
                .filter(|l| !l.is_empty() && !l.starts_with('#'));
            left.extend(alternates.map(|l| (objects.join(l), depth + 1)));
        }
        if !found.contains(&objects) {
            found.push(objects);
        }
    }
    found
}

/// Brings every pack of one object directory into another, by hard link where the file system allows.
///
/// git never changes a pack once it has its name, so a link is as good as a copy.
pub(crate) fn link_packs(from: &Path, to: &Path) -> Result<(), StoreError> {
    for objects in stores(from) {
        for pack in packs_of(&objects.join("pack"))? {
            let index = pack.with_extension("idx");
            let known = index.file_name().map(|name| to.join("pack").join(name));
            if known.is_some_and(|known| known.exists()) {
                continue;
            }
            // Once in the mirror it would be asked first, however often the user mends it: so all of it is looked at.
            packs::check_pack(&pack)?;
            // The index last: a pack counts as soon as its index is there.
            for extension in ["pack", "idx"] {
                let source = pack.with_extension(extension);
                let Some(name) = source.file_name() else {
                    continue;
                };
                link(&source, &to.join("pack").join(name))?;
            }
        }
    }
    Ok(())
}

fn packs_of(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::io("list", directory, e)),
    };
    let mut packs = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|e| StoreError::io("list", directory, e))?
            .path();
        let is_pack = path.extension().is_some_and(|e| e == "pack")
            && path
                .file_stem()
                .and_then(|s| s.to_str())
                .and_then(|s| s.strip_prefix("pack-"))
                .is_some_and(|hex| hex.len() == 40 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        if is_pack && path.with_extension("idx").exists() {
            packs.push(path);
        }
    }
    Ok(packs)
}

fn link(source: &Path, target: &Path) -> Result<(), StoreError> {
    match fs::hard_link(source, target) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(_) => {}
    }
    // Another file system, or links are not allowed: copy aside, then give it its name.
    let aside = target.with_extension(format!("copy-{}", std::process::id()));
    fs::copy(source, &aside).map_err(|e| StoreError::io("copy", source, e))?;
    fs::rename(&aside, target).map_err(|e| StoreError::io("copy", target, e))
}

/// Writes new loose objects through to the disk, so that a journal that names them is not ahead of them.
pub(crate) fn flush(objects: &Path, ids: &[Oid]) -> Result<(), StoreError> {
    if ids.len() > FLUSH_SINGLY_MAX {
        let directory = File::open(objects).map_err(|e| StoreError::io("open", objects, e))?;
        return rustix::fs::syncfs(&directory)
            .map_err(|e| StoreError::io("write through", objects, e));
    }
    for id in ids {
        let hex = id.to_string();
        let (fan, rest) = hex.split_at(2);
        flush_file(&objects.join(fan).join(rest))?;
    }
    Ok(())
}

/// Writes one file of a git dir through to the disk; a file that is not there lives in a pack, and is on the disk.
pub(crate) fn flush_file(path: &Path) -> Result<(), StoreError> {
    match File::open(path).and_then(|file| file.sync_all()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("write through", path, e))
        }
        _ => Ok(()),
    }
}
