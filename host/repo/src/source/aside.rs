//! Files that are made aside in a git dir, and lock files of git that are known as ours when a crash has left them.
//!
//! A lock file is not made under its name: it is made whole under one of ours and linked to git's. So one that a killed process left has a
//! second name, and nobody else's has. All of this is done by one process at a time: whoever publishes to a repository holds its lock.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use crate::error::StoreError;
use crate::kept::{LOCKED_TRIES, LOCKED_WAIT};

/// Something of this process in a git dir; a number that was used before means that its process is gone.
pub(super) fn path(git_dir: &Path, what: &str) -> PathBuf {
    git_dir.join(format!("moat-{what}-{}", std::process::id()))
}

/// Removes what processes that died have left: files of this kind, and the lock on `target` if it is one of them.
pub(super) fn clear(git_dir: &Path, what: &str, target: Option<&Path>) -> Result<(), StoreError> {
    let prefix = format!("moat-{what}-");
    let failed = |path: &Path, e| StoreError::io("clear", path, e);
    for entry in fs::read_dir(git_dir).map_err(|e| failed(git_dir, e))? {
        let entry = entry.map_err(|e| failed(git_dir, e))?;
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let own = path.symlink_metadata().map_err(|e| failed(&path, e))?;
        let is = |other: &Path| other.symlink_metadata().is_ok_and(|it| same(&own, &it));
        let lock = target.map(lock_of);
        if let Some(lock) = lock.filter(|lock| is(lock)) {
            remove(&lock)?;
        } else if own.is_file() && own.nlink() > 1 && !target.is_some_and(is) {
            // The lock on something else: without this name nobody would know it again.
            continue;
        }
        remove(&path)?;
    }
    Ok(())
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The name of git's lock on a file.
pub(super) fn lock_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// git's lock on a file, held with the new content in it; let go of when it is dropped.
pub(super) struct Lock {
    aside: PathBuf,
    target: PathBuf,
}

impl Lock {
    /// Locks a file with a new content that was written aside; `None` when somebody else holds the lock, and goes on holding it.
    pub(super) fn take(aside: PathBuf, target: &Path) -> Result<Option<Lock>, StoreError> {
        let lock = lock_of(target);
        for _ in 0..LOCKED_TRIES {
            match link(&aside, &lock) {
                Ok(()) => {
                    let target = target.to_owned();
                    return Ok(Some(Lock { aside, target }));
                }
                // The directory as well may be gone for a moment: git removes empty ones.
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    let parent = target.parent().unwrap_or(target);
                    fs::create_dir_all(parent).map_err(|e| StoreError::io("create", parent, e))?;
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => thread::sleep(LOCKED_WAIT),
                Err(e) => return Err(StoreError::io("lock", target, e)),
            }
        }
        remove(&aside)?;
        Ok(None)
    }

    /// Gives the file its new content.
    pub(super) fn commit(self) -> Result<(), StoreError> {
        fs::rename(lock_of(&self.target), &self.target)
            .map_err(|e| StoreError::io("write", &self.target, e))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let lock = lock_of(&self.target);
        let own = self.aside.symlink_metadata();
        // Once it is committed, a lock of that name is somebody else's.
        if own.is_ok_and(|own| lock.symlink_metadata().is_ok_and(|it| same(&own, &it))) {
            let _ = fs::remove_file(lock);
        }
        let _ = fs::remove_file(&self.aside);
    }
}

/// Where links are not to be had, the lock is a copy, and one that is left over is a person's to remove.
fn link(aside: &Path, lock: &Path) -> io::Result<()> {
    match fs::hard_link(aside, lock) {
        Err(e) if !matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {
            let content = fs::read(aside)?;
            File::create_new(lock)?.write_all(&content)
        }
        done => done,
    }
}

/// Removes a file that may be gone.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", path, e)),
        _ => Ok(()),
    }
}
