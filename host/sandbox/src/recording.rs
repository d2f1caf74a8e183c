//! What is recorded of a call, so that it can be taken up again where it was interrupted: the host's answers, and what the guest had of time and chance.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use capability::Denial;
use flow::id::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::message::http::{HttpError, Piece};
use crate::transcript::Outcome;

/// Makes entries of one call durable. Cancel-safe: an entry is recorded or not, never in part.
#[async_trait]
pub trait Recorder: Send + Sync {
    /// Appends entries; they are durable, all of them and in this order, when it returns. An error, which says why they cannot be, ends the call.
    async fn record(&self, notes: Vec<Note>) -> Result<(), String>;
}

/// Where a call is recorded, and what is recorded of it already.
#[derive(Clone)]
pub struct Recording {
    /// For what comes.
    pub recorder: Arc<dyn Recorder>,
    /// What was recorded when the call was interrupted; empty for a call that begins.
    pub notes: Vec<Note>,
    /// What people know of host calls that were asked for and have no answer, by number: whether it happened.
    pub resolved: BTreeMap<u64, bool>,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recording({} notes)", self.notes.len())
    }
}

/// One entry of the record of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// The first one.
    Began(Began),
    /// Something is about to be done outside.
    Asked(Asked),
    /// A host call has its answer.
    Answered(Box<Answered>),
}

/// What makes the guest's chance and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Began {
    /// Of all that is random to the guest.
    pub seed: [u8; 32],
    /// The time at its beginning, in nanoseconds since 1970.
    pub at_ns: u64,
}

/// A host call as the guest asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Question {
    /// 1 for the first recorded one of its call.
    pub number: u64,
    /// What is asked in one lane comes in the same order each time: 0 is the guest's own, each of its requests has another.
    pub lane: u32,
    /// The interface, without version.
    pub interface: String,
    /// The function.
    pub function: String,
    /// Of the arguments.
    pub request: Digest,
    /// The beginning of the arguments, for people; untrusted.
    pub what: String,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question {
            interface,
            function,
            request,
            what,
            ..
        } = self;
        write!(f, "{interface}.{function} {what} ({})", request.short())
    }
}

/// A host call that is about to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Asked {
    /// What.
    pub question: Question,
    /// Whether it is not to be done a second time.
    #[serde(default)]
    pub once: bool,
    /// What the guest knew of time when it asked.
    pub time: Times,
}

/// A host call with its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Answered {
    /// What.
    pub question: Question,
    /// What became of it.
    pub outcome: Outcome,
    /// The WIT value that the guest has.
    pub answer: Value,
    /// Why it was refused, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<Denial>,
    /// What was refused to the command that it ran, and how often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<(Denial, u32)>,
    /// What the command that it ran used of the call's network.
    #[serde(default, skip_serializing_if = "Traffic::is_none")]
    pub traffic: Traffic,
    /// What was read of the answer's body before the guest had its head.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<Result<Piece, HttpError>>,
    /// From request to answer.
    pub duration_ms: u64,
    /// What the guest knew of time when it asked, where that is not recorded yet.
    #[serde(default, skip_serializing_if = "Times::is_empty")]
    pub time: Times,
}

/// What is used of a call's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Traffic {
    /// Requests.
    pub requests: u64,
    /// Bytes that were sent.
    pub sent: u64,
    /// Bytes that came.
    pub received: u64,
}

impl Traffic {
    fn is_none(&self) -> bool {
        *self == Traffic::default()
    }
}

/// How a guest's clock went: it gives one nanosecond more at each reading, and the real time where that is ahead.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Times {
    /// How often the clock was read so far.
    pub readings: u64,
    /// Readings that took the real time, by their number, and what they gave: nanoseconds since the beginning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ticks: Vec<(u64, u64)>,
}

/// Ticks of one call; the clock takes fewer, however long it is looked at.
const TICKS_MAX: usize = 1 << 18;

impl Times {
    fn is_empty(&self) -> bool {
        *self == Times::default()
    }

    /// Adds what was told since; false when that cannot follow.
    pub(crate) fn add(&mut self, more: Times) -> bool {
        let mut last = self.ticks.last().copied().unwrap_or_default();
        last.0 = last.0.max(self.readings);
        for tick in &more.ticks {
            if tick.0 <= last.0 || tick.1 <= last.1 || tick.0 > more.readings {
                return false;
            }
            last = *tick;
        }
        if more.readings < self.readings || self.ticks.len() + more.ticks.len() > TICKS_MAX {
            return false;
        }
        self.readings = more.readings;
        self.ticks.extend(more.ticks);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_only_goes_on() {
        let times = |readings, ticks: &[(u64, u64)]| Times {
            readings,
            ticks: ticks.to_vec(),
        };
        let mut all = Times::default();
        assert!(all.add(times(0, &[])));
        assert!(all.add(times(5, &[(1, 100), (5, 200)])));
        assert!(all.add(times(5, &[])));
        for wrong in [
            times(4, &[]),
            times(9, &[(5, 300)]),
            times(9, &[(6, 200)]),
            times(9, &[(7, 300), (7, 400)]),
            times(9, &[(7, 300), (8, 300)]),
            times(9, &[(10, 300)]),
        ] {
            assert!(!all.clone().add(wrong.clone()), "{wrong:?}");
        }
        assert!(all.add(times(9, &[(6, 201), (9, 202)])));
        assert_eq!((all.readings, all.ticks.len()), (9, 4));
        let flood = (10..TICKS_MAX as u64 + 10).map(|n| (n, 1000 + n));
        assert!(!all.add(times(u64::MAX, &flood.collect::<Vec<_>>())));
    }
}
