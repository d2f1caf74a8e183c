//! The head: number and hash of the last line, kept beside the trail.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::str::FromStr;

use flow::id::Digest;

use crate::files;
use crate::line::genesis;

/// A place in the chain: what is before it cannot be changed without changing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The number of a line; 0 before the first.
    pub number: u64,
    /// The hash of that line.
    pub hash: Digest,
}

impl Anchor {
    pub(crate) fn start() -> Anchor {
        Anchor {
            number: 0,
            hash: genesis(),
        }
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

/// A text that is no anchor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no place in the trail: NUMBER:sha256:DIGITS, as `moat audit verify` prints it")]
pub struct InvalidAnchor(String);

impl FromStr for Anchor {
    type Err = InvalidAnchor;

    fn from_str(text: &str) -> Result<Anchor, InvalidAnchor> {
        let read = || {
            let (number, hash) = text.split_once(':')?;
            Some(Anchor {
                number: number.parse().ok()?,
                hash: hash.parse().ok()?,
            })
        };
        read().ok_or_else(|| InvalidAnchor(text.chars().take(120).collect()))
    }
}

/// Always so many bytes, written at once: a head is never half an old one and half a new one.
const RECORD_BYTES: usize = 20 + 1 + 71 + 1;

/// Reads the head; `None` when there is none.
pub(crate) fn read(path: &Path) -> std::io::Result<Option<Anchor>> {
    let mut text = String::new();
    match files::open(path) {
        Ok(file) => file
            .take(RECORD_BYTES as u64 + 1)
            .read_to_string(&mut text)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let anchor = text.trim_end().parse();
    anchor.map(Some).map_err(|error: InvalidAnchor| {
        std::io::Error::new(ErrorKind::InvalidData, error.to_string())
    })
}

/// Writes the head. It is not forced to the disk: a head that is behind misses a cut of the newest lines after a loss of power, and is never wrong.
pub(crate) fn write(path: &Path, anchor: &Anchor) -> std::io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    let record = format!("{:020}:{}\n", anchor.number, anchor.hash);
    debug_assert_eq!(record.len(), RECORD_BYTES);
    file.write_all_at(record.as_bytes(), 0)?;
    Ok(file)
}
