//! The broker's side of host calls: asks the grant, does what is allowed, records everything.

mod bodies;
mod effects;
mod http;
mod model;
mod process;
mod progress;
mod release;
mod tape;

use std::collections::BTreeMap;
use std::time::Instant;

use capability::{Denial, Grant};
use flow::id::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::broker::tape::Next;
pub(crate) use crate::broker::tape::Tape;
use crate::message::HostCall;
use crate::message::http::{HttpError, INTERFACE as HTTP, Piece};
use crate::recording::{Answered, Question, Traffic};
use crate::services::Services;
use crate::story::cut;
use crate::transcript::{ENTRIES_MAX, Entry, Outcome};

/// How a host call was answered.
pub(crate) enum Reply {
    /// The function's WIT value.
    Done(Value),
    /// As `Done`, by a command; what was refused to that and how often, and what it used of the network.
    Ran(Value, Vec<(Denial, u32)>, Traffic),
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
    /// The guest asked otherwise than it had.
    Diverged {
        number: u64,
        recorded: String,
        asked: String,
    },
    /// It was interrupted, and nobody knows whether it happened.
    Unknown { number: u64, what: String },
}

/// What may be done once more when it was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Anything: nothing outside changes by it. That it is about to be done needs no record.
    Freely,
    /// The same once more: it comes to the same, or the other side knows by a key that it is the same.
    Safely,
    /// Nothing: it may have happened.
    Never,
}

/// What a host call is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Go {
    /// Do it.
    Do,
    /// Nothing: a person says that it happened, and its answer is lost.
    Happened,
}

/// One host call while it is answered.
pub(crate) struct Turn<'a> {
    pub(crate) grant: &'a Grant,
    pub(crate) services: &'a dyn Services,
    tape: &'a mut Tape,
    question: Question,
    was_interrupted: bool,
    /// Whether the guest may have the answer only when it is durable.
    is_durable: bool,
    /// What was read of a body before the guest has its head.
    ahead: Vec<Result<Piece, HttpError>>,
}

impl Turn<'_> {
    /// To be waited for before something is done outside; `what` is for a person who has to say whether it happened.
    pub(crate) async fn about_to(
        &mut self,
        again: Again,
        what: impl FnOnce() -> String,
    ) -> Result<Go, Unanswered> {
        self.is_durable = true;
        if self.was_interrupted {
            match (again, self.tape.resolved(self.question.number)) {
                (Again::Never, None) => {
                    return Err(Unanswered::Unknown {
                        number: self.question.number,
                        what: what(),
                    });
                }
                (Again::Never, Some(true)) => return Ok(Go::Happened),
                // Once more is another time: what becomes of it is not known from the first.
                (Again::Never, Some(false)) => self.question.number = self.tape.next_number(),
                (Again::Freely | Again::Safely, _) => return Ok(Go::Do),
            }
        }
        if again != Again::Freely {
            self.tape.ask(&self.question, again == Again::Never).await?;
        }
        Ok(Go::Do)
    }

    /// The number of this call: the same when it is done once more.
    pub(crate) fn number(&self) -> u64 {
        self.question.number
    }

    /// The lane that it came in.
    pub(crate) fn lane(&self) -> u32 {
        self.question.lane
    }

    /// Whether its answer is recorded.
    pub(crate) fn is_recorded(&self) -> bool {
        self.tape.is_recording()
    }

    /// Has what was read of a body recorded with its head.
    pub(crate) fn read_ahead(&mut self, ahead: Vec<Result<Piece, HttpError>>) {
        self.ahead = ahead;
    }
}

/// The record of one call, kept while it runs.
pub(crate) struct Record {
    pub(crate) transcript: Vec<Entry>,
    pub(crate) denials: BTreeMap<Denial, u32>,
    pub(crate) host_calls: u64,
    pub(crate) bodies: bodies::Bodies,
    progress: progress::Pace,
    tape: Tape,
}

impl Record {
    pub(crate) fn new(tape: Tape) -> Record {
        Record {
            transcript: Vec::new(),
            denials: BTreeMap::new(),
            host_calls: 0,
            bodies: bodies::Bodies::default(),
            progress: progress::Pace::default(),
            tape,
        }
    }

    /// Answers one host call, from what is recorded or by doing it.
    pub(crate) async fn answer(
        &mut self,
        grant: &Grant,
        services: &dyn Services,
        call: HostCall,
    ) -> Result<Value, Unanswered> {
        let begun = Instant::now();
        if !self.tape.tell(call.time) {
            return Err(Unanswered::Malformed);
        }
        let is_granted = grant.interfaces().contains(call.interface.as_str());
        let (question, args) = question(call.interface, call.function, call.lane, call.args);
        // Linked is not asked: a worker under the guest's control may send what was never linked.
        if !is_granted {
            return self
                .account(services, question, Reply::Malformed, begun)
                .await;
        }
        // Words have no effect and no answer: they are not recorded.
        if question.interface == "moat:host/progress" {
            let reply = progress::answer(&mut self.progress, services, &question.function, args);
            return self.account(services, question, reply, begun).await;
        }
        let (question, was_interrupted) = match self.tape.next(question, call.begun)? {
            Next::Again(answered) => return self.again(grant, services, *answered, args).await,
            Next::Interrupted(question) => (question, true),
            Next::Fresh(question) => (question, false),
        };
        let mut turn = Turn {
            grant,
            services,
            tape: &mut self.tape,
            question,
            was_interrupted,
            is_durable: false,
            ahead: Vec::new(),
        };
        let function = turn.question.function.clone();
        let reply = match turn.question.interface.as_str() {
            "moat:host/process" => process::answer(&mut turn, &function, args).await?,
            "moat:host/model" => model::answer(&mut turn, &function, args).await?,
            HTTP => http::answer(&mut self.bodies, &mut turn, &function, args).await?,
            "moat:host/effects" => effects::answer(&mut turn, &function, args).await?,
            "moat:host/release" => release::answer(&mut turn, &function, args).await?,
            _ => Reply::Malformed,
        };
        let Turn {
            question,
            is_durable,
            ahead,
            ..
        } = turn;
        self.keep(services, question, reply, (is_durable, ahead), begun)
            .await
    }

    /// Records an answer before the guest has it.
    async fn keep(
        &mut self,
        services: &dyn Services,
        question: Question,
        reply: Reply,
        (is_durable, ahead): (bool, Vec<Result<Piece, HttpError>>),
        begun: Instant,
    ) -> Result<Value, Unanswered> {
        if !self.tape.is_recording() {
            return self.account(services, question, reply, begun).await;
        }
        let kept = question.clone();
        let denial = match &reply {
            Reply::Denied(_, denial) => Some(denial.clone()),
            _ => None,
        };
        let (denials, traffic) = match &reply {
            Reply::Ran(_, denials, traffic) => (denials.clone(), *traffic),
            _ => Default::default(),
        };
        let outcome = outcome(&reply);
        let answer = self.account(services, question, reply, begun).await?;
        let bytes = size(&answer) + ahead.iter().map(piece_size).sum::<usize>();
        let answered = Answered {
            question: kept,
            outcome,
            answer: answer.clone(),
            denial,
            denials,
            traffic,
            ahead,
            duration_ms: begun.elapsed().as_millis() as u64,
            time: Default::default(),
        };
        self.tape.answer(answered, bytes, is_durable).await?;
        Ok(answer)
    }

    /// Gives an answer once more; nothing is done.
    async fn again(
        &mut self,
        grant: &Grant,
        services: &dyn Services,
        answered: Answered,
        args: Vec<Value>,
    ) -> Result<Value, Unanswered> {
        if answered.question.interface == HTTP {
            http::again(&mut self.bodies, grant, services, &answered, &args);
        }
        services.replayed(&answered, &args);
        let reply = match (answered.outcome, answered.denial) {
            (Outcome::Done, _) => Reply::Ran(answered.answer, answered.denials, answered.traffic),
            (Outcome::Denied, Some(denial)) => Reply::Denied(answered.answer, denial),
            (Outcome::Denied | Outcome::Malformed, _) => Reply::Malformed,
        };
        self.account(services, answered.question, reply, Instant::now())
            .await
    }

    /// The end of a call that went well: nothing of the record may be left.
    pub(crate) fn end(&self, begun: u32) -> Result<(), Unanswered> {
        self.tape.unplayed(begun, "nothing more: it has ended")
    }

    /// Makes durable what the guest has had so far: its worker is lost, and the call may be taken up again.
    pub(crate) async fn save(&mut self) {
        if self.tape.write().await.is_err() {
            tracing::warn!("the end of a call's record is lost: it is asked for again");
        }
    }

    /// Notes what became of a host call, and gives its answer.
    async fn account(
        &mut self,
        services: &dyn Services,
        question: Question,
        reply: Reply,
        begun: Instant,
    ) -> Result<Value, Unanswered> {
        let outcome = outcome(&reply);
        let (value, denial) = match reply {
            Reply::Done(value) => (Some(value), None),
            Reply::Ran(value, denials, _) => {
                for (denial, times) in denials {
                    self.deny(denial, times);
                }
                (Some(value), None)
            }
            Reply::Denied(value, denial) => (Some(value), Some(denial)),
            Reply::Malformed => (None, None),
        };
        let entry = Entry {
            interface: question.interface,
            function: question.function,
            request: question.request,
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

fn outcome(reply: &Reply) -> Outcome {
    match reply {
        Reply::Done(_) | Reply::Ran(..) => Outcome::Done,
        Reply::Denied(..) => Outcome::Denied,
        Reply::Malformed => Outcome::Malformed,
    }
}

/// Of a question's arguments, for people.
const WHAT_BYTES_MAX: usize = 300;

/// What is asked. A request tells beside it which bodies were dropped: when a guest's runtime does that is not the guest's doing.
fn question(
    interface: String,
    function: String,
    lane: u32,
    args: Vec<Value>,
) -> (Question, Vec<Value>) {
    let asked = match interface == HTTP {
        true => &args[..args.len().min(1)],
        false => &args[..],
    };
    let text = serde_json::to_vec(asked).unwrap_or_default();
    let what = String::from_utf8_lossy(&text[..text.len().min(WHAT_BYTES_MAX)]);
    let question = Question {
        number: 0,
        lane,
        interface: cut(interface, 64),
        function: cut(function, 64),
        request: Digest::of(&text),
        what: what.into_owned(),
    };
    (question, args)
}

/// About how long an answer is once it is written.
fn size(answer: &Value) -> usize {
    match answer {
        Value::String(text) => text.len() + 2,
        Value::Array(values) => values.iter().map(size).sum::<usize>() + values.len() + 2,
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| name.len() + size(value) + 4);
            fields.sum::<usize>() + 2
        }
        _ => 8,
    }
}

fn piece_size(piece: &Result<Piece, HttpError>) -> usize {
    match piece {
        Ok(Piece::Bytes(bytes)) => bytes.len() * 4 / 3,
        _ => 64,
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
