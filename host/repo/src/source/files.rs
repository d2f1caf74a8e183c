//! Single files of the user's checkout: what is there, replacing it in one step, removing it.

use std::collections::HashSet;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use git2::{IndexEntry, IndexTime, ObjectType, Odb};

use super::{aside, line_ends};
use crate::error::StoreError;
use crate::names;
use crate::objects;
use crate::tree::{Difference, EntryKind, Item, MODE_EXECUTABLE, MODE_FILE, MODE_LINK};

/// What a new version is called while it is made.
pub(super) const ASIDE: &str = "checkout";

/// What has to be done for one path.
pub(super) enum Replacement {
    /// The new version is there.
    Done,
    /// The old version is there, or the new one with another mode: write this.
    Write(Vec<u8>),
    /// The old version is there and shall go.
    Remove,
    /// Neither version is there: somebody has changed it.
    Changed,
    /// Something untracked is where the new version goes.
    Blocked,
}

/// Compares what is at a path with what was and what shall be; `removed` are all paths that had an old version.
pub(super) fn replacement(
    root: &Path,
    odb: &Odb<'_>,
    change: &Difference,
    removed: &HashSet<&[u8]>,
) -> Result<Replacement, StoreError> {
    if change.path.split(|b| *b == b'/').any(|name| matches!(names::check_dangerous(name), Err(fault) if fault != names::NameFault::NotUtf8))
        || [&change.old, &change.new].into_iter().flatten().any(|i| i.kind() == EntryKind::Submodule)
    {
        return Ok(Replacement::Blocked);
    }
    if !parents_are_directories(root, &change.path, removed) {
        if change.new.is_none() {
            // A file has taken the place of its directory; whether it is the right one shows at that file's path.
            return Ok(Replacement::Done);
        }
        return Ok(if change.old.is_some() {
            Replacement::Changed
        } else {
            Replacement::Blocked
        });
    }
    let path = on_disk(root, &change.path);
    let now = now(&path)?;
    let (old, new) = (load(odb, &change.old)?, load(odb, &change.new)?);
    Ok(match (now, old, new) {
        (Now::Nothing, _, None) => Replacement::Done,
        (Now::Nothing, None, Some(new)) => Replacement::Write(new.bytes),
        // A tracked file is gone: a directory may be taking its place, else its owner has removed it.
        (Now::Nothing, Some(_), Some(_)) => Replacement::Changed,
        (Now::Directory, None, Some(new)) if only_removed(root, &path, removed) => {
            Replacement::Write(new.bytes)
        }
        // The file is gone already, and its directory came.
        (Now::Directory, Some(_), None) => Replacement::Done,
        (Now::Directory | Now::Other, old, _) => {
            if old.is_some() {
                Replacement::Changed
            } else {
                Replacement::Blocked
            }
        }
        (Now::Leaf(now), old, new) => {
            if let Some(new) = &new
                && now.is(new)
            {
                return Ok(if now.executable == new.executable {
                    Replacement::Done
                } else {
                    Replacement::Write(now.bytes)
                });
            }
            match (old, new) {
                (Some(old), Some(new)) if now.is(&old) => {
                    Replacement::Write(line_ends::carry_over(&now.bytes, &old.bytes, &new.bytes))
                }
                (Some(old), None) if now.is(&old) => Replacement::Remove,
                (Some(_), _) => Replacement::Changed,
                (None, _) => Replacement::Blocked,
            }
        }
    })
}

/// Writes the new version of a path in one step: aside in the git dir, then renamed into place.
pub(super) fn write(
    root: &Path,
    git_dir: &Path,
    change: &Difference,
    content: &[u8],
) -> Result<(), StoreError> {
    let Some(new) = &change.new else {
        return Ok(());
    };
    let path = on_disk(root, &change.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| StoreError::io("create", parent, e))?;
    }
    if path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
        // Its files are gone by now; what is left are directories.
        remove_empty(&path).map_err(|e| StoreError::io("remove", &path, e))?;
    }
    let aside = aside::path(git_dir, ASIDE);
    put(&aside, new, content)?;
    match fs::rename(&aside, &path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            forget(&aside)?;
            let name = format!(".moat-checkout-{}", std::process::id());
            let aside = path.with_file_name(name);
            put(&aside, new, content)?;
            fs::rename(&aside, &path).map_err(|e| StoreError::io("write", &path, e))
        }
        Err(e) => {
            forget(&aside)?;
            Err(StoreError::io("write", &path, e))
        }
    }
}

/// Removes a file, and the directories that held nothing else.
pub(super) fn remove(root: &Path, path: &[u8]) -> Result<(), StoreError> {
    let path = on_disk(root, path);
    fs::remove_file(&path).map_err(|e| StoreError::io("remove", &path, e))?;
    for parent in path.ancestors().skip(1).take_while(|p| *p != root) {
        // Fails as soon as a directory holds something else, which is where this ends.
        if fs::remove_dir(parent).is_err() {
            break;
        }
    }
    Ok(())
}

/// The index entry of a path that was just written.
pub(super) fn index_entry(root: &Path, path: &[u8], item: &Item) -> Result<IndexEntry, StoreError> {
    let file = on_disk(root, path);
    let is = file
        .symlink_metadata()
        .map_err(|e| StoreError::io("read", &file, e))?;
    // git keeps the low 32 bits of all of these.
    let time = |seconds: i64, nanoseconds: i64| IndexTime::new(seconds as i32, nanoseconds as u32);
    Ok(IndexEntry {
        ctime: time(is.ctime(), is.ctime_nsec()),
        mtime: time(is.mtime(), is.mtime_nsec()),
        dev: is.dev() as u32,
        ino: is.ino() as u32,
        mode: match item.kind() {
            EntryKind::File { executable: true } => MODE_EXECUTABLE,
            EntryKind::Symlink => MODE_LINK,
            _ => MODE_FILE,
        },
        uid: is.uid(),
        gid: is.gid(),
        file_size: is.size() as u32,
        id: item.id,
        flags: u16::try_from(path.len().min(0xfff)).unwrap_or(0xfff),
        flags_extended: 0,
        path: path.to_vec(),
    })
}

enum Now {
    Nothing,
    Leaf(Version),
    Directory,
    Other,
}

/// A file or symlink, on the disk or in the store.
struct Version {
    link: bool,
    executable: bool,
    bytes: Vec<u8>,
}

impl Version {
    fn is(&self, other: &Version) -> bool {
        self.link == other.link
            && if self.link {
                self.bytes == other.bytes
            } else {
                line_ends::same(&self.bytes, &other.bytes)
            }
    }
}

fn on_disk(root: &Path, path: &[u8]) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(path))
}

fn now(path: &Path) -> Result<Now, StoreError> {
    let failed = |e: io::Error| StoreError::io("read", path, e);
    let is: Metadata = match path.symlink_metadata() {
        Ok(is) => is,
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Now::Nothing);
        }
        Err(e) => return Err(failed(e)),
    };
    if is.is_dir() {
        return Ok(Now::Directory);
    }
    if is.is_symlink() {
        let target = fs::read_link(path).map_err(failed)?;
        return Ok(Now::Leaf(Version {
            link: true,
            executable: false,
            bytes: target.as_os_str().as_bytes().to_vec(),
        }));
    }
    if !is.is_file() {
        return Ok(Now::Other);
    }
    let bytes = fs::read(path).map_err(failed)?;
    Ok(Now::Leaf(Version {
        link: false,
        executable: is.mode() & 0o100 != 0,
        bytes,
    }))
}

fn load(odb: &Odb<'_>, item: &Option<Item>) -> Result<Option<Version>, StoreError> {
    let Some(item) = item else { return Ok(None) };
    let bytes = objects::read(odb, item.id, ObjectType::Blob, "file")?
        .data()
        .to_vec();
    let (link, executable) = match item.kind() {
        EntryKind::Symlink => (true, false),
        EntryKind::File { executable } => (false, executable),
        EntryKind::Directory | EntryKind::Submodule => (false, false),
    };
    Ok(Some(Version {
        link,
        executable,
        bytes,
    }))
}

/// Whether every directory on the way is one, is missing, or is a tracked file that goes away.
fn parents_are_directories(root: &Path, path: &[u8], removed: &HashSet<&[u8]>) -> bool {
    let ends = path
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'/')
        .map(|(i, _)| i);
    for end in ends {
        let Some(parent) = path.get(..end) else {
            continue;
        };
        match on_disk(root, parent).symlink_metadata() {
            Ok(is) if is.is_dir() => {}
            Ok(_) => return removed.contains(parent),
            Err(_) => return true,
        }
    }
    true
}

/// Whether a directory holds only files that go away.
fn only_removed(root: &Path, directory: &Path, removed: &HashSet<&[u8]>) -> bool {
    let Ok(entries) = fs::read_dir(directory) else {
        return false;
    };
    entries.into_iter().all(|entry| {
        let Ok(entry) = entry else { return false };
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => only_removed(root, &path, removed),
            Ok(_) => path
                .strip_prefix(root)
                .is_ok_and(|p| removed.contains(p.as_os_str().as_bytes())),
            Err(_) => false,
        }
    })
}

/// Removes a directory that holds only directories.
fn remove_empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        remove_empty(&entry?.path())?;
    }
    fs::remove_dir(directory)
}

fn put(aside: &Path, new: &Item, content: &[u8]) -> Result<(), StoreError> {
    forget(aside)?;
    let failed = |e: io::Error| StoreError::io("write", aside, e);
    if new.kind() == EntryKind::Symlink {
        return std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(content), aside)
            .map_err(failed);
    }
    let mode = if new.kind() == (EntryKind::File { executable: true }) {
        0o777
    } else {
        0o666
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(aside)
        .map_err(failed)?;
    file.write_all(content).map_err(failed)
}

/// Removes what a process with our number left behind.
fn forget(aside: &Path) -> Result<(), StoreError> {
    match fs::remove_file(aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", aside, e)),
        _ => Ok(()),
    }
}
