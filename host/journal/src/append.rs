//! Appending under a lease: events of a run, notes on its calls, and blobs.

use flow::id::{Digest, RunId};
use rusqlite::params;

use crate::BLOB_BYTES_MAX;
use crate::error::JournalError;
use crate::lease::{LeaseKey, fenced};
use crate::writer::Scope;

/// Appends events after the one numbered `after`, and gives the last one's number.
pub(crate) fn events(
    scope: &mut Scope<'_>,
    lease: &LeaseKey,
    after: u64,
    at_ms: u64,
    bodies: &[Vec<u8>],
) -> rusqlite::Result<Result<u64, JournalError>> {
    if scope.newest_token(&lease.run)? != lease.token {
        return Ok(Err(fenced(scope.transaction, &lease.run)?));
    }
    let actual = scope.last_event(&lease.run)?;
    if actual != after {
        return Ok(Err(JournalError::Conflict {
            run: lease.run.clone(),
            expected: after,
            actual,
        }));
    }
    let mut insert = scope
        .transaction
        .prepare_cached("INSERT INTO event (run, number, at_ms, body) VALUES (?1, ?2, ?3, ?4)")?;
    let mut number = after;
    for body in bodies {
        number += 1;
        insert.execute(params![lease.run.as_str(), number, at_ms, body])?;
    }
    scope.known.event(&lease.run, number);
    Ok(Ok(number))
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
