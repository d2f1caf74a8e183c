//! Why the journal did not do what was asked.

use std::path::{Path, PathBuf};

use flow::id::RunId;
use rusqlite::ErrorCode;

use crate::format::FORMAT;
use crate::lease::Owner;
use locks::Keeper;

/// Why the journal did not do what was asked. Nothing was changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Someone else appended to the run meanwhile.
    #[error("run {run} is at event {actual}, not {expected}: another moat drives it")]
    Conflict {
        /// The run.
        run: RunId,
        /// What the caller thought.
        expected: u64,
        /// What is there.
        actual: u64,
    },
    /// Someone else has the run.
    #[error("run {run} is being driven by another moat ({by})")]
    Held {
        /// The run.
        run: RunId,
        /// Who.
        by: Owner,
    },
    /// Whoever has the run stands still while it does something outside; nobody may go on before that has ended.
    #[error(
        "run {run} is held by a moat that stands still in the middle of moving a ref or a release ({by}): let it go on (kill -CONT {pid}), or end it (kill -KILL {pid}) and resume the run",
        pid = by.pid
    )]
    Frozen {
        /// The run.
        run: RunId,
        /// Who.
        by: Owner,
    },
    /// The lease was lost: another moat took the run over, and what is done under the old lease does not count.
    #[error("run {run} was taken over by another moat ({by}): this one has stopped")]
    Fenced {
        /// The run.
        run: RunId,
        /// Who took it.
        by: Owner,
    },
    /// The file is of a newer moat.
    #[error("{path} has format {found}, this moat knows {FORMAT}: use a newer moat")]
    FromTheFuture {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The file is of an older moat that is at work on it: brought up to this format, it would be lost to that one in the middle of a run.
    #[error(
        "{path} is of an older moat, which is at work on run {run}, as {}; then this one goes on from there",
        by.map_or("another process: wait until it has ended, or end it".to_owned(), |by| by.to_string())
    )]
    InUseByOlder {
        /// The file.
        path: PathBuf,
        /// A run that it drives.
        run: RunId,
        /// Its process, where the system tells.
        by: Option<Keeper>,
    },
    /// The disk is full.
    #[error("the disk with {path} is full: make room and run again, nothing is lost")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Another program kept the file to itself for longer than anyone waits.
    #[error(
        "{path} is kept locked by {}; then run again, nothing is lost",
        by.map_or("another program: end that one".to_owned(), |by| by.to_string())
    )]
    Busy {
        /// The file.
        path: PathBuf,
        /// Who, where the system tells.
        by: Option<Keeper>,
    },
    /// The file or its directory cannot be written.
    #[error(
        "{path} cannot be used: {why}; make it writable, or set MOAT_HOME to a directory that you can write"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The file is damaged.
    #[error("{path} is damaged ({why}): restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A blob is too large.
    #[error("a blob of {bytes} bytes is too large")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The thread that writes has ended.
    #[error("the journal is closed")]
    Closed,
}

/// What SQLite says, in our words.
pub(crate) fn failure(path: &Path, error: &rusqlite::Error) -> JournalError {
    let (path, why) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => JournalError::Full { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let by = locks::of_database(&path);
            JournalError::Busy { path, by }
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            JournalError::Damaged { path, why }
        }
        _ => JournalError::Unusable { path, why },
    }
}

pub(crate) fn unusable(path: &Path, error: &std::io::Error) -> JournalError {
    JournalError::Unusable {
        path: path.to_owned(),
        why: error.to_string(),
    }
}
