//! What one skill call has used of the door: its budget, and the account for the audit trail.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use capability::Limits;
use capability::origin::{HostName, Origin};

use crate::clamps::NAMES_MAX;
use crate::request::RequestError;

/// Lines of an account; a call whose account is full makes no request of a new kind.
const LINES_MAX: usize = 256;

/// Bytes of a path's first segment that an account shows.
const SEGMENT_BYTES_MAX: usize = 64;

/// One line of the account: requests that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Where to.
    pub origin: Origin,
    /// How.
    pub method: String,
    /// The first segment of the path, with its `/`.
    pub path: String,
    /// Names of the secrets that were sent along.
    pub credentials: Vec<String>,
    /// How many requests were sent, or begun to be.
    pub requests: u64,
    /// Bytes of paths, headers and bodies.
    pub sent: u64,
    /// Bytes of headers, bodies and trailers.
    pub received: u64,
}

/// What is used of a call's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Requests.
    pub requests: u64,
    /// Bytes of paths, headers and bodies.
    pub sent: u64,
    /// Bytes of headers, bodies and trailers.
    pub received: u64,
}

impl Traffic {
    /// Both together.
    pub fn plus(self, more: Traffic) -> Traffic {
        Traffic {
            requests: self.requests.saturating_add(more.requests),
            sent: self.sent.saturating_add(more.sent),
            received: self.received.saturating_add(more.received),
        }
    }

    /// What is left of it without that.
    pub fn less(self, other: Traffic) -> Traffic {
        Traffic {
            requests: self.requests.saturating_sub(other.requests),
            sent: self.sent.saturating_sub(other.sent),
            received: self.received.saturating_sub(other.received),
        }
    }
}

/// A line of a ledger.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line(usize);

/// Keeps account and budget of one call.
#[derive(Debug)]
pub(crate) struct Ledger {
    limits: Limits,
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    all: Traffic,
    names: BTreeSet<HostName>,
    uses: Vec<Use>,
}

impl Ledger {
    pub(crate) fn new(limits: Limits) -> Ledger {
        Ledger {
            limits,
            account: Mutex::default(),
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request out of the budget before anything of it leaves.
    ///
    /// # Errors
    /// [`RequestError::OutOfBudget`]; then nothing was taken.
    pub(crate) fn begin(
        &self,
        origin: &Origin,
        method: &str,
        path: &str,
        credentials: &[String],
        bytes: u64,
    ) -> Result<Line, RequestError> {
        let account = &mut *self.account();
        let sent = account.all.sent.saturating_add(bytes);
        if account.all.requests >= self.limits.requests
            || sent > self.limits.sent_bytes
            || account.all.received >= self.limits.received_bytes
        {
            return Err(RequestError::OutOfBudget);
        }
        let path = first_segment(path);
        let alike = |one: &Use| {
            one.origin == *origin
                && one.method == method
                && one.path == path
                && one.credentials == credentials
        };
        let line = match account.uses.iter().position(alike) {
            Some(line) => line,
            None if account.uses.len() >= LINES_MAX => return Err(RequestError::OutOfBudget),
            None => {
                account.uses.push(Use {
                    origin: origin.clone(),
                    method: method.to_owned(),
                    path: path.to_owned(),
                    credentials: credentials.to_vec(),
                    requests: 0,
                    sent: 0,
                    received: 0,
                });
                account.uses.len() - 1
            }
        };
        account.all.requests += 1;
        account.all.sent = sent;
        let one = &mut account.uses[line];
        one.requests += 1;
        one.sent += bytes;
        Ok(Line(line))
    }

    /// Takes a look-up out of the budget before it is made.
    ///
    /// # Errors
    /// [`RequestError::OutOfBudget`].
    pub(crate) fn look_up(&self, host: &HostName) -> Result<(), RequestError> {
        let mut account = self.account();
        if !account.names.contains(host) && account.names.len() >= NAMES_MAX {
            return Err(RequestError::OutOfBudget);
        }
        account.names.insert(host.clone());
        Ok(())
    }

    /// Counts what has come.
    ///
    /// # Errors
    /// [`RequestError::OutOfBudget`] when that is more than may come.
    pub(crate) fn receive(&self, line: Line, bytes: usize) -> Result<(), RequestError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let account = &mut *self.account();
        account.all.received = account.all.received.saturating_add(bytes);
        if let Some(one) = account.uses.get_mut(line.0) {
            one.received = one.received.saturating_add(bytes);
        }
        if account.all.received > self.limits.received_bytes {
            return Err(RequestError::OutOfBudget);
        }
        Ok(())
    }

    /// Whether so much more may come.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        self.account().all.received.saturating_add(bytes) <= self.limits.received_bytes
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.account().all
    }

    /// Changes what is used of the budget; the account keeps its lines.
    pub(crate) fn amend(&self, amended: impl FnOnce(Traffic) -> Traffic) {
        let account = &mut *self.account();
        account.all = amended(account.all);
    }

    pub(crate) fn uses(&self) -> Vec<Use> {
        self.account().uses.clone()
    }
}

/// Paths are ASCII when they come here; others end where that ends.
fn first_segment(path: &str) -> &str {
    let end = path
        .bytes()
        .enumerate()
        .position(|(at, byte)| {
            at >= SEGMENT_BYTES_MAX || !byte.is_ascii() || (at > 0 && byte == b'/')
        })
        .unwrap_or(path.len());
    &path[..end]
}
