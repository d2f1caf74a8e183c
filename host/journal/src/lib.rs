//! The append-only log of runs, in SQLite, and blobs by digest. It never knows what an event means.
//!
//! An append is durable when it returns (WAL, `synchronous=FULL`: one `fdatasync`). A crash loses at most what was never
//! acknowledged, and never part of one append. Events are numbered from 1 without gaps; two writers of one run cannot both win.
//!
//! Format 1 (2026-11): tables `event`, `blob` and `meta`. A journal of a newer format is refused and not written.

mod lock;

pub use lock::RunLock;

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use flow::id::{Digest, RunId};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};

/// What this version writes.
const FORMAT: u32 = 1;

/// A larger blob is a mistake: evidence and diffs are capped long before.
const BLOB_BYTES_MAX: usize = 64 << 20;

/// Appended to a rowid table: clustering on (run, number) is many times slower.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS event (
        position INTEGER PRIMARY KEY,
        run TEXT NOT NULL,
        number INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (run, number)
    );
    CREATE TABLE IF NOT EXISTS blob (digest TEXT PRIMARY KEY, bytes BLOB NOT NULL);
";

/// One journal, shared by all threads of a process; many processes may have it open.
#[derive(Debug, Clone)]
pub struct Journal {
    connection: Arc<Mutex<Connection>>,
    directory: PathBuf,
}

/// An event as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// From 1.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The writer's form.
    pub body: Vec<u8>,
}

/// A run, as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// Its events.
    pub events: u64,
    /// When the first was recorded.
    pub first_at_ms: u64,
    /// When the last was recorded.
    pub last_at_ms: u64,
}

/// Why the journal did not do what was asked. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
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
    /// The file is of a newer moat.
    #[error("{path} has format {found}, this moat knows {FORMAT}: use a newer moat")]
    FromTheFuture {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The disk is full.
    #[error("the disk with {path} is full: make room and run again, nothing is lost")]
    Full {
        /// The file.
        path: PathBuf,
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
    /// Someone else drives the run.
    #[error("run {run} is being driven by another moat")]
    Locked {
        /// The run.
        run: RunId,
    },
}

impl Journal {
    /// Opens the journal of a state directory, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(directory: &Path) -> Result<Journal, JournalError> {
        let path = directory.join("journal.sqlite");
        let unusable = |why: String| JournalError::Unusable {
            path: path.clone(),
            why,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|e| unusable(e.to_string()))?;
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| unusable(e.to_string()))?;
        // Two processes that make the journal at once would trip over each other's switch to WAL, which waits for nobody.
        let _one_at_a_time =
            lock::hold(&directory.join("opening.lock")).map_err(|e| unusable(e.to_string()))?;
        let connection = Connection::open(&path).map_err(|e| failure(&path, &e))?;
        let journal = Journal {
            connection: Arc::new(Mutex::new(connection)),
            directory: directory.to_owned(),
        };
        journal
            .prepare()
            .map_err(|e| failure(&path, &e))?
            .map_or(Ok(journal), |found| {
                Err(JournalError::FromTheFuture { path, found })
            })
    }

    /// Gives the file's format when it is newer than ours.
    fn prepare(&self) -> rusqlite::Result<Option<u32>> {
        let mut connection = self.connection();
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let found: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > FORMAT {
            return Ok(Some(found));
        }
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
        transaction.commit()?;
        Ok(None)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held left at most an open transaction, which SQLite rolls back.
        self.connection
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn path(&self) -> PathBuf {
        self.directory.join("journal.sqlite")
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> JournalError {
        let path = self.path();
        move |error| failure(&path, &error)
    }

    /// Appends events after the one numbered `after`, all or none, and returns the last one's number.
    ///
    /// # Errors
    /// [`JournalError::Conflict`] when the run is not at `after`.
    pub fn append(
        &self,
        run: &RunId,
        after: u64,
        at_ms: u64,
        bodies: &[Vec<u8>],
    ) -> Result<u64, JournalError> {
        let mut connection = self.connection();
        let failed = self.failed();
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(&failed)?;
        let actual = last(&transaction, run).map_err(&failed)?;
        if actual != after {
            return Err(JournalError::Conflict {
                run: run.clone(),
                expected: after,
                actual,
            });
        }
        let mut number = after;
        {
            let mut insert = transaction
                .prepare_cached(
                    "INSERT INTO event (run, number, at_ms, body) VALUES (?1, ?2, ?3, ?4)",
                )
                .map_err(&failed)?;
            for body in bodies {
                number += 1;
                insert
                    .execute(params![run.as_str(), number, at_ms, body])
                    .map_err(&failed)?;
            }
        }
        transaction.commit().map_err(&failed)?;
        Ok(number)
    }

    /// Reads the events of a run after the one numbered `after`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn read(&self, run: &RunId, after: u64) -> Result<Vec<Stored>, JournalError> {
        let connection = self.connection();
        let read = || {
            let mut select = connection.prepare_cached("SELECT number, at_ms, body FROM event WHERE run = ?1 AND number > ?2 ORDER BY number")?;
            let rows = select.query_map(params![run.as_str(), after], |row| {
                Ok(Stored {
                    number: row.get(0)?,
                    at_ms: row.get(1)?,
                    body: row.get(2)?,
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(self.failed())
    }

    /// Lists the runs, the newest last.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn runs(&self) -> Result<Vec<RunSummary>, JournalError> {
        let connection = self.connection();
        let read = || -> rusqlite::Result<Vec<(String, u64, u64, u64)>> {
            let mut select = connection.prepare_cached("SELECT run, COUNT(*), MIN(at_ms), MAX(at_ms) FROM event GROUP BY run ORDER BY MIN(position)")?;
            let rows = select.query_map([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            rows.collect()
        };
        let rows = read().map_err(self.failed())?;
        let summary = |(run, events, first_at_ms, last_at_ms): (String, u64, u64, u64)| {
            let run = run
                .parse()
                .map_err(|e: flow::id::InvalidId| JournalError::Damaged {
                    path: self.path(),
                    why: e.to_string(),
                })?;
            Ok(RunSummary {
                run,
                events,
                first_at_ms,
                last_at_ms,
            })
        };
        rows.into_iter().map(summary).collect()
    }

    /// Keeps bytes and returns their digest.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`] and the rest.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, JournalError> {
        if bytes.len() > BLOB_BYTES_MAX {
            return Err(JournalError::TooLarge { bytes: bytes.len() });
        }
        let digest = Digest::of(bytes);
        self.connection()
            .execute(
                "INSERT OR IGNORE INTO blob (digest, bytes) VALUES (?1, ?2)",
                params![digest.as_str(), bytes],
            )
            .map_err(self.failed())?;
        Ok(digest)
    }

    /// Gives the bytes of a digest, checked against it; `None` when they were never kept.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] when the bytes are not those of the digest.
    pub fn get_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, JournalError> {
        let found: Option<Vec<u8>> = self
            .connection()
            .query_row(
                "SELECT bytes FROM blob WHERE digest = ?1",
                [digest.as_str()],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.failed())?;
        match found {
            Some(bytes) if Digest::of(&bytes) != *digest => Err(JournalError::Damaged {
                path: self.path(),
                why: format!("blob {digest} has other bytes"),
            }),
            found => Ok(found),
        }
    }

    /// Takes the run for this process alone, until the lock is dropped or the process dies.
    ///
    /// # Errors
    /// [`JournalError::Locked`] when another process has it.
    pub fn lock(&self, run: &RunId) -> Result<RunLock, JournalError> {
        RunLock::take(&self.directory.join("locks"), run)
    }

    /// Whether some process has the run now.
    pub fn is_locked(&self, run: &RunId) -> bool {
        RunLock::is_held(&self.directory.join("locks"), run)
    }
}

fn last(connection: &Connection, run: &RunId) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT COALESCE(MAX(number), 0) FROM event WHERE run = ?1")?
        .query_row([run.as_str()], |row| row.get(0))
}

fn failure(path: &Path, error: &rusqlite::Error) -> JournalError {
    let (path, why) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => JournalError::Full { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            JournalError::Damaged { path, why }
        }
        _ => JournalError::Unusable { path, why },
    }
}
