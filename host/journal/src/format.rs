//! The file: its format, how an older one is brought up to it, and the room that its log has.
//!
//! - Format 1 (2026-11): tables `event` and `blob`.
//! - Format 2: `lease` and `transcript` beside them; the old tables are as they were.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use crate::error::{JournalError, failure, unusable};

/// What this version writes.
pub(crate) const FORMAT: u32 = 2;

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
];

/// Opens the file, or makes it, in this version's format.
pub(crate) fn open(path: &Path, patience: Duration) -> Result<Connection, JournalError> {
    make(path)?;
    let mut connection = Connection::open(path).map_err(|e| failure(path, &e))?;
    match prepare(&mut connection, patience) {
        Ok(None) => Ok(connection),
        Ok(Some(found)) => Err(JournalError::FromTheFuture {
            path: path.to_owned(),
            found,
        }),
        Err(error) => Err(failure(path, &error)),
    }
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

/// Gives the file's format when it is newer than ours; nothing is written then, also not what its log holds into the file.
fn prepare(connection: &mut Connection, patience: Duration) -> rusqlite::Result<Option<u32>> {
    connection.busy_timeout(patience)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let found = format(connection)?;
    if found > FORMAT {
        return Ok(Some(found));
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if found < FORMAT {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Somebody may have been quicker, with an older moat or a newer one.
        let found = format(&transaction)?;
        if found > FORMAT {
            return Ok(Some(found));
        }
        for step in &STEPS[found as usize..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", FORMAT)?;
        transaction.commit()?;
    }
    Ok(None)
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
