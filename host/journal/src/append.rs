//! Appending under a lease: events of a run, notes on its calls, and blobs.

use flow::RULES;
use flow::id::{Digest, RunId};
use rusqlite::params;

use crate::BLOB_BYTES_MAX;
use crate::error::JournalError;
use crate::lease::{LeaseKey, fenced};
use crate::read::Standing;
use crate::writer::{Head, Scope};

/// Events of a run that are appended together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch<'a> {
    /// The number of the last event before them.
    pub(crate) after: u64,
    pub(crate) at_ms: u64,
    pub(crate) bodies: &'a [Vec<u8>],
    /// How the run stands after them.
    pub(crate) standing: Standing,
}

/// Appends events, and gives the last one's number.
pub(crate) fn events(
    scope: &mut Scope<'_>,
    lease: &LeaseKey,
    batch: Batch<'_>,
) -> rusqlite::Result<Result<u64, JournalError>> {
    if scope.newest_token(&lease.run)? != lease.token {
        return Ok(Err(fenced(scope.transaction, &lease.run)?));
    }
    let head = scope.head(&lease.run)?;
    let actual = head.map_or(0, |head| head.events);
    if actual != batch.after {
        return Ok(Err(JournalError::Conflict {
            run: lease.run.clone(),
            expected: batch.after,
            actual,
        }));
    }
    if batch.bodies.is_empty() {
        return Ok(Ok(actual));
    }
    let mut head = match head {
        Some(head) => head,
        None => begin(scope, lease, batch.at_ms)?,
    };
    let mut insert = scope.transaction.prepare_cached(
        "INSERT INTO event (run, number, at_ms, previous, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for body in batch.bodies {
        head.events += 1;
        let row = params![head.id, head.events, batch.at_ms, head.last, body];
        head.last = insert.insert(row)? as u64;
    }
    scope
        .transaction
        .prepare_cached(
            "UPDATE run SET events = ?2, last = ?3, last_at_ms = ?4, standing = ?5, rules = ?6 WHERE id = ?1",
        )?
        .execute(params![
            head.id,
            head.events,
            head.last,
            batch.at_ms,
            batch.standing as u8,
            RULES
        ])?;
    scope.known.head(&lease.run, head);
    Ok(Ok(head.events))
}

/// A run that has no event yet.
fn begin(scope: &mut Scope<'_>, lease: &LeaseKey, at_ms: u64) -> rusqlite::Result<Head> {
    let id = scope
        .transaction
        .prepare_cached(
            "INSERT INTO run (name, events, last, first_at_ms, last_at_ms, standing, rules) VALUES (?1, 0, 0, ?2, ?2, 0, 0)",
        )?
        .insert(params![lease.run.as_str(), at_ms])?;
    Ok(Head {
        id,
        events: 0,
        last: 0,
    })
}

/// Says how runs stand, each if it has as many events as this.
pub(crate) fn standings(
    scope: &mut Scope<'_>,
    runs: &[(RunId, u64, Standing)],
) -> rusqlite::Result<Result<(), JournalError>> {
    let mut update = scope.transaction.prepare_cached(
        "UPDATE run SET standing = ?3, rules = ?4 WHERE name = ?1 AND events = ?2",
    )?;
    for (run, events, standing) in runs {
        update.execute(params![run.as_str(), events, *standing as u8, RULES])?;
    }
    Ok(Ok(()))
}

/// Appends notes on a call, the first of them with this number, and keeps the blobs that they name: in one transaction, or somebody could take
/// one away in between that other notes named before.
pub(crate) fn notes(
    scope: &mut Scope<'_>,
    lease: &LeaseKey,
    call: u64,
    first: u64,
    bodies: &[Vec<u8>],
    blobs: &[Vec<u8>],
) -> rusqlite::Result<Result<(), JournalError>> {
    if let Some(large) = blobs.iter().find(|bytes| bytes.len() > BLOB_BYTES_MAX) {
        let bytes = large.len();
        return Ok(Err(JournalError::TooLarge { bytes }));
    }
    if scope.newest_token(&lease.run)? != lease.token {
        return Ok(Err(fenced(scope.transaction, &lease.run)?));
    }
    let last = scope.last_note(&lease.run, call)?;
    if first != last + 1 {
        return Ok(Err(JournalError::Conflict {
            run: lease.run.clone(),
            expected: first.saturating_sub(1),
            actual: last,
        }));
    }
    let mut insert = scope.transaction.prepare_cached(
        "INSERT INTO transcript (run, call, number, body) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut number = last;
    for body in bodies {
        number += 1;
        insert.execute(params![lease.run.as_str(), call, number, body])?;
    }
    scope.known.note(&lease.run, call, number);
    drop(insert);
    for bytes in blobs {
        keep(scope, &Digest::of(bytes), bytes)?;
    }
    Ok(Ok(()))
}

/// Takes away all notes of a run, and each of these blobs that no other note names: a blob is given with the body of a note that names it.
pub(crate) fn forget(
    scope: &mut Scope<'_>,
    run: &RunId,
    blobs: &[(Digest, Vec<u8>)],
) -> rusqlite::Result<Result<(), JournalError>> {
    scope
        .transaction
        .prepare_cached("DELETE FROM transcript WHERE run = ?1")?
        .execute([run.as_str()])?;
    scope.known.forget_notes(run);
    let mut is_named = scope.transaction.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM transcript WHERE length(body) = ?1 AND body = ?2)",
    )?;
    let mut remove = scope
        .transaction
        .prepare_cached("DELETE FROM blob WHERE digest = ?1")?;
    for (digest, body) in blobs {
        let named: bool = is_named.query_row(params![body.len() as u64, body], |row| row.get(0))?;
        if !named {
            remove.execute([digest.as_str()])?;
        }
    }
    Ok(Ok(()))
}

/// Keeps bytes by their digest. It needs no lease: the same bytes are the same blob, whoever keeps them.
pub(crate) fn blob(
    scope: &mut Scope<'_>,
    digest: &Digest,
    bytes: &[u8],
) -> rusqlite::Result<Result<Digest, JournalError>> {
    keep(scope, digest, bytes)?;
    Ok(Ok(digest.clone()))
}

fn keep(scope: &mut Scope<'_>, digest: &Digest, bytes: &[u8]) -> rusqlite::Result<()> {
    scope
        .transaction
        .prepare_cached("INSERT OR IGNORE INTO blob (digest, bytes) VALUES (?1, ?2)")?
        .execute(params![digest.as_str(), bytes])?;
    Ok(())
}
