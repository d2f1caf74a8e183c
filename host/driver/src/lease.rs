//! The leases that this process holds: one thread renews them, and tells whoever lost one.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flow::id::RunId;
use journal::{Effect, Journal, JournalError, Lease, LeaseKey, Owner, monotonic_ms};
use tokio::sync::watch;

use crate::clock::now_ms;

/// After so long without a renewal another moat may take a run over.
pub(crate) const LENGTH: Duration = Duration::from_secs(30);

/// How soon somebody hears that a person has taken the run away, long before the lease is renewed.
const LOOK: Duration = Duration::from_secs(1);

/// How it was lost, once it is.
type Lost = watch::Sender<Option<JournalError>>;

/// A run that this process drives, for as long as nobody takes it over.
#[derive(Debug)]
pub struct Held {
    journal: Journal,
    lease: Lease,
    lost: Arc<Lost>,
}

impl Held {
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Asked before something is done outside that may be late without harm.
    ///
    /// # Errors
    /// [`JournalError::Fenced`].
    pub fn holds(&self) -> Result<(), JournalError> {
        self.journal.holds(&self.lease)
    }

    /// Asked before something short is done outside that would be wrong when it is late; nobody takes the run over before what is returned is
    /// dropped.
    ///
    /// # Errors
    /// [`JournalError::Fenced`].
    pub fn effect(&self) -> Result<Effect, JournalError> {
        self.journal.effect(&self.lease)
    }

    /// Waits until it is lost.
    pub(crate) async fn lost(&self) -> JournalError {
        let mut lost = self.lost.subscribe();
        let seen = lost.wait_for(Option::is_some).await;
        // What was seen is a lock on the channel: it is let go before anything is waited for.
        let error = seen.ok().and_then(|error| error.clone());
        match error {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }
}

/// Takes leases, and renews them in a thread of its own: a runtime whose threads are all busy must not lose its runs.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    journal: Journal,
    length: Duration,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct State {
    kept: Vec<(LeaseKey, Weak<Lost>)>,
    closed: bool,
}

impl Keeper {
    pub(crate) fn new(journal: Journal, length: Duration) -> Keeper {
        let shared = Arc::new(Shared {
            journal,
            length,
            state: Mutex::default(),
            bell: Condvar::new(),
        });
        Keeper {
            shared,
            thread: Mutex::default(),
        }
    }

    /// Takes a run for this process.
    pub(crate) fn take(&self, run: &RunId) -> Result<Held, JournalError> {
        let (journal, length_ms) = (&self.shared.journal, millis(self.shared.length));
        let lease = journal.lease(run, &Owner::this(now_ms()), monotonic_ms(), length_ms)?;
        Ok(self.keep(lease))
    }

    /// The same, also from a process that drives it: that one stops.
    pub(crate) fn seize(&self, run: &RunId) -> Result<Held, JournalError> {
        let (journal, length_ms) = (&self.shared.journal, millis(self.shared.length));
        let lease = journal.seize(run, &Owner::this(now_ms()), monotonic_ms(), length_ms)?;
        Ok(self.keep(lease))
    }

    fn keep(&self, lease: Lease) -> Held {
        let shared = &self.shared;
        let lost = Arc::new(watch::Sender::new(None));
        let kept = (lease.key(), Arc::downgrade(&lost));
        shared.state().kept.push(kept);
        self.start();
        Held {
            journal: shared.journal.clone(),
            lease,
            lost,
        }
    }

    fn start(&self) {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let shared = self.shared.clone();
            let started = std::thread::Builder::new()
                .name("leases".into())
                .spawn(move || shared.renew());
            match started {
                Ok(started) => *thread = Some(started),
                Err(error) => {
                    tracing::error!(%error, "no thread renews leases: other moats may take the runs of this one over")
                }
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.bell.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Until the keeper is dropped.
    fn renew(&self) {
        let (third, mut renewed) = (self.length / 3, Instant::now());
        let mut state = self.state();
        while !state.closed {
            let waited = self.bell.wait_timeout(state, third.min(LOOK));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.closed {
                return;
            }
            state.kept.retain(|(_, lost)| lost.strong_count() > 0);
            let kept = state.kept.clone();
            drop(state);
            if renewed.elapsed() >= third {
                renewed = Instant::now();
                self.renew_all(kept);
            } else {
                self.look(kept);
            }
            state = self.state();
        }
    }

    /// Whether one was taken meanwhile.
    fn look(&self, kept: Vec<(LeaseKey, Weak<Lost>)>) {
        for (key, lost) in kept {
            if let (Err(error @ JournalError::Fenced { .. }), Some(lost)) =
                (self.journal.is_newest(&key), lost.upgrade())
            {
                lost.send_replace(Some(error));
            }
        }
    }

    fn renew_all(&self, kept: Vec<(LeaseKey, Weak<Lost>)>) {
        let (now_ms, length_ms) = (monotonic_ms(), millis(self.length));
        // All are asked for before the first is waited for: one transaction renews them.
        let asked: Vec<_> = kept
            .iter()
            .map(|(key, _)| self.journal.renew(key, now_ms, length_ms))
            .collect();
        for (ticket, (_, lost)) in asked.into_iter().zip(kept) {
            match (ticket.wait(), lost.upgrade()) {
                (Err(error @ JournalError::Fenced { .. }), Some(lost)) => {
                    lost.send_replace(Some(error));
                }
                (Err(error), Some(_)) => tracing::warn!(%error, "a lease is not renewed"),
                _ => {}
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
