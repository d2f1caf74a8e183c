//! Writes what a tree has otherwise than another: into a directory that holds the other, or as a layer over it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use flow::id::TreeId;
use git2::{ObjectType, Odb, Oid};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::bases::FILE_BYTES;
use crate::error::{Doing, StoreError};
use crate::materialise::{self, Materialised, Skipped, SkippedReason};
use crate::mirror::Mirror;
use crate::names::{self, NameFault};
use crate::objects;
use crate::tree::{self, Bounds, EntryKind, Item};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What is in the directory before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Nothing: the other tree lies beneath it.
    Beneath,
    /// The other tree, as it was written.
    Within,
}

impl Mirror {
    /// Makes `directory` show what `keep` lets see of `tree`, where it shows that of `like` now. Reads and writes only what differs.
    pub(crate) fn write_difference(
        &self,
        like: &TreeId,
        tree: &TreeId,
        keep: &dyn Fn(&str, EntryKind) -> bool,
        directory: &Path,
        over: Over,
    ) -> Result<Materialised, StoreError> {
        let (like, tree) = (objects::oid(like.as_str())?, objects::oid(tree.as_str())?);
        let repo = self.repository()?;
        let odb = repo.odb().doing("open the objects")?;
        let handle = rustix::fs::openat(CWD, directory, DIRECTORY, Mode::empty())
            .map_err(|e| StoreError::io("open", directory, e))?;
        let mut writing = Writing {
            odb: &odb,
            keep,
            over,
            done: Materialised::default(),
            bounds: Bounds::new(tree),
        };
        if like != tree {
            let mut on_disk = directory.to_path_buf();
            writing.directory(Some(like), tree, &handle, &mut on_disk, "", 0)?;
        }
        Ok(writing.done)
    }

    /// Whether the two differ, in what `keep` lets see, by at most so many bytes on a disk; what is gone counts as an empty file.
    pub(crate) fn differs_little(
        &self,
        like: &TreeId,
        tree: &TreeId,
        keep: &dyn Fn(&str, EntryKind) -> bool,
        max: u64,
    ) -> Result<bool, StoreError> {
        let (like, tree) = (objects::oid(like.as_str())?, objects::oid(tree.as_str())?);
        let repo = self.repository()?;
        let odb = repo.odb().doing("open the objects")?;
        let mut counting = Counting {
            odb: &odb,
            keep,
            left: Some(max),
            bounds: Bounds::new(tree),
        };
        counting.directory(Some(like), tree, "", 0)?;
        Ok(counting.left.is_some())
    }
}

/// Takes what differs from what may, and stops when that was too much.
struct Counting<'a> {
    odb: &'a Odb<'a>,
    keep: &'a dyn Fn(&str, EntryKind) -> bool,
    /// None when it was too little.
    left: Option<u64>,
    bounds: Bounds,
}

impl Counting<'_> {
    fn directory(
        &mut self,
        like: Option<Oid>,
        tree: Oid,
        path: &str,
        depth: usize,
    ) -> Result<(), StoreError> {
        let trees = [like, Some(tree)];
        for (name, [old, new]) in tree::differing(self.odb, trees, depth, &mut self.bounds)? {
            let path = tree::join(path, &String::from_utf8_lossy(&name));
            let kept = |item: &Item| (self.keep)(&path, item.kind());
            let (old, new) = (old.filter(kept), new.filter(kept));
            let content = match &new {
                Some(item) if matches!(item.kind(), EntryKind::File { .. }) => {
                    let header = self.odb.read_header(item.id);
                    header.doing("read the size of a file")?.0 as u64
                }
                _ => 0,
            };
            if old.is_some() || new.is_some() {
                let takes = content.saturating_add(FILE_BYTES);
                self.left = self.left.and_then(|left| left.checked_sub(takes));
            }
            if self.left.is_none() {
                return Ok(());
            }
            if let Some(inner) = tree::subtree(&new) {
                self.directory(tree::subtree(&old), inner, &path, depth + 1)?;
            }
        }
        Ok(())
    }
}

struct Writing<'a> {
    odb: &'a Odb<'a>,
    keep: &'a dyn Fn(&str, EntryKind) -> bool,
    over: Over,
    done: Materialised,
    bounds: Bounds,
}

impl Writing<'_> {
    fn directory(
        &mut self,
        like: Option<Oid>,
        tree: Oid,
        handle: &OwnedFd,
        on_disk: &mut PathBuf,
        path: &str,
        depth: usize,
    ) -> Result<(), StoreError> {
        let trees = [like, Some(tree)];
        for (name, [old, new]) in tree::differing(self.odb, trees, depth, &mut self.bounds)? {
            let refusal = |item: &Item| materialise::writable(self.odb, item, depth);
            // What is not written was not written before either.
            let old = match &old {
                Some(item) if refusal(item)?.is_none() => old,
                _ => None,
            };
            let new = match new {
                Some(item) => match refusal(&item)? {
                    None => Some(item),
                    Some(reason) => {
                        self.skipped(path, &name, reason);
                        None
                    }
                },
                None => None,
            };
            let Ok(name) = std::str::from_utf8(&name) else {
                let reason = SkippedReason::Name(NameFault::NotUtf8);
                self.skipped(path, &name, reason);
                continue;
            };
            let child = tree::join(path, name);
            let kept = |item: &Item| (self.keep)(&child, item.kind());
            self.done.hidden += u64::from(new.as_ref().is_some_and(|item| !kept(item)));
            let (old, new) = (old.filter(kept), new.filter(kept));
            on_disk.push(name);
            self.entry([old, new], handle, on_disk, &child, depth)?;
            on_disk.pop();
        }
        Ok(())
    }

    fn skipped(&mut self, path: &str, name: &[u8], reason: SkippedReason) {
        self.done.skipped.push(Skipped {
            path: tree::join(path, &names::escape(name)),
            reason,
        });
    }

    /// One name; `on_disk` ends with it.
    fn entry(
        &mut self,
        [old, new]: [Option<Item>; 2],
        parent: &OwnedFd,
        on_disk: &mut PathBuf,
        path: &str,
        depth: usize,
    ) -> Result<(), StoreError> {
        let Some(name) = on_disk.file_name().map(ToOwned::to_owned) else {
            return Ok(());
        };
        let failed = |e: Errno| StoreError::io("write", on_disk, e);
        let (old_tree, new_tree) = (tree::subtree(&old), tree::subtree(&new));
        if let Some(old) = &old
            && (old_tree.is_none() || new_tree.is_none())
        {
            match (self.over, &new) {
                // What is written now covers whatever it was.
                (Over::Beneath, Some(_)) => {}
                (Over::Beneath, None) => whiteout(parent, &name).map_err(failed)?,
                (Over::Within, _) if old.is_tree() => std::fs::remove_dir_all(&on_disk)
                    .map_err(|e| StoreError::io("remove", on_disk, e))?,
                (Over::Within, _) => {
                    rustix::fs::unlinkat(parent, &name, rustix::fs::AtFlags::empty())
                        .map_err(failed)?;
                }
            }
        }
        let Some(new) = new else { return Ok(()) };
        match new.kind() {
            EntryKind::Directory => {
                if self.over == Over::Beneath || old_tree.is_none() {
                    rustix::fs::mkdirat(parent, &name, Mode::from_raw_mode(0o755))
                        .map_err(failed)?;
                }
                let handle =
                    rustix::fs::openat(parent, &name, DIRECTORY, Mode::empty()).map_err(failed)?;
                return self.directory(old_tree, new.id, &handle, on_disk, path, depth + 1);
            }
            EntryKind::Symlink => {
                let target = objects::read(self.odb, new.id, ObjectType::Blob, "symlink")?;
                rustix::fs::symlinkat(target.data(), parent, &name).map_err(failed)?;
                self.done.bytes += target.len() as u64;
            }
            EntryKind::File { executable } => {
                self.done.bytes +=
                    materialise::write_file(self.odb, parent, on_disk, new.id, executable)?;
            }
            // Never written.
            EntryKind::Submodule => return Ok(()),
        }
        self.done.files += 1;
        Ok(())
    }
}

/// What an overlay takes for the absence of a name. Anybody may make one.
fn whiteout(parent: &OwnedFd, name: &std::ffi::OsStr) -> Result<(), Errno> {
    let kind = FileType::CharacterDevice;
    rustix::fs::mknodat(parent, name, kind, Mode::empty(), 0)
}
