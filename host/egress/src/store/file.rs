//! Secrets in files that nobody but their owner can read.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::secret::{InvalidSecret, Secret, read_whole, unreadable};
use crate::secrets::Unavailable;

/// Permissions of group and others.
pub(crate) const OPEN_TO_OTHERS: u32 = 0o077;

/// Permissions of group and others to write.
pub(crate) const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The content of a file.
pub(crate) fn read(path: &Path) -> Result<Secret, Unavailable> {
    let file = open(path, OPEN_TO_OTHERS)?;
    let from = named(path);
    let value = read_whole(file).map_err(|error| unreadable(&from, &error))?;
    Ok(Secret::of(&value, &from)?)
}

/// Opens a plain file of this user's or root's, on which no one else has any of the permissions of `bits`. What is checked is what was opened.
pub(crate) fn open(path: &Path, bits: u32) -> Result<File, Unavailable> {
    let from = named(path);
    // Without NONBLOCK a FIFO would hold us up until somebody writes to it.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map(File::from);
    let refuse = |error: std::io::Error| unreadable(&from, &error);
    let file = opened.map_err(|error| refuse(error.into()))?;
    let found = file.metadata().map_err(refuse)?;
    if !found.is_file() {
        return Err(Unavailable::Value(InvalidSecret::Unreadable {
            from,
            why: "it is no plain file".into(),
        }));
    }
    check(path, &found, bits)?;
    Ok(file)
}

fn check(path: &Path, found: &Metadata, bits: u32) -> Result<(), Unavailable> {
    let name = path.display();
    let own = rustix::process::geteuid().as_raw();
    let refuse = |why, mend| Unavailable::Exposed {
        from: named(path),
        why,
        mend,
    };
    if found.uid() != own && found.uid() != 0 {
        return Err(refuse(
            "belongs to another user",
            format!("make a file of your own: install -m 600 {name} NEW"),
        ));
    }
    if found.mode() & bits != 0 {
        return Err(if bits == OPEN_TO_OTHERS {
            refuse(
                "is open to others than its owner",
                format!(
                    "chmod 600 {name}, and have a new secret issued if others use this machine"
                ),
            )
        } else {
            refuse(
                "can be written by others than its owner",
                format!("chmod go-w {name}, and look at what is in it"),
            )
        });
    }
    Ok(())
}

fn named(path: &Path) -> String {
    format!("the file {}", path.display())
}
