//! What lies in the journal, as it is read: by run, by call, or all of it in the order in which it was written.

use std::collections::HashMap;

use flow::RULES;
use flow::id::RunId;
use rusqlite::{Connection, OptionalExtension as _, params};

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

/// How a run stands, as whoever appended to it last said: kept beside its events, so that runs are found by it without reading those. What was
/// said by other [rules](flow::RULES) than this moat's is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody said: the events tell.
    Unknown = 0,
    /// It has something to do.
    Due = 1,
    /// It is a part of another, which goes on with it.
    Part = 2,
    /// It goes on when a person says so, or never.
    Rests = 3,
}

/// From the last event back to the one numbered `after`. The number of an event that is missing in between is an error of the file.
pub(crate) fn events(
    connection: &Connection,
    run: &RunId,
    after: u64,
) -> rusqlite::Result<Result<Vec<Stored>, u64>> {
    // Each read alone would be a transaction of its own.
    let _one = connection.unchecked_transaction()?;
    let head: Option<(i64, u64, u64)> = connection
        .prepare_cached("SELECT id, events, last FROM run WHERE name = ?1")?
        .query_row([run.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((id, events, mut position)) = head else {
        return Ok(Ok(vec![]));
    };
    let mut select = connection.prepare_cached(
        "SELECT at_ms, body, previous FROM event WHERE position = ?1 AND run = ?2 AND number = ?3",
    )?;
    let mut found = Vec::new();
    for number in (after + 1..=events).rev() {
        let stored = select.query_row(params![position, id, number], |row| {
            let (at_ms, body) = (row.get(0)?, row.get(1)?);
            let stored = Stored {
                number,
                at_ms,
                body,
            };
            Ok((stored, row.get(2)?))
        });
        let Some((stored, previous)) = stored.optional()? else {
            return Ok(Err(number));
        };
        found.push(stored);
        position = previous;
    }
    found.reverse();
    Ok(Ok(found))
}

/// The runs that are due, and those that may be, the oldest first.
pub(crate) fn due(connection: &Connection) -> rusqlite::Result<Vec<(String, Standing)>> {
    let mut select = connection.prepare_cached(
        "SELECT name, standing = ?1 AND rules = ?3 FROM run WHERE standing IN (?1, ?2) OR rules <> ?3 ORDER BY id",
    )?;
    let (due, unknown) = (Standing::Due as u8, Standing::Unknown as u8);
    let rows = select.query_map(params![due, unknown, RULES], |row| {
        let standing = match row.get(1)? {
            true => Standing::Due,
            false => Standing::Unknown,
        };
        Ok((row.get(0)?, standing))
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
            AND (SELECT last_at_ms FROM run WHERE name = noted.run) < ?1",
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
    let mut names = Names::of(connection);
    let mut rows = select.query([after])?;
    while let Some(row) = rows.next()? {
        visit(Placed {
            position: row.get(0)?,
            run: names.name(row.get(1)?)?,
            number: row.get(2)?,
            at_ms: row.get(3)?,
            body: row.get_ref(4)?.as_blob()?,
        });
    }
    Ok(())
}

/// The names of runs, each looked up once: a join would do that for every event.
struct Names<'a> {
    connection: &'a Connection,
    known: HashMap<i64, String>,
}

impl Names<'_> {
    fn of(connection: &Connection) -> Names<'_> {
        Names {
            connection,
            known: HashMap::new(),
        }
    }

    fn name(&mut self, id: i64) -> rusqlite::Result<&str> {
        use std::collections::hash_map::Entry;
        let name = match self.known.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let name = self
                    .connection
                    .prepare_cached("SELECT name FROM run WHERE id = ?1")?
                    .query_row([id], |row| row.get(0));
                place.insert(name.optional()?.ok_or_else(ownerless)?)
            }
        };
        Ok(name)
    }
}

fn ownerless() -> rusqlite::Error {
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(corrupt, Some("there are events of no run".into()))
}

/// A run's id as text, and the rest of its summary.
pub(crate) type Row = (String, u64, u64, u64);

pub(crate) fn runs(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut select = connection
        .prepare_cached("SELECT name, events, first_at_ms, last_at_ms FROM run ORDER BY id")?;
    let rows = select.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    rows.collect()
}
