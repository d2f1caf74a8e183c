//! The file: its format, how an older one is brought up to it, and the room that its log has.
//!
//! - Format 1 (2026-11): tables `event` and `blob`.
//! - Format 2: `lease` and `transcript` beside them; the old tables are as they were.
//! - Format 3: `run`, and events that lead from one to the one before it. An index of events by run had a page of its own for each run that was
//!   appended to, which was most of what an append of many runs wrote.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use crate::error::{JournalError, failure, unusable};
use crate::lock::{Held, Locks};

/// What this version writes.
pub(crate) const FORMAT: u32 = 3;

/// How long one waits for another process's transaction. A commit takes milliseconds; a stopped process holds it for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Each brings the format before it up by one; the first makes a new file. Appended to rowid tables: clustering on (run, number) is many times
/// slower.
const STEPS: [&str; FORMAT as usize] = [
    "
    CREATE TABLE event (
        position INTEGER PRIMARY KEY,
        run TEXT NOT NULL,
        number INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (run, number)
    );
    CREATE TABLE blob (digest TEXT PRIMARY KEY, bytes BLOB NOT NULL);
    ",
    "
    CREATE TABLE lease (
        run TEXT PRIMARY KEY,
        token INTEGER NOT NULL,
        pid INTEGER NOT NULL,
        since_ms INTEGER NOT NULL,
        boot TEXT NOT NULL,
        expires_ms INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE transcript (
        position INTEGER PRIMARY KEY,
        run TEXT NOT NULL,
        call INTEGER NOT NULL,
        number INTEGER NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (run, call, number)
    );
    ",
    "
    ALTER TABLE event RENAME TO event_2;
    CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        events INTEGER NOT NULL,
        last INTEGER NOT NULL,
        first_at_ms INTEGER NOT NULL,
        last_at_ms INTEGER NOT NULL,
        standing INTEGER NOT NULL,
        rules INTEGER NOT NULL
    );
    INSERT INTO run (name, events, last, first_at_ms, last_at_ms, standing, rules)
        SELECT run, MAX(number), MAX(position), MIN(at_ms), MAX(at_ms), 0, 0 FROM event_2 GROUP BY run ORDER BY MIN(position);
    CREATE TABLE event (
        position INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        number INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        previous INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    INSERT INTO event (position, run, number, at_ms, previous, body)
        SELECT this.position, run.id, this.number, this.at_ms,
            COALESCE((SELECT position FROM event_2 WHERE run = this.run AND number = this.number - 1), 0), this.body
        FROM event_2 AS this JOIN run ON run.name = this.run ORDER BY this.position;
    DROP TABLE event_2;
    ",
];

/// Opens the file, or makes it, in this version's format. An older one is left as it is while moats that wrote it are at work.
pub(crate) fn open(
    path: &Path,
    patience: Duration,
    locks: &Locks,
) -> Result<Connection, JournalError> {
    make(path)?;
    let mut connection = Connection::open(path).map_err(|e| failure(path, &e))?;
    match prepare(&mut connection, patience, locks) {
        Ok(Prepared::Ready) => Ok(connection),
        Ok(Prepared::Newer(found)) => Err(JournalError::FromTheFuture {
            path: path.to_owned(),
            found,
        }),
        Ok(Prepared::InUse(held)) => Err(held.error(path)),
        Err(error) => Err(failure(path, &error)),
    }
}

enum Prepared {
    Ready,
    /// Of this format, which is newer than ours.
    Newer(u32),
    /// Of an older one, and somebody is at work with it, as far as can be told.
    InUse(Held),
}

/// An empty file for its owner only, where there is none. One that is there is not opened past SQLite: closing it would give up the locks that
/// another connection of this process has on it.
fn make(path: &Path) -> Result<(), JournalError> {
    let made = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(unusable(path, &error))
        }
        _ => Ok(()),
    }
}

/// Another connection to a file that [`open`] has prepared.
pub(crate) fn connect(path: &Path, patience: Duration) -> Result<Connection, JournalError> {
    let connect = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(patience)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(connection)
    };
    connect().map_err(|error| failure(path, &error))
}

/// Of a newer format nothing is written, also not what its log holds into the file.
fn prepare(
    connection: &mut Connection,
    patience: Duration,
    locks: &Locks,
) -> rusqlite::Result<Prepared> {
    connection.busy_timeout(patience)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let found = format(connection)?;
    if found > FORMAT {
        return Ok(Prepared::Newer(found));
    }
    if (1..FORMAT).contains(&found)
        && let Some(held) = locks.any_held()
    {
        return Ok(Prepared::InUse(held));
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if found < FORMAT {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Somebody may have been quicker, with an older moat or a newer one.
        let found = format(&transaction)?;
        if found > FORMAT {
            return Ok(Prepared::Newer(found));
        }
        // One of format 2 takes a run by writing, which waits for this. What one of format 1 appends after it fails, and is not done then.
        if (1..FORMAT).contains(&found)
            && let Some(held) = locks.any_held()
        {
            return Ok(Prepared::InUse(held));
        }
        for step in &STEPS[found as usize..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", FORMAT)?;
        transaction.commit()?;
    }
    Ok(Prepared::Ready)
}

fn format(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// SQLite writes its log from the start again after 1,000 pages; a page takes 4,120 bytes there.
const LOG_BYTES: u64 = 1100 * 4120;

/// Gives the log the blocks that it will need. A log that grows costs more than what is written to it: each `fdatasync` then waits for the file
/// system's own journal. SQLite reads zeros after its frames as the end.
///
/// Under SQLite's own lock, for nobody may write at the end meanwhile. Where there is no room, the log grows as it always did.
pub(crate) fn reserve(connection: &mut Connection, path: &Path) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    // What is not there now is allocated when it is written.
    let _ = grow(Path::new(&log));
    transaction.rollback()
}

fn grow(log: &Path) -> std::io::Result<()> {
    let file = File::options().write(true).open(log)?;
    let length = file.metadata()?.len();
    if length >= LOG_BYTES {
        return Ok(());
    }
    let grown = file
        .write_all_at(&vec![0; (LOG_BYTES - length) as usize], length)
        .and_then(|()| file.sync_data());
    if grown.is_err() {
        // The last room of a disk is for what has something to say.
        file.set_len(length)?;
    }
    grown
}
