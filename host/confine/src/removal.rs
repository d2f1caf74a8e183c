//! Removing what a confined program left behind, whatever it did to make that hard.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Directories that are open at one time. What lies deeper is moved up first: neither descriptors nor the stack grow with the depth.
const DEPTH_MAX: u32 = 64;

/// Removes a directory with all below it, or a file; nothing there is as good.
///
/// Takes what `remove_dir_all` gives up on: directories without permissions, and trees deeper than there are descriptors or bytes in a path.
/// No symbolic link is followed. Whatever wrote there must be dead.
///
/// # Errors
/// What the system says, at the first thing that cannot be removed.
pub fn remove_tree(path: &Path) -> Result<()> {
    let top = match open(CWD, path) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return std::fs::remove_file(path),
        Err(errno) => return Err(errno.into()),
    };
    let mut moved = 0;
    loop {
        let before = moved;
        clear(&top, &top, 0, &mut moved)?;
        if moved == before {
            break;
        }
    }
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Empties a directory; what is too deep goes to the top, to be found there.
fn clear(directory: &OwnedFd, top: &OwnedFd, depth: u32, moved: &mut u64) -> Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_directory = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => {
                let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            _ => false,
        };
        if !is_directory {
            rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
        } else if depth >= DEPTH_MAX {
            // Opened for its permissions: a directory is moved only by whoever may write in it.
            drop(open(directory, name)?);
            move_to(top, directory, name, moved)?;
        } else {
            clear(&open(directory, name)?, top, depth + 1, moved)?;
            rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?;
        }
    }
    Ok(())
}

fn move_to(top: &OwnedFd, from: &OwnedFd, name: &std::ffi::CStr, moved: &mut u64) -> Result<()> {
    loop {
        *moved += 1;
        match rustix::fs::renameat(from, name, top, format!("moved-{moved}")) {
            // The program had such a name as well.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            other => return other.map_err(Error::from),
        }
    }
}

/// Opens a directory and takes every permission to it.
fn open(
    parent: impl AsFd,
    name: impl rustix::path::Arg + Copy,
) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // By a handle that needs no permission, so that no symbolic link is followed.
            let path_only = rustix::fs::openat(&parent, name, flags | OFlags::PATH, Mode::empty())?;
            let through = format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&path_only)
            );
            rustix::fs::chmod(through, Mode::RWXU)?;
            rustix::fs::openat(&parent, name, flags, Mode::empty())?
        }
        other => other?,
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::fchmod(&handle, Mode::RWXU)?;
    }
    Ok(handle)
}
