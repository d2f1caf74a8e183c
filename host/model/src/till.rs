//! What stands around every call: money is set aside before it and settled after it, and a waiting person hears of it.

use std::time::Duration;

use crate::reply::Usage;

/// What a waiting person may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The answer is coming: so many bytes of it are there.
    Receiving {
        /// Bytes.
        bytes: u64,
    },
    /// The provider could not answer; the next call comes after a pause.
    Waiting {
        /// Why.
        why: &'a str,
        /// How long.
        pause: Duration,
    },
}

/// Keeps the money: every single call passes it before it is made, and again when it has ended.
pub trait Till: Sync {
    /// Sets aside what one call may take at most.
    ///
    /// # Errors
    /// [`Refusal`]: the call is not made.
    fn open(&self) -> Result<(), Refusal>;
    /// Puts what the call took in its place.
    ///
    /// # Errors
    /// Why it cannot be recorded.
    fn close(&self, took: &Usage) -> Result<(), String>;
    /// The key by which the provider knows this one call when it has had it already.
    fn key(&self) -> Option<String> {
        None
    }
    /// Hears what a waiting person may be told.
    fn heard(&self, heard: Heard<'_>);
}

/// Why nothing was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Less is left.
    OutOfBudget,
    /// It cannot be recorded.
    Unrecorded(String),
}
