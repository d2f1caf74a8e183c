//! Copies a directory by reflink: the copy shares the blocks of the original until one of the two is changed.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::StoreError;
use crate::tree::DEPTH_MAX;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Copies a base into a new directory. False, with nothing left behind, where the file system shares no blocks.
pub(crate) fn clone_tree(from: &Path, to: &Path) -> Result<bool, StoreError> {
    let source = rustix::fs::openat(CWD, from, DIRECTORY, Mode::empty())
        .map_err(|e| StoreError::io("open", from, e))?;
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(CWD, to, mode).map_err(|e| StoreError::io("create", to, e))?;
    let target = rustix::fs::openat(CWD, to, DIRECTORY, Mode::empty())
        .map_err(|e| StoreError::io("open", to, e))?;
    match directory(&source, &target, &mut to.to_path_buf(), 0) {
        Ok(()) => Ok(true),
        Err(Failure::Unable) => {
            std::fs::remove_dir_all(to).map_err(|e| StoreError::io("remove", to, e))?;
            Ok(false)
        }
        Err(Failure::Store(e)) => Err(e),
    }
}

enum Failure {
    /// This file system does not do it, or not between these two places.
    Unable,
    Store(StoreError),
}

fn failed(path: &Path, error: Errno) -> Failure {
    Failure::Store(StoreError::io("copy", path, error))
}

fn directory(
    from: &OwnedFd,
    to: &OwnedFd,
    path: &mut PathBuf,
    depth: usize,
) -> Result<(), Failure> {
    if depth > DEPTH_MAX {
        return Err(failed(path, Errno::LOOP));
    }
    for entry in Dir::read_from(from).map_err(|e| failed(path, e))? {
        let entry = entry.map_err(|e| failed(path, e))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW);
            kind = FileType::from_raw_mode(stat.map_err(|e| failed(path, e))?.st_mode);
        }
        let os_name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes());
        path.push(os_name);
        match kind {
            FileType::Directory => {
                let mode = Mode::from_raw_mode(0o755);
                rustix::fs::mkdirat(to, name, mode).map_err(|e| failed(path, e))?;
                let inner = |parent| rustix::fs::openat(parent, name, DIRECTORY, Mode::empty());
                let (from, to) = (
                    inner(from).map_err(|e| failed(path, e))?,
                    inner(to).map_err(|e| failed(path, e))?,
                );
                directory(&from, &to, path, depth + 1)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new());
                let target = target.map_err(|e| failed(path, e))?;
                rustix::fs::symlinkat(target, to, name).map_err(|e| failed(path, e))?;
            }
            _ => file(from, to, name, path)?,
        }
        path.pop();
    }
    Ok(())
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &std::ffi::CStr, path: &Path) -> Result<(), Failure> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source =
        rustix::fs::openat(from, name, flags, Mode::empty()).map_err(|e| failed(path, e))?;
    let executable = rustix::fs::fstat(&source)
        .map_err(|e| failed(path, e))?
        .st_mode
        & 0o100
        != 0;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
    let target = rustix::fs::openat(to, name, flags, mode).map_err(|e| failed(path, e))?;
    match rustix::fs::ioctl_ficlone(&target, &source) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
            Err(Failure::Unable)
        }
        Err(e) => Err(failed(path, e)),
    }
}

/// Whether copies of files in a directory can share blocks: tried with two small ones.
pub(crate) fn works_in(directory: &Path) -> bool {
    let (one, other) = (directory.join("one"), directory.join("other"));
    let tried = std::fs::write(&one, "content")
        .and_then(|()| Ok((std::fs::File::open(&one)?, std::fs::File::create(&other)?)));
    let works = tried.is_ok_and(|(from, to)| rustix::fs::ioctl_ficlone(&to, &from).is_ok());
    for path in [one, other] {
        let _ = std::fs::remove_file(path);
    }
    works
}
