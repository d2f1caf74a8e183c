//! The append-only log of runs, in SQLite, with leases, notes on calls, and blobs by digest. It never knows what an event means.
//!
//! An append is durable when it returns (WAL, `synchronous=FULL`: one `fdatasync`, shared by all that are made at once). A crash loses at most what
//! was never acknowledged, and never part of one append. Events are numbered from 1 without gaps. Who appends has the run's newest lease: of two
//! writers of one run the older is refused.

mod append;
mod error;
mod follow;
mod format;
mod lease;
mod lock;
mod read;
mod ticket;
mod writer;

pub use error::JournalError;
pub use follow::Follow;
pub use lease::{Holder, Lease, LeaseKey, Owner, monotonic_ms};
pub use locks::Keeper;
pub use read::{Note, Placed, RunSummary, Standing, Stored};
pub use ticket::Ticket;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flow::id::{Digest, RunId};
use rusqlite::{Connection, OptionalExtension as _};

use crate::error::{failure, unusable};
use crate::lease::Claim;
use crate::lock::Locks;
use crate::writer::Writer;

/// A larger blob is a mistake: evidence and diffs are capped long before.
const BLOB_BYTES_MAX: usize = 64 << 20;

/// One journal, shared by all threads of a process; many processes may have it open.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    // Dropped first: the reader's connection is then the last, and brings the log into the file.
    writer: Writer,
    reader: Mutex<Connection>,
    path: PathBuf,
    locks: Locks,
}

/// Something that is being done outside under a lease: nobody takes the run over while this is kept.
#[derive(Debug)]
pub struct Effect {
    _held: File,
}

impl Journal {
    /// Opens the journal of a state directory, or makes it, readable by its owner only. One of an older format is brought up to this one.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(directory: &Path) -> Result<Journal, JournalError> {
        Journal::open_within(directory, format::PATIENCE)
    }

    /// The same, and waits for other processes no longer than this, now and whenever it writes.
    ///
    /// # Errors
    /// [`JournalError`]; [`JournalError::Busy`] names who was waited for.
    pub fn open_within(directory: &Path, patience: Duration) -> Result<Journal, JournalError> {
        let path = directory.join("journal.sqlite");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| unusable(&path, &error))?;
        // Two processes that make the journal at once would trip over each other's switch to WAL, which waits for nobody.
        let _one_at_a_time = lock::hold(&directory.join("opening.lock"), patience)?;
        let locks = Locks::of(directory);
        let reader = format::open(&path, patience, &locks)?;
        Ok(Journal(Arc::new(Inner {
            writer: Writer::of(path.clone(), patience),
            reader: Mutex::new(reader),
            locks,
            path,
        })))
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held left at most a statement, which is reset when it is used again.
        self.0.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> JournalError {
        let path = self.0.path.clone();
        move |error| failure(&path, &error)
    }

    /// Takes a run: whoever has the lease may append to it. `now_ms` is [`monotonic_ms`]; after `length_ms` without [`Journal::renew`], another
    /// may take it from a process that lives, and at once from one that does not.
    ///
    /// # Errors
    /// [`JournalError::Held`] when another has it, [`JournalError::Frozen`] when that one stands still in the middle of an effect.
    pub fn lease(
        &self,
        run: &RunId,
        owner: &Owner,
        now_ms: u64,
        length_ms: u64,
    ) -> Result<Lease, JournalError> {
        self.take(run, owner, (now_ms, length_ms), Claim::Left)
    }

    /// The same, also from a process that lives and goes on: it can append no more, and hears of it when it next tries, or renews. For a person
    /// who wants a run to end.
    ///
    /// # Errors
    /// [`JournalError::Frozen`] while the holder is in the middle of an effect, which nobody interrupts.
    pub fn seize(
        &self,
        run: &RunId,
        owner: &Owner,
        now_ms: u64,
        length_ms: u64,
    ) -> Result<Lease, JournalError> {
        self.take(run, owner, (now_ms, length_ms), Claim::Seized)
    }

    fn take(
        &self,
        run: &RunId,
        owner: &Owner,
        times: (u64, u64),
        claim: Claim,
    ) -> Result<Lease, JournalError> {
        let locks = &self.0.locks;
        let taken = {
            let (run, owner, locks) = (run.clone(), owner.clone(), locks.clone());
            self.0
                .writer
                .ask_and_wait(move |scope| lease::take(scope, &locks, &run, &owner, times, claim))?
        };
        if let Some(before) = taken.before {
            locks.clear(run, before);
        }
        Ok(taken.lease)
    }

    /// Moves the end of a lease to `length_ms` from now.
    pub fn renew(&self, lease: &LeaseKey, now_ms: u64, length_ms: u64) -> Ticket<()> {
        let (key, expires_ms) = (lease.clone(), now_ms.saturating_add(length_ms));
        self.0
            .writer
            .ask(move |scope| lease::renew(scope, &key, expires_ms))
    }

    /// Whether the lease is the newest of its run still: asked before anything is done outside.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] when it is not.
    pub fn holds(&self, lease: &Lease) -> Result<(), JournalError> {
        self.is_newest(&lease.key())
    }

    /// The same, by the lease's name.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] when it is not.
    pub fn is_newest(&self, lease: &LeaseKey) -> Result<(), JournalError> {
        let connection = self.reader();
        let newest = lease::token(&connection, &lease.run).map_err(self.failed())?;
        if newest == lease.token {
            return Ok(());
        }
        Err(lease::fenced(&connection, &lease.run).map_err(self.failed())?)
    }

    /// The same, and nobody takes the run over before what is returned is dropped: for what is short, and wrong when it is done late.
    ///
    /// # Errors
    /// [`JournalError::Fenced`].
    pub fn effect(&self, lease: &Lease) -> Result<Effect, JournalError> {
        let held = self.0.locks.effect(lease.run(), lease.token())?;
        self.holds(lease)?;
        Ok(Effect { _held: held })
    }

    /// Who took a run last, and whether that process lives.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn holder(&self, run: &RunId) -> Result<Option<Holder>, JournalError> {
        lease::holder(&self.reader(), &self.0.locks, run).map_err(self.failed())
    }

    /// Whether some process drives the run now.
    pub fn is_driven(&self, run: &RunId) -> bool {
        let holder = self.holder(run).ok().flatten();
        holder.is_some_and(|holder| holder.drives(monotonic_ms()))
    }

    /// Takes away the lock files of leases whose processes died: of runs that nobody took up after them, such as those that had ended.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn sweep(&self) -> Result<(), JournalError> {
        let locks = &self.0.locks;
        for (run, token) in locks.all()? {
            // One that the journal does not know is being taken.
            let newest = lease::token(&self.reader(), &run).map_err(self.failed())?;
            if token <= newest && !locks.is_alive(&run, token) {
                locks.clear(&run, token);
            }
        }
        Ok(())
    }

    /// All runs that some process drives now: only those are looked at of which there is a sign of life.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn driven(&self) -> Result<BTreeSet<RunId>, JournalError> {
        let signs = self.0.locks.runs()?;
        Ok(signs
            .into_iter()
            .filter(|run| self.is_driven(run))
            .collect())
    }

    /// Appends events after the one numbered `after`, all or none, says how the run stands then, and returns the last one's number.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] when the lease is lost, [`JournalError::Conflict`] when the run is not at `after`.
    pub fn append(
        &self,
        lease: &Lease,
        after: u64,
        at_ms: u64,
        standing: Standing,
        bodies: &[Vec<u8>],
    ) -> Result<u64, JournalError> {
        let write = batch(lease, after, at_ms, standing, bodies.to_vec());
        self.0.writer.ask_and_wait(write)
    }

    /// The same for a task, which awaits the answer.
    pub fn append_soon(
        &self,
        lease: &Lease,
        after: u64,
        at_ms: u64,
        standing: Standing,
        bodies: Vec<Vec<u8>>,
    ) -> Ticket<u64> {
        let write = batch(lease, after, at_ms, standing, bodies);
        self.0.writer.ask(write)
    }

    /// Lists the runs that are due, and those of which that is not known, the oldest first. It reads no event.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn due(&self) -> Result<Vec<(RunId, Standing)>, JournalError> {
        let runs = read::due(&self.reader()).map_err(self.failed())?;
        let known = |(name, standing): (String, Standing)| Ok((self.id(&name)?, standing));
        runs.into_iter().map(known).collect()
    }

    /// Says how runs stand, as whoever read their first so many events has it; nothing is said of a run that has more of them by now.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn stand(&self, runs: Vec<(RunId, u64, Standing)>) -> Result<(), JournalError> {
        self.0
            .writer
            .ask_and_wait(move |scope| append::standings(scope, &runs))
    }

    /// Appends notes on a call of a run, all or none, the first of them with this number.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] when the lease is lost, [`JournalError::Conflict`] when the call has other notes than those before it.
    pub fn note(
        &self,
        lease: &Lease,
        call: u64,
        number: u64,
        bodies: &[Vec<u8>],
    ) -> Result<(), JournalError> {
        let (key, bodies) = (lease.key(), bodies.to_vec());
        self.0
            .writer
            .ask_and_wait(move |scope| append::notes(scope, &key, call, number, &bodies, &[]))
    }

    /// The same for a task, which awaits the answer; with them the blobs that they name are kept.
    pub fn note_soon(
        &self,
        lease: &Lease,
        call: u64,
        number: u64,
        bodies: Vec<Vec<u8>>,
        blobs: Vec<Vec<u8>>,
    ) -> Ticket<()> {
        let key = lease.key();
        self.0
            .writer
            .ask(move |scope| append::notes(scope, &key, call, number, &bodies, &blobs))
    }

    /// Takes away all notes of a run that nobody drives again, and each of these blobs that no other note names. A blob is given with the body of
    /// a note that names it.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn forget_notes(
        &self,
        run: &RunId,
        blobs: Vec<(Digest, Vec<u8>)>,
    ) -> Result<(), JournalError> {
        let run = run.clone();
        self.0
            .writer
            .ask_and_wait(move |scope| append::forget(scope, &run, &blobs))
    }

    /// Lists runs that have notes and whose last event was recorded before this, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn noted_before(&self, at_ms: u64) -> Result<Vec<RunId>, JournalError> {
        let runs = read::noted_before(&self.reader(), at_ms).map_err(self.failed())?;
        // What is no run's name was written by something else, and is nobody's to take away.
        Ok(runs.iter().filter_map(|run| run.parse().ok()).collect())
    }

    /// Reads all notes of a run.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn notes_of(&self, run: &RunId) -> Result<Vec<Note>, JournalError> {
        read::notes_of(&self.reader(), run).map_err(self.failed())
    }

    /// Reads the notes on a call.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn notes(&self, run: &RunId, call: u64) -> Result<Vec<Note>, JournalError> {
        read::notes(&self.reader(), run, call).map_err(self.failed())
    }

    /// Whether there are notes on a call.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn has_notes(&self, run: &RunId, call: u64) -> Result<bool, JournalError> {
        read::has_notes(&self.reader(), run, call).map_err(self.failed())
    }

    /// Reads the events of a run after the one numbered `after`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn read(&self, run: &RunId, after: u64) -> Result<Vec<Stored>, JournalError> {
        let read = read::events(&self.reader(), run, after).map_err(self.failed())?;
        read.map_err(|number| self.damaged(format!("event {number} of run {run} is missing")))
    }

    /// Reads the events of all runs after a position, in the order in which they were written: 0 for all of them.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn each(&self, after: u64, visit: &mut dyn FnMut(Placed<'_>)) -> Result<(), JournalError> {
        // A connection of its own: whoever visits may ask the journal for more.
        let connection = format::connect(&self.0.path, format::PATIENCE)?;
        read::each(&connection, after, visit).map_err(self.failed())
    }

    /// Reads the events of all runs as they come, those after a position first: 0 for all of them.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn follow(&self, after: u64) -> Result<Follow, JournalError> {
        Follow::of(&self.0.path, after)
    }

    /// Lists the runs, the newest last.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn runs(&self) -> Result<Vec<RunSummary>, JournalError> {
        let rows = read::runs(&self.reader()).map_err(self.failed())?;
        let summary = |(run, events, first_at_ms, last_at_ms): read::Row| {
            Ok(RunSummary {
                run: self.id(&run)?,
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
        let (digest, bytes) = (Digest::of(bytes), bytes.to_vec());
        if self.has_blob(&digest)? {
            return Ok(digest);
        }
        self.0
            .writer
            .ask_and_wait(move |scope| append::blob(scope, &digest, &bytes))
    }

    fn has_blob(&self, digest: &Digest) -> Result<bool, JournalError> {
        let connection = self.reader();
        let has = || {
            connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM blob WHERE digest = ?1)")?
                .query_row([digest.as_str()], |row| row.get(0))
        };
        has().map_err(self.failed())
    }

    /// Gives the bytes of a digest, checked against it; `None` when they were never kept.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] when the bytes are not those of the digest.
    pub fn get_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, JournalError> {
        let found: Option<Vec<u8>> = self
            .reader()
            .query_row(
                "SELECT bytes FROM blob WHERE digest = ?1",
                [digest.as_str()],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.failed())?;
        match found {
            Some(bytes) if Digest::of(&bytes) != *digest => {
                Err(self.damaged(format!("blob {digest} has other bytes")))
            }
            found => Ok(found),
        }
    }

    fn id(&self, name: &str) -> Result<RunId, JournalError> {
        name.parse()
            .map_err(|error: flow::id::InvalidId| self.damaged(error.to_string()))
    }

    fn damaged(&self, why: String) -> JournalError {
        JournalError::Damaged {
            path: self.0.path.clone(),
            why,
        }
    }
}

/// What the writer does for an append.
fn batch(
    lease: &Lease,
    after: u64,
    at_ms: u64,
    standing: Standing,
    bodies: Vec<Vec<u8>>,
) -> impl FnMut(&mut writer::Scope<'_>) -> rusqlite::Result<Result<u64, JournalError>> + Send + 'static
{
    let key = lease.key();
    move |scope| {
        let batch = append::Batch {
            after,
            at_ms,
            bodies: &bodies,
            standing,
        };
        append::events(scope, &key, batch)
    }
}
