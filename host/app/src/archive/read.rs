//! Reading the file: of a stranger's, too, so nothing is unpacked, and everything is bounded.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flow::run::{Run, replay};
use flow::{Event, Recorded};
use serde::Deserialize;

use crate::archive::{EVENTS, FORMAT, RUN};
use crate::show::state::State;

/// What is told of a run on one page.
const RUN_BYTES_MAX: u64 = 16 << 20;

/// Thousands of verdicts with their evidence.
const EVENTS_BYTES_MAX: u64 = 1 << 30;

/// A run as it was when it was exported.
pub struct Archive {
    /// What its events come to.
    pub run: Run,
    /// Its events.
    pub events: Vec<Recorded>,
    /// How it stood.
    pub state: State,
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is something else.
    #[error("{path} is no exported run ({why}): `moat runs export RUN` writes one")]
    NoArchive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A newer moat wrote it.
    #[error("{path} was written by a newer moat ({why}): use that one")]
    FromTheFuture {
        /// The file.
        path: PathBuf,
        /// What is newer.
        why: String,
    },
}

#[derive(Deserialize)]
struct About {
    format: u32,
    moat: String,
    state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Line {
    number: u64,
    at_ms: u64,
    event: serde_json::Value,
}

/// Reads what an export wrote.
///
/// # Errors
/// [`ArchiveError`].
pub fn read(path: &Path) -> Result<Archive, ArchiveError> {
    let no_archive = |why: String| ArchiveError::NoArchive {
        path: path.to_owned(),
        why,
    };
    let newer = |why: String| ArchiveError::FromTheFuture {
        path: path.to_owned(),
        why,
    };
    let (about, events) = texts(path)?;
    let about = about.ok_or_else(|| no_archive(format!("it has no {RUN}")))?;
    let events = events.ok_or_else(|| no_archive(format!("it has no {EVENTS}")))?;
    let about: About =
        serde_json::from_str(&about).map_err(|error| no_archive(format!("{RUN}: {error}")))?;
    if about.format > FORMAT {
        return Err(newer(format!("format {}", about.format)));
    }
    let mut recorded = Vec::new();
    for line in events.lines() {
        let line: Line =
            serde_json::from_str(line).map_err(|error| no_archive(format!("{EVENTS}: {error}")))?;
        let event: Event = serde_json::from_value(line.event).map_err(|error| {
            newer(format!(
                "version {}, event {}: {error}",
                about.moat, line.number
            ))
        })?;
        recorded.push(Recorded {
            number: line.number,
            at_ms: line.at_ms,
            event,
        });
    }
    let run = replay(&recorded).map_err(|error| no_archive(error.to_string()))?;
    let run = run.ok_or_else(|| no_archive(format!("{EVENTS} is empty")))?;
    let state =
        State::named(&about.state).ok_or_else(|| newer(format!("state {:?}", about.state)))?;
    Ok(Archive {
        run,
        events: recorded,
        state,
    })
}

/// The two files that count.
fn texts(path: &Path) -> Result<(Option<String>, Option<String>), ArchiveError> {
    let unreadable = |error| ArchiveError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let no_archive = |error: std::io::Error| ArchiveError::NoArchive {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let mut tar = tar::Archive::new(File::open(path).map_err(unreadable)?);
    let (mut about, mut events) = (None, None);
    for entry in tar.entries().map_err(no_archive)? {
        let mut entry = entry.map_err(no_archive)?;
        let (wanted, bytes_max) = match entry.path_bytes().as_ref() {
            name if name == RUN.as_bytes() => (&mut about, RUN_BYTES_MAX),
            name if name == EVENTS.as_bytes() => (&mut events, EVENTS_BYTES_MAX),
            _ => continue,
        };
        if entry.size() > bytes_max {
            let why = format!("a part of {} bytes is too large", entry.size());
            return Err(no_archive(std::io::Error::other(why)));
        }
        let mut text = String::new();
        entry.read_to_string(&mut text).map_err(no_archive)?;
        *wanted = Some(text);
    }
    Ok((about, events))
}
