//! What lies in the journal, as it is read: by run, by call, or all of it in the order in which it was written.

use flow::id::RunId;
use rusqlite::{Connection, params};

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

/// A note on a call as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// From 1, without gaps.
    pub number: u64,
    /// The writer's form.
    pub body: Vec<u8>,
}

/// An event of any run, where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<'a> {
    /// Grows with every event of the journal.
    pub position: u64,
    /// Its run's id.
    pub run: &'a str,
    /// From 1, within its run.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The writer's form.
    pub body: &'a [u8],
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

pub(crate) fn events(
    connection: &Connection,
    run: &RunId,
    after: u64,
) -> rusqlite::Result<Vec<Stored>> {
    let mut select = connection.prepare_cached(
        "SELECT number, at_ms, body FROM event WHERE run = ?1 AND number > ?2 ORDER BY number",
    )?;
    let rows = select.query_map(params![run.as_str(), after], |row| {
        Ok(Stored {
            number: row.get(0)?,
            at_ms: row.get(1)?,
            body: row.get(2)?,
        })
    })?;
    rows.collect()
}

pub(crate) fn notes(
    connection: &Connection,
    run: &RunId,
    call: u64,
) -> rusqlite::Result<Vec<Note>> {
    let mut select = connection.prepare_cached(
        "SELECT number, body FROM transcript WHERE run = ?1 AND call = ?2 ORDER BY number",
    )?;
    let rows = select.query_map(params![run.as_str(), call], |row| {
        Ok(Note {
            number: row.get(0)?,
            body: row.get(1)?,
        })
    })?;
    rows.collect()
}

pub(crate) fn notes_of(connection: &Connection, run: &RunId) -> rusqlite::Result<Vec<Note>> {
    let mut select = connection.prepare_cached(
        "SELECT number, body FROM transcript WHERE run = ?1 ORDER BY call, number",
    )?;
    let rows = select.query_map([run.as_str()], |row| {
        Ok(Note {
            number: row.get(0)?,
            body: row.get(1)?,
        })
    })?;
    rows.collect()
}

/// From one run to the next by the index: what else they noted is not read.
pub(crate) fn noted_before(connection: &Connection, at_ms: u64) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare_cached(
        "WITH RECURSIVE noted (run) AS (
            SELECT MIN(run) FROM transcript
            UNION ALL
            SELECT (SELECT MIN(run) FROM transcript WHERE run > noted.run) FROM noted WHERE run IS NOT NULL
        )
        SELECT run FROM noted WHERE run IS NOT NULL
            AND (SELECT at_ms FROM event WHERE event.run = noted.run ORDER BY number DESC LIMIT 1) < ?1",
    )?;
    let rows = select.query_map([at_ms], |row| row.get(0))?;
    rows.collect()
}

pub(crate) fn has_notes(connection: &Connection, run: &RunId, call: u64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM transcript WHERE run = ?1 AND call = ?2)")?
        .query_row(params![run.as_str(), call], |row| row.get(0))
}

/// In the order of the table itself: one pass over the file.
pub(crate) fn each(
    connection: &Connection,
    after: u64,
    visit: &mut dyn FnMut(Placed<'_>),
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(
        "SELECT position, run, number, at_ms, body FROM event WHERE position > ?1 ORDER BY position",
    )?;
    let mut rows = select.query([after])?;
    while let Some(row) = rows.next()? {
        visit(Placed {
            position: row.get(0)?,
            run: row.get_ref(1)?.as_str()?,
            number: row.get(2)?,
            at_ms: row.get(3)?,
            body: row.get_ref(4)?.as_blob()?,
        });
    }
    Ok(())
}

/// A run's id as text, and the rest of its summary.
pub(crate) type Row = (String, u64, u64, u64);

pub(crate) fn runs(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut select = connection.prepare_cached(
        "SELECT run, COUNT(*), MIN(at_ms), MAX(at_ms) FROM event GROUP BY run ORDER BY MIN(position)",
    )?;
    let rows = select.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    rows.collect()
}
