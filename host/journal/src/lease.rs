//! Leases: who drives a run, and the token that every append is checked against.
//!
//! Whoever holds a lease holds a file lock, which dies with its process: a lease without it may be taken at once. One with it may be taken when it
//! has expired: its holder lives and stands still. The token grows with every lease, and an append under another than the newest is refused in
//! its own transaction, so a holder that wakes again changes nothing.

use std::fmt;

use flow::id::RunId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use rustix::time::{ClockId, clock_gettime};

use crate::error::JournalError;
use crate::lock::{LeaseLock, Locks};
use crate::writer::Scope;

/// Who has a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its process.
    pub pid: u32,
    /// The wall clock at which it took the run, in milliseconds since 1970. For people: nothing is decided by it.
    pub since_ms: u64,
}

impl Owner {
    /// This process.
    pub fn this(since_ms: u64) -> Owner {
        let pid = std::process::id();
        Owner { pid, since_ms }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}, since {}", self.pid, utc(self.since_ms))
    }
}

/// Milliseconds of the clock that leases are measured by: it goes on evenly whatever is done to the time of day, stands still while the machine
/// sleeps, and is the same for all processes since the machine was started.
pub fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64) * 1000 + (now.tv_nsec as u64) / 1_000_000
}

/// The right to append to a run, until it is dropped, its process dies, or another takes it after it expired.
#[derive(Debug)]
pub struct Lease {
    run: RunId,
    token: u64,
    _alive: LeaseLock,
}

impl Lease {
    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Greater than that of every lease of the run before.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The lease by its name: enough to have it renewed, and no sign of life.
    pub fn key(&self) -> LeaseKey {
        LeaseKey {
            run: self.run.clone(),
            token: self.token,
        }
    }
}

/// A lease by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseKey {
    pub(crate) run: RunId,
    pub(crate) token: u64,
}

/// A lease as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub by: Owner,
    /// Its token.
    pub token: u64,
    /// Whether its process lives.
    pub alive: bool,
    /// Until when it has the run for itself, by [`monotonic_ms`].
    pub expires_ms: u64,
}

impl Holder {
    /// Whether the run is driven: by a process that lives and goes on.
    pub fn drives(&self, now_ms: u64) -> bool {
        self.alive && now_ms < self.expires_ms
    }
}

/// The newest lease of a run.
struct Newest {
    by: Owner,
    token: u64,
    boot: String,
    expires_ms: u64,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Newest> {
    Ok(Newest {
        by: Owner {
            pid: row.get(1)?,
            since_ms: row.get(2)?,
        },
        token: row.get(0)?,
        boot: row.get(3)?,
        expires_ms: row.get(4)?,
    })
}

fn newest(connection: &Connection, run: &RunId) -> rusqlite::Result<Option<Newest>> {
    connection
        .prepare_cached("SELECT token, pid, since_ms, boot, expires_ms FROM lease WHERE run = ?1")?
        .query_row([run.as_str()], read)
        .optional()
}

pub(crate) fn holder(
    connection: &Connection,
    locks: &Locks,
    run: &RunId,
) -> rusqlite::Result<Option<Holder>> {
    let found = newest(connection, run)?;
    Ok(found.map(|newest| Holder {
        alive: newest.boot == boot() && locks.is_alive(run, newest.token),
        by: newest.by,
        token: newest.token,
        expires_ms: newest.expires_ms,
    }))
}

/// The newest token; 0 where there was no lease yet.
pub(crate) fn token(connection: &Connection, run: &RunId) -> rusqlite::Result<u64> {
    let found = connection
        .prepare_cached("SELECT token FROM lease WHERE run = ?1")?
        .query_row([run.as_str()], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(0))
}

/// Who has taken the run meanwhile.
pub(crate) fn fenced(connection: &Connection, run: &RunId) -> rusqlite::Result<JournalError> {
    let nobody = || Owner {
        pid: 0,
        since_ms: 0,
    };
    let by = newest(connection, run)?.map_or_else(nobody, |newest| newest.by);
    Ok(JournalError::Fenced {
        run: run.clone(),
        by,
    })
}

/// A lease that is not durable yet, and what is to be kept until it is.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) lease: Lease,
    /// The token before.
    pub(crate) before: Option<u64>,
    /// What the holder before does outside begins before the new lease is durable, and keeps it from being taken; or it does not begin.
    pub(crate) _no_effect: Option<std::fs::File>,
}

/// From whom a run may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// From who is dead, or stands still.
    Left,
    /// Also from who lives and goes on.
    Seized,
}

/// Takes a run, if nobody has it from whom it may not be taken.
pub(crate) fn take(
    scope: &mut Scope<'_>,
    locks: &Locks,
    run: &RunId,
    owner: &Owner,
    (now_ms, length_ms): (u64, u64),
    claim: Claim,
) -> rusqlite::Result<Result<Taken, JournalError>> {
    let before = newest(scope.transaction, run)?;
    let no_effect = match &before {
        Some(newest) if newest.boot == boot() && locks.is_alive(run, newest.token) => {
            let by = newest.by.clone();
            let run = run.clone();
            if claim == Claim::Left && now_ms < newest.expires_ms {
                return Ok(Err(JournalError::Held { run, by }));
            }
            match locks.without_effect(&run, newest.token) {
                Ok(Some(waiting)) => Some(waiting),
                Ok(None) => return Ok(Err(JournalError::Frozen { run, by })),
                Err(error) => return Ok(Err(error)),
            }
        }
        _ => None,
    };
    let token = before.as_ref().map_or(0, |newest| newest.token) + 1;
    let alive = match locks.take(run, token) {
        Ok(alive) => alive,
        Err(error) => return Ok(Err(error)),
    };
    scope
        .transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO lease (run, token, pid, since_ms, boot, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            run.as_str(),
            token,
            owner.pid,
            owner.since_ms,
            boot(),
            now_ms.saturating_add(length_ms)
        ])?;
    scope.known.token(run, token);
    Ok(Ok(Taken {
        lease: Lease {
            run: run.clone(),
            token,
            _alive: alive,
        },
        before: before.map(|newest| newest.token),
        _no_effect: no_effect,
    }))
}

/// Moves the end of a lease that is still the newest.
pub(crate) fn renew(
    scope: &mut Scope<'_>,
    lease: &LeaseKey,
    expires_ms: u64,
) -> rusqlite::Result<Result<(), JournalError>> {
    let changed = scope
        .transaction
        .prepare_cached("UPDATE lease SET expires_ms = ?3 WHERE run = ?1 AND token = ?2")?
        .execute(params![lease.run.as_str(), lease.token, expires_ms])?;
    if changed == 1 {
        return Ok(Ok(()));
    }
    Ok(Err(fenced(scope.transaction, &lease.run)?))
}

/// This start of the machine: a lease from before it is dead, whatever the clock says.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// `2026-11-24 20:15:03 UTC`, by the proleptic Gregorian calendar.
fn utc(ms: u64) -> String {
    let (days, seconds) = (ms / 86_400_000, ms / 1000 % 86_400);
    // Years that begin in March: the leap day is their last one. Day 0 is 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{of_month:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_551_303, "2026-11-24 20:15:03 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds * 1000), text);
        }
    }
}
