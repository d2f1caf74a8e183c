//! The trail's files: which there are, and the last whole line of one.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use flow::id::Digest;
use rustix::fs::{Mode, OFlags};

use crate::line::{Link, link};

/// No file of the trail is larger: one is followed by another long before.
pub(crate) const FILE_BYTES_MAX: u64 = 64 << 20;

/// The first look from the end of a file; doubled until a line is found.
const LOOK_BYTES: u64 = 16 << 10;

/// Ends a torn line before its line break: were only the break missing, it would be taken for a whole one.
pub(crate) const TORN_MARK: u8 = b'~';

/// The path of a file of the trail.
pub(crate) fn path(directory: &Path, file: u32) -> PathBuf {
    directory.join(name(file))
}

/// The name of a file of the trail.
pub(crate) fn name(file: u32) -> String {
    format!("{file:06}.jsonl")
}

/// The numbers of the files that are there, in order.
pub(crate) fn numbers(directory: &Path) -> std::io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let file = entry?.file_name();
        let number = file
            .to_str()
            .and_then(|one| one.strip_suffix(".jsonl"))
            .and_then(|digits| digits.parse().ok());
        found.extend(number.filter(|number| name(*number).as_str() == file));
    }
    found.sort_unstable();
    Ok(found)
}

/// The end of a file.
pub(crate) struct End {
    /// The last line that is one.
    pub(crate) last: Option<Link>,
    /// What lies behind it, if anything does, with the mark that it is yet to get: how many bytes, and their digest.
    pub(crate) torn: Option<(u64, Digest)>,
    /// The length of the file.
    pub(crate) bytes: u64,
}

/// Opens a file to be read, if it is a plain one of a size that the trail's files have; a pipe is not waited for.
pub(crate) fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() || found.len() > FILE_BYTES_MAX {
        return Err(std::io::Error::other(
            "it is no file of the trail: not plain, or far too large",
        ));
    }
    Ok(file)
}

/// Looks at the end of a file.
pub(crate) fn end(path: &Path) -> std::io::Result<End> {
    let file = open(path)?;
    let bytes = file.metadata()?.len();
    let mut look = LOOK_BYTES.min(bytes);
    loop {
        let mut window = vec![0; look as usize];
        file.read_exact_at(&mut window, bytes - look)?;
        let whole = look == bytes;
        let found = last_in(&window, whole);
        if found.is_some() || whole {
            let behind = found.as_ref().map_or(0, |(_, end)| *end);
            let mut rest = window[behind..].to_vec();
            let is_torn = !rest.is_empty();
            rest.push(TORN_MARK);
            return Ok(End {
                last: found.map(|(link, _)| link),
                torn: is_torn.then(|| (rest.len() as u64, Digest::of(&rest))),
                bytes,
            });
        }
        look = (look * 2).min(bytes);
    }
}

/// The last line within the window, and where the next would begin. The beginning of a window may be the middle of a line.
fn last_in(window: &[u8], from_start: bool) -> Option<(Link, usize)> {
    let mut upto = window.len();
    while let Some(at) = window[..upto].iter().rposition(|byte| *byte == b'\n') {
        let before = window[..at].iter().rposition(|byte| *byte == b'\n');
        let start = match before {
            Some(before) => before + 1,
            None if from_start => 0,
            None => return None,
        };
        if let Some(link) = link(&window[start..at]) {
            return Some((link, at + 1));
        }
        upto = at;
    }
    None
}
