//! Reads a directory that somebody else wrote: handles only, no symlink followed, no device opened.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::RefusedReason;
use super::walk::Form;

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnDisk {
    File,
    Symlink,
    Directory,
    /// In a layer: the base's entry is gone.
    Whiteout,
    Other(RefusedReason),
}

/// The names in a directory, with what they are, in no order.
pub(super) type Listing = Vec<(Vec<u8>, OnDisk)>;

/// A regular file as it was read.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) executable: bool,
}

/// Why a file was not read.
pub(super) enum NotRead {
    Refused(RefusedReason),
    TooLarge(u64),
    /// A layer holds what no mount of ours makes.
    Foreign(&'static str),
    Failed(std::io::Error),
}

/// Where an overlay in a user namespace (`userxattr`) keeps what it notes.
const OPAQUE: &str = "user.overlay.opaque";
const REDIRECT: &str = "user.overlay.redirect";
const METACOPY: &str = "user.overlay.metacopy";

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

pub(super) fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
}

/// Opens a directory below; `device` is the root's.
pub(super) fn open_directory(
    parent: &OwnedFd,
    name: &[u8],
    device: u64,
) -> Result<OwnedFd, NotRead> {
    let handle =
        rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()).map_err(refused_or_failed)?;
    match rustix::fs::fstat(&handle) {
        Ok(stat) if stat.st_dev == device => Ok(handle),
        Ok(_) => Err(NotRead::Refused(RefusedReason::OtherFileSystem)),
        Err(e) => Err(NotRead::Failed(e.into())),
    }
}

pub(super) fn device(directory: impl AsFd) -> Result<u64, Errno> {
    Ok(rustix::fs::fstat(directory)?.st_dev)
}

/// The names in a directory, with what they are; stops above `max`.
pub(super) fn entries(directory: &OwnedFd, max: u64, form: Form) -> Result<Option<Listing>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        if found.len() as u64 >= max {
            return Ok(None);
        }
        let mut kind = entry.file_type();
        let mut is_whiteout = false;
        if kind == FileType::Unknown || (kind == FileType::CharacterDevice && form == Form::Layer) {
            match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    kind = FileType::from_raw_mode(stat.st_mode);
                    is_whiteout = kind == FileType::CharacterDevice
                        && form == Form::Layer
                        && stat.st_rdev == 0;
                }
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(e),
            }
        }
        let on_disk = match is_whiteout {
            true => OnDisk::Whiteout,
            false => on_disk(kind),
        };
        found.push((name.to_vec(), on_disk));
    }
    Ok(Some(found))
}

fn on_disk(kind: FileType) -> OnDisk {
    match kind {
        FileType::RegularFile => OnDisk::File,
        FileType::Directory => OnDisk::Directory,
        FileType::Symlink => OnDisk::Symlink,
        FileType::Fifo => OnDisk::Other(RefusedReason::Pipe),
        FileType::Socket => OnDisk::Other(RefusedReason::Socket),
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            OnDisk::Other(RefusedReason::Device)
        }
    }
}

/// Reads a regular file whole. `size_max` is asked with the file's size, and bounds what is read.
pub(super) fn read_file(
    directory: &OwnedFd,
    name: &[u8],
    form: Form,
    size_max: impl Fn(u64) -> u64,
) -> Result<Content, NotRead> {
    // NONBLOCK: the name may be a pipe by now, and opening must not wait for its other end.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let handle =
        rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(refused_or_failed)?;
    let stat = rustix::fs::fstat(&handle).map_err(|e| NotRead::Failed(e.into()))?;
    accept(&stat).map_err(NotRead::Refused)?;
    if form == Form::Layer && mark(&handle, METACOPY)?.is_some() {
        return Err(NotRead::Foreign("a file without its content (metacopy)"));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    let max = size_max(size);
    if size > max {
        return Err(NotRead::TooLarge(size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
    File::from(handle)
        .take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(NotRead::Failed)?;
    if bytes.len() as u64 > max {
        return Err(NotRead::TooLarge(bytes.len() as u64));
    }
    Ok(Content {
        bytes,
        executable: stat.st_mode & 0o100 != 0,
    })
}

/// Whether a directory of a layer hides the one below it.
pub(super) fn is_opaque(directory: &OwnedFd) -> Result<bool, NotRead> {
    if mark(directory, REDIRECT)?.is_some() {
        return Err(NotRead::Foreign("a directory that was moved (redirect)"));
    }
    match mark(directory, OPAQUE)?.as_deref() {
        None => Ok(false),
        Some(b"y") => Ok(true),
        Some(_) => Err(NotRead::Foreign("an unknown mark on a directory (opaque)")),
    }
}

/// What an overlay noted on a file; longer notes are cut.
fn mark(file: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>, NotRead> {
    let mut value = [0; 16];
    match rustix::fs::fgetxattr(file, name, &mut value) {
        Ok(length) => Ok(Some(value.get(..length).unwrap_or(&value).to_vec())),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(Errno::RANGE) => Ok(Some(value.to_vec())),
        Err(e) => Err(NotRead::Failed(e.into())),
    }
}

/// Reads the target of a symlink.
pub(super) fn read_link(directory: &OwnedFd, name: &[u8]) -> Result<Vec<u8>, NotRead> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new()).map_err(refused_or_failed)?;
    Ok(target.into_bytes())
}

fn accept(stat: &Stat) -> Result<(), RefusedReason> {
    match on_disk(FileType::from_raw_mode(stat.st_mode)) {
        OnDisk::File => {}
        OnDisk::Other(reason) => return Err(reason),
        OnDisk::Symlink | OnDisk::Directory | OnDisk::Whiteout => {
            return Err(RefusedReason::Unreadable);
        }
    }
    if stat.st_nlink > 1 {
        return Err(RefusedReason::HardLink);
    }
    if stat.st_mode & 0o7000 != 0 {
        return Err(RefusedReason::SpecialMode);
    }
    Ok(())
}

/// An entry that cannot be opened as what it was listed as is the writer's doing; anything else is the machine's.
fn refused_or_failed(e: Errno) -> NotRead {
    match e {
        Errno::ACCESS
        | Errno::PERM
        | Errno::LOOP
        | Errno::NOTDIR
        | Errno::ISDIR
        | Errno::NOENT
        | Errno::NXIO
        | Errno::INVAL => NotRead::Refused(RefusedReason::Unreadable),
        other => NotRead::Failed(other.into()),
    }
}
