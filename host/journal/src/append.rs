//! Appending under a lease: events of a run, notes on its calls, and blobs.

use flow::id::Digest;
use rusqlite::params;

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

/// Appends notes on a call, the first of them with this number.
pub(crate) fn notes(
    scope: &mut Scope<'_>,
    lease: &LeaseKey,
    call: u64,
    first: u64,
    bodies: &[Vec<u8>],
) -> rusqlite::Result<Result<(), JournalError>> {
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
    Ok(Ok(()))
}

/// Keeps bytes by their digest. It needs no lease: the same bytes are the same blob, whoever keeps them.
pub(crate) fn blob(
    scope: &mut Scope<'_>,
    digest: &Digest,
    bytes: &[u8],
) -> rusqlite::Result<Result<Digest, JournalError>> {
    scope
        .transaction
        .prepare_cached("INSERT OR IGNORE INTO blob (digest, bytes) VALUES (?1, ?2)")?
        .execute(params![digest.as_str(), bytes])?;
    Ok(Ok(digest.clone()))
}
