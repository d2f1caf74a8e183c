//! One writes at a time in a process: what many threads ask for at once becomes one transaction and one `fdatasync`.
//!
//! ```text
//! ask ───────────▶ queue ──▶ the thread ───────────────▶ engine
//! ask and wait ──▶ queue ──▶ whoever finds nobody there ──▶ engine
//! ```
//! Whoever waits and finds nobody writing writes himself, with all that is in the queue: to wake a thread and to be woken by it takes a third as
//! long as the write.
//!
//! Each write is all or nothing for itself. What it refuses (a conflict, a lost lease) it refuses before it has written anything, so the others of
//! its transaction are not touched; an error of the file undoes the transaction, and each write is then tried alone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use flow::id::RunId;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use crate::error::{JournalError, failure};
use crate::format;
use crate::ticket::{Teller, Ticket, pair};

/// More would keep the first of them waiting for the last.
const BATCH_MAX: usize = 1024;

/// The way to the file. The thread is started when it is first needed and ends with the journal.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: OnceLock<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    patience: Duration,
    queue: Queue,
    /// Taken before the queue is emptied: what was asked for first is written first.
    engine: Mutex<Engine>,
}

#[derive(Debug, Default)]
struct Engine {
    connection: Option<Connection>,
    known: Known,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<Waiting>,
    called: Condvar,
}

#[derive(Default)]
struct Waiting {
    works: Vec<Box<dyn Work>>,
    closed: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waiting", self.works.len())
    }
}

/// What a write sees.
pub(crate) struct Scope<'a> {
    pub(crate) transaction: &'a Transaction<'a>,
    pub(crate) known: &'a mut Known,
}

/// What this process has written or read last, which holds until another process writes.
#[derive(Debug, Default)]
pub(crate) struct Known {
    version: i64,
    tokens: HashMap<RunId, u64>,
    heads: HashMap<RunId, Head>,
    notes: HashMap<RunId, (u64, u64)>,
}

/// Where the events of a run end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// The run, as its events name it.
    pub(crate) id: i64,
    /// How many there are.
    pub(crate) events: u64,
    /// The position of the last.
    pub(crate) last: u64,
}

impl Known {
    fn forget(&mut self) {
        *self = Known::default();
    }

    pub(crate) fn token(&mut self, run: &RunId, token: u64) {
        // A run whose lease changes hands is not appended to by the old one again.
        self.tokens.insert(run.clone(), token);
    }

    pub(crate) fn head(&mut self, run: &RunId, head: Head) {
        set(&mut self.heads, run, head);
    }

    pub(crate) fn forget_notes(&mut self, run: &RunId) {
        self.notes.remove(run);
    }

    pub(crate) fn note(&mut self, run: &RunId, call: u64, number: u64) {
        set(&mut self.notes, run, (call, number));
    }
}

fn set<T>(map: &mut HashMap<RunId, T>, run: &RunId, value: T) {
    match map.get_mut(run) {
        Some(place) => *place = value,
        None => drop(map.insert(run.clone(), value)),
    }
}

impl Scope<'_> {
    /// The newest token of a run's leases.
    pub(crate) fn newest_token(&mut self, run: &RunId) -> rusqlite::Result<u64> {
        if let Some(token) = self.known.tokens.get(run) {
            return Ok(*token);
        }
        let token = crate::lease::token(self.transaction, run)?;
        self.known.tokens.insert(run.clone(), token);
        Ok(token)
    }

    /// Where a run's events end; `None` where it has none.
    pub(crate) fn head(&mut self, run: &RunId) -> rusqlite::Result<Option<Head>> {
        if let Some(head) = self.known.heads.get(run) {
            return Ok(Some(*head));
        }
        self.transaction
            .prepare_cached("SELECT id, events, last FROM run WHERE name = ?1")?
            .query_row([run.as_str()], |row| {
                Ok(Head {
                    id: row.get(0)?,
                    events: row.get(1)?,
                    last: row.get(2)?,
                })
            })
            .optional()
    }

    /// The number of the last note on a call.
    pub(crate) fn last_note(&mut self, run: &RunId, call: u64) -> rusqlite::Result<u64> {
        match self.known.notes.get(run) {
            Some((known, number)) if *known == call => Ok(*number),
            _ => self
                .transaction
                .prepare_cached(
                    "SELECT COALESCE(MAX(number), 0) FROM transcript WHERE run = ?1 AND call = ?2",
                )?
                .query_row(rusqlite::params![run.as_str(), call], |row| row.get(0)),
        }
    }
}

/// One write with whoever waits for it.
trait Work: Send {
    /// Does it and keeps its answer; an error is the file's, not the write's own.
    fn perform(&mut self, scope: &mut Scope<'_>) -> rusqlite::Result<()>;
    /// Tells the answer, now that it is durable, or why it is not.
    fn end(self: Box<Self>, failed: Option<JournalError>);
}

struct Asked<T, F> {
    write: F,
    answer: Option<Result<T, JournalError>>,
    teller: Teller<T>,
}

impl<T, F> Work for Asked<T, F>
where
    T: Send,
    F: FnMut(&mut Scope<'_>) -> rusqlite::Result<Result<T, JournalError>> + Send,
{
    fn perform(&mut self, scope: &mut Scope<'_>) -> rusqlite::Result<()> {
        // What an attempt before this one came to is undone.
        self.answer = None;
        self.answer = Some((self.write)(scope)?);
        Ok(())
    }

    fn end(self: Box<Self>, failed: Option<JournalError>) {
        let answer = failed.map_or(self.answer, |error| Some(Err(error)));
        self.teller
            .tell(answer.unwrap_or(Err(JournalError::Closed)));
    }
}

impl Writer {
    pub(crate) fn of(path: PathBuf, patience: Duration) -> Writer {
        Writer {
            shared: Arc::new(Shared {
                path,
                patience,
                queue: Queue::default(),
                engine: Mutex::default(),
            }),
            thread: OnceLock::new(),
        }
    }

    /// Has something written: by this function, which may be called more than once and must refuse before it writes.
    pub(crate) fn ask<T, F>(&self, write: F) -> Ticket<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Scope<'_>) -> rusqlite::Result<Result<T, JournalError>> + Send + 'static,
    {
        let ticket = self.queue(write);
        self.call_thread();
        ticket
    }

    /// The same, and waits until it is durable or refused.
    pub(crate) fn ask_and_wait<T, F>(&self, write: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnMut(&mut Scope<'_>) -> rusqlite::Result<Result<T, JournalError>> + Send + 'static,
    {
        let ticket = self.queue(write);
        if let Some(mut engine) = self.shared.engine_if_free() {
            self.shared.write_all(&mut engine);
        }
        // Somebody else writes, or others came while this one did.
        if self.shared.queue.has_work() {
            self.call_thread();
        }
        ticket.wait()
    }

    fn queue<T, F>(&self, write: F) -> Ticket<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Scope<'_>) -> rusqlite::Result<Result<T, JournalError>> + Send + 'static,
    {
        let (teller, ticket) = pair();
        self.shared.queue.push(Box::new(Asked {
            write,
            answer: None,
            teller,
        }));
        ticket
    }

    fn call_thread(&self) {
        self.thread.get_or_init(|| self.start());
        self.shared.queue.called.notify_one();
    }

    /// A machine that has no thread left closes the journal, and whoever asked is told so.
    fn start(&self) -> Option<JoinHandle<()>> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                let _closing = Closing(&shared.queue);
                shared.serve();
            });
        if thread.is_err() {
            self.shared.queue.close();
            drop(std::mem::take(&mut self.shared.queue.state().works));
        }
        thread.ok()
    }
}

impl Drop for Writer {
    /// What was asked for is written before the journal is gone.
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(Some(thread)) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // It panics never; if it did, its queue is closed and nobody waits.
            let _ = thread.join();
        }
    }
}

/// However the thread ends, nobody waits for it any longer.
struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
        drop(std::mem::take(&mut self.0.state().works));
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, work: Box<dyn Work>) {
        let mut state = self.state();
        if !state.closed {
            state.works.push(work);
        }
    }

    fn has_work(&self) -> bool {
        !self.state().works.is_empty()
    }

    fn close(&self) {
        self.state().closed = true;
        self.called.notify_one();
    }

    /// Waits for work; false when there is none and will be none.
    fn wait(&self) -> bool {
        let mut state = self.state();
        while state.works.is_empty() {
            if state.closed {
                return false;
            }
            state = self
                .called
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// All that waits.
    fn take(&self) -> Vec<Box<dyn Work>> {
        let mut state = self.state();
        if state.works.len() <= BATCH_MAX {
            return std::mem::take(&mut state.works);
        }
        let rest = state.works.split_off(BATCH_MAX);
        std::mem::replace(&mut state.works, rest)
    }
}

impl Shared {
    fn serve(&self) {
        while self.queue.wait() {
            // A panic while it was held left at most a transaction, which is undone.
            let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
            self.write_all(&mut engine);
        }
    }

    fn engine_if_free(&self) -> Option<MutexGuard<'_, Engine>> {
        match self.engine.try_lock() {
            Ok(engine) => Some(engine),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn write_all(&self, engine: &mut Engine) {
        let mut works = self.queue.take();
        if works.is_empty() {
            return;
        }
        let Engine { connection, known } = engine;
        let connection = match connection {
            Some(connection) => connection,
            None => match connect(&self.path, self.patience) {
                Ok(connected) => connection.insert(connected),
                Err(error) => return refuse(works, &error),
            },
        };
        match commit(connection, known, &mut works) {
            Ok(()) => works.into_iter().for_each(|work| work.end(None)),
            Err(error) => match failure(&self.path, &error) {
                // Each would wait as long again.
                error @ JournalError::Busy { .. } => refuse(works, &error),
                error if works.len() == 1 => refuse(works, &error),
                _ => each_alone(&self.path, connection, known, works),
            },
        }
    }
}

/// One that cannot be written takes none of the others along.
fn each_alone(
    path: &Path,
    connection: &mut Connection,
    known: &mut Known,
    works: Vec<Box<dyn Work>>,
) {
    for work in works {
        let mut alone = vec![work];
        match commit(connection, known, &mut alone) {
            Ok(()) => alone.into_iter().for_each(|work| work.end(None)),
            Err(error) => refuse(alone, &failure(path, &error)),
        }
    }
}

fn connect(path: &Path, patience: Duration) -> Result<Connection, JournalError> {
    let mut connection = format::connect(path, patience)?;
    format::reserve(&mut connection, path).map_err(|error| failure(path, &error))?;
    Ok(connection)
}

/// Each is told.
fn refuse(works: Vec<Box<dyn Work>>, error: &JournalError) {
    for work in works {
        work.end(Some(error.clone()));
    }
}

fn commit(
    connection: &mut Connection,
    known: &mut Known,
    works: &mut [Box<dyn Work>],
) -> rusqlite::Result<()> {
    let done = attempt(connection, known, works);
    if done.is_err() {
        known.forget();
    }
    done
}

fn attempt(
    connection: &mut Connection,
    known: &mut Known,
    works: &mut [Box<dyn Work>],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = transaction
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))?;
    if version != known.version {
        known.forget();
        known.version = version;
    }
    let mut scope = Scope {
        transaction: &transaction,
        known,
    };
    for work in works {
        work.perform(&mut scope)?;
    }
    transaction.commit()
}
