//! The broker's side of host calls: asks the grant, does what is allowed, records everything.

mod http;
mod model;
mod process;
mod progress;
mod release;

use std::collections::BTreeMap;
use std::time::Instant;

use capability::{Denial, Grant};
use flow::id::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::services::Services;
use crate::transcript::{ENTRIES_MAX, Entry, Outcome};

/// How a host call was answered.
pub(crate) enum Reply {
    /// The function's WIT value.
    Done(Value),
    /// As `Done`, by a command; what was refused to that, and how often.
    Ran(Value, Vec<(Denial, u32)>),
    /// Not granted: what the guest sees, and what the author's log says.
    Denied(Value, Denial),
    /// The arguments have no known form: only a worker that is no longer ours sends such.
    Malformed,
}

/// Why a host call has no answer.
pub(crate) enum Unanswered {
    /// The worker broke the protocol.
    Malformed,
    /// It could not be recorded.
    Unrecorded(String),
}

/// The record of one call, kept while it runs.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) transcript: Vec<Entry>,
    pub(crate) denials: BTreeMap<Denial, u32>,
    pub(crate) host_calls: u64,
    pub(crate) progress: progress::Pace,
    pub(crate) bodies: http::Bodies,
}

impl Record {
    /// Answers one host call.
    pub(crate) async fn answer(
        &mut self,
        grant: &Grant,
        services: &dyn Services,
        interface: &str,
        function: &str,
        args: Vec<Value>,
    ) -> Result<Value, Unanswered> {
        let begun = Instant::now();
        let request = Digest::of(&serde_json::to_vec(&args).unwrap_or_default());
        // Linked is not asked: a worker under the guest's control may send what was never linked.
        let reply = if grant.interfaces().contains(interface) {
            match interface {
                "moat:host/process" => process::answer(grant, services, function, args).await,
                "moat:host/model" => model::answer(grant, services, function, args).await,
                "moat:host/progress" => {
                    progress::answer(&mut self.progress, services, function, args)
                }
                crate::message::http::INTERFACE => {
                    http::answer(&mut self.bodies, grant, services, function, args).await
                }
                "moat:host/release" => release::answer(grant, services, function, args).await,
                _ => Reply::Malformed,
            }
        } else {
            Reply::Malformed
        };
        let (outcome, value, denial) = match reply {
            Reply::Done(value) => (Outcome::Done, Some(value), None),
            Reply::Ran(value, denials) => {
                for (denial, times) in denials {
                    self.deny(denial, times);
                }
                (Outcome::Done, Some(value), None)
            }
            Reply::Denied(value, denial) => (Outcome::Denied, Some(value), Some(denial)),
            Reply::Malformed => (Outcome::Malformed, None, None),
        };
        let entry = Entry {
            interface: interface.chars().take(64).collect(),
            function: function.chars().take(64).collect(),
            request,
            outcome,
            duration_ms: begun.elapsed().as_millis() as u64,
        };
        let heard = services.heard(&entry, denial.as_ref()).await;
        if let Some(denial) = denial {
            self.deny(denial, 1);
        }
        if self.transcript.len() < ENTRIES_MAX {
            self.transcript.push(entry);
        }
        heard.map_err(Unanswered::Unrecorded)?;
        value.ok_or(Unanswered::Malformed)
    }
}

impl Record {
    /// Counts a denial; a guest that makes up ever new ones is told of as one that asked for much.
    fn deny(&mut self, denial: Denial, times: u32) {
        let denial = if self.denials.len() < DENIALS_MAX || self.denials.contains_key(&denial) {
            denial
        } else {
            Denial::new(
                denial.capability,
                "more of the kind",
                "as many lines as there are different ones",
            )
        };
        let counted = self.denials.entry(denial).or_insert(0);
        *counted = counted.saturating_add(times);
    }
}

/// Different denials of one call that are told apart.
const DENIALS_MAX: usize = 1000;

/// A WIT result as JSON.
pub(crate) fn result<T: Serialize, E: Serialize>(result: Result<T, E>) -> Value {
    match result {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "err": error }),
    }
}

/// The one argument of a function.
pub(crate) fn only<T: DeserializeOwned>(mut args: Vec<Value>) -> Option<T> {
    let one = args.pop().filter(|_| args.is_empty())?;
    serde_json::from_value(one).ok()
}
