//! One warm worker bound to one component, one grant and one view: the broker's side of each call in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use capability::{Denial, Grant, Limits, RelPath};
use confine::{Ending, Tree};
use flow::id::Role;
use serde_json::Value;
use tracing::Instrument as _;

use crate::broker::{Record, Tape, Unanswered};
use crate::error::CallError;
use crate::launch::{Worker, ended_by};
use crate::message::{Done, Failure, OpenRequest, RunRequest, ToBroker, ToWorker};
use crate::recording::Recording;
use crate::services::Services;
use crate::story::{STORY_BYTES_MAX, cut};
use crate::transcript::Entry;

/// How long a worker may take to load what is compiled already.
const OPEN_WALL: Duration = Duration::from_secs(30);

/// How much longer than the guest's own deadline the broker waits before it kills.
const GRACE: Duration = Duration::from_millis(250);

/// What the guest sees as its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// What is the guest's `/`.
    pub tree: Tree,
    /// What of it may be changed; all of it is there, behind no symbolic link.
    pub writable: Vec<RelPath>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The role function's WIT result: `{"ok": …}` or `{"err": …}`. For a plain WASI command, what it printed, as `{"ok": …}`.
    pub output: Value,
    /// What was refused, and how often.
    pub denials: Vec<(Denial, u32)>,
    /// What it took.
    pub usage: Usage,
    /// Every host call, in order.
    pub transcript: Vec<Entry>,
    /// What the guest printed: for its author; untrusted.
    pub printed: String,
}

/// What a call took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Units of work.
    pub fuel: u64,
    /// All memories and tables at their most.
    pub peak_memory_bytes: u64,
    /// Host calls, apart from WASI.
    pub host_calls: u64,
    /// Wall clock; for a call with a worker of its own, with the worker's start.
    pub wall: Duration,
}

/// A worker that holds one loaded component under one grant with one view, for any number of calls, one at a time.
///
/// It is one trust domain: nothing of it is ever used for another skill, grant or view. Each call has fresh memory, its own limits and its own
/// record; only files that it writes to the view are there for the next. An error other than [`CallError::InvalidInput`] ends the
/// session, and its worker with it: what a guest may have broken is not used again. So does a call whose future is dropped.
#[derive(Debug)]
pub struct Session {
    state: State,
    grant: Arc<Grant>,
    /// Whether the component is a plain WASI command, whose result is what it prints.
    command: bool,
}

#[derive(Debug)]
enum State {
    Warm(Box<Worker>),
    Poisoned(String),
}

impl Session {
    /// Has the worker load what is mounted for it.
    pub(crate) async fn open(
        mut worker: Worker,
        request: OpenRequest,
        grant: Arc<Grant>,
        command: bool,
    ) -> Result<Session, CallError> {
        let opening = tokio::time::timeout(OPEN_WALL, async {
            worker.send(&ToWorker::Open(request)).await?;
            worker.receive().await
        });
        let why = match opening.await {
            Ok(Ok(Some(ToBroker::Opened))) => {
                return Ok(Session {
                    state: State::Warm(Box::new(worker)),
                    grant,
                    command,
                });
            }
            Ok(Ok(Some(ToBroker::Failed(why)))) => cut(why, STORY_BYTES_MAX),
            Ok(Ok(Some(_))) => "the worker broke the protocol".into(),
            Ok(Ok(None) | Err(_)) => return Err(gone(&mut worker).await),
            // Nothing of the guest has run: the machine is too busy.
            Err(_) => {
                worker.kill().await;
                let how = format!("not opened within {} s", OPEN_WALL.as_secs());
                return Err(CallError::WorkerDied { how });
            }
        };
        worker.kill().await;
        Err(CallError::NotOpened { why })
    }

    /// Calls the role function with `input` as its parameter, in memory that no other call sees; `env` holds the values of the granted
    /// environment variables. With a recording the call is recorded, and goes on where its record ends.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::Poisoned`] when an earlier call has ended the session.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn call(
        &mut self,
        role: Role,
        input: Value,
        env: Vec<(String, String)>,
        services: &dyn Services,
        recording: Option<Recording>,
    ) -> Result<Answer, CallError> {
        let begun = Instant::now();
        let tape = Tape::new(recording).ok_or(CallError::Unreadable)?;
        // Taken out for the time of the call: a call that is dropped midway takes the worker with it.
        let given_up = State::Poisoned("a call was given up midway".into());
        let mut worker = match std::mem::replace(&mut self.state, given_up) {
            State::Warm(worker) => worker,
            State::Poisoned(why) => {
                self.state = State::Poisoned(why.clone());
                return Err(CallError::Poisoned { why });
            }
        };
        let limits = self.grant.limits();
        let request = RunRequest {
            role: role.to_string(),
            input,
            limits,
            env,
            began: tape.began().clone(),
            recorded: tape.recorded_times().clone(),
        };
        let mut record = Record::new(tape);
        let wall = Duration::from_millis(limits.wall_ms);
        let disk = worker.disk_watch();
        let conversation = converse(&mut worker, request, &self.grant, services, &mut record);
        let ended = tokio::select! {
            ended = tokio::time::timeout(wall + GRACE, conversation) => Some(ended),
            () = disk.exceeded() => None,
        };
        record.bodies.close_all(services);
        let answer = match ended {
            Some(Ok(Ok(done))) => answer(done, record, self.command, &limits, begun),
            Some(Ok(Err(Stopped::Call(error)))) => Err(error),
            Some(Ok(Err(Stopped::Gone))) => {
                record.save().await;
                Err(gone(&mut worker).await)
            }
            Some(Err(_)) => Err(CallError::OutOfTime {
                wall_ms: limits.wall_ms,
            }),
            None => Err(CallError::DiskFull),
        };
        self.state = match &answer {
            Ok(_) | Err(CallError::InvalidInput { .. }) => State::Warm(worker),
            Err(error) => {
                worker.kill().await;
                State::Poisoned(error.to_string())
            }
        };
        answer
    }

    /// Ends the worker and waits until it is gone: after it, nothing writes to the view.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn close(self) {
        if let State::Warm(mut worker) = self.state {
            worker.kill().await;
        }
    }
}

/// Why a conversation ended without a result.
enum Stopped {
    Call(CallError),
    Gone,
}

/// SIGXFSZ: one of its files grew beyond what a file may have.
const FILE_TOO_LARGE: i32 = 25;

/// Tells how a worker that no longer answers came to its end.
async fn gone(worker: &mut Worker) -> CallError {
    match worker.gone().await {
        Err(error) => error.into(),
        Ok(Some(Ending::Signalled(FILE_TOO_LARGE))) => CallError::DiskFull,
        Ok(how) => CallError::WorkerDied { how: ended_by(how) },
    }
}

async fn converse(
    worker: &mut Worker,
    request: RunRequest,
    grant: &Grant,
    services: &dyn Services,
    record: &mut Record,
) -> Result<Done, Stopped> {
    let protocol = |why: &str| Stopped::Call(CallError::Protocol { why: why.into() });
    let max = request.limits.host_calls;
    let mut message = ToWorker::Run(Box::new(request));
    loop {
        worker.send(&message).await.map_err(|_| Stopped::Gone)?;
        let told = worker.receive().instrument(tracing::debug_span!("guest"));
        let call = match told.await {
            Ok(Some(ToBroker::Call(call))) => call,
            Ok(Some(ToBroker::Done(done))) => return ended(*done, record),
            Ok(Some(ToBroker::Compiled | ToBroker::Opened | ToBroker::Failed(_))) => {
                return Err(protocol("an unexpected message"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(protocol(&error.to_string()));
            }
            Ok(None) | Err(_) => return Err(Stopped::Gone),
        };
        record.host_calls += 1;
        if record.host_calls > max {
            return Err(Stopped::Call(CallError::TooManyHostCalls { max }));
        }
        let answer = record.answer(grant, services, call).await;
        message = ToWorker::Answer(answer.map_err(|why| Stopped::Call(unanswered(why)))?);
    }
}

/// A call that ended well has asked all that it had asked before; so has one that trapped, for it traps at the same place.
fn ended(done: Done, record: &Record) -> Result<Done, Stopped> {
    if matches!(done.outcome, Ok(_) | Err(Failure::Trap(_))) {
        let end = record.end(done.begun);
        end.map_err(|why| Stopped::Call(unanswered(why)))?;
    }
    Ok(done)
}

fn unanswered(why: Unanswered) -> CallError {
    match why {
        Unanswered::Malformed => CallError::Protocol {
            why: "a malformed host call".into(),
        },
        Unanswered::Unrecorded(why) => CallError::Unrecorded { why },
        Unanswered::Diverged {
            number,
            recorded,
            asked,
        } => CallError::Diverged {
            number,
            recorded,
            asked,
        },
        Unanswered::Unknown { number, what } => CallError::Unknown {
            number,
            what: cut(what, STORY_BYTES_MAX),
        },
    }
}

fn answer(
    done: Done,
    record: Record,
    command: bool,
    limits: &Limits,
    begun: Instant,
) -> Result<Answer, CallError> {
    let output = match done.outcome {
        // A command's result is what it printed.
        Ok(_) if command => match serde_json::from_str::<Value>(done.printed.trim()) {
            Ok(value) => serde_json::json!({ "ok": value.to_string() }),
            Err(error) => {
                return Err(CallError::InvalidOutput {
                    why: format!("what the command printed is no JSON: {error}"),
                    printed: cut(done.printed, STORY_BYTES_MAX),
                });
            }
        },
        Ok(value) => value,
        Err(failure) => return Err(failure_of(failure, limits, done.printed)),
    };
    if output.to_string().len() as u64 > limits.output_bytes {
        return Err(CallError::OutputTooLarge {
            max: limits.output_bytes,
        });
    }
    Ok(Answer {
        output,
        denials: record.denials.into_iter().collect(),
        usage: Usage {
            fuel: done.fuel,
            peak_memory_bytes: done.peak_memory_bytes,
            host_calls: record.host_calls,
            wall: begun.elapsed(),
        },
        transcript: record.transcript,
        printed: cut(done.printed, limits.output_bytes as usize),
    })
}

fn failure_of(failure: Failure, limits: &Limits, printed: String) -> CallError {
    let story = |why| cut(why, STORY_BYTES_MAX);
    let printed = story(printed);
    match failure {
        Failure::Trap(message) => CallError::Trap {
            message: story(message),
            printed,
        },
        Failure::OutOfFuel => CallError::OutOfFuel,
        Failure::OutOfTime => CallError::OutOfTime {
            wall_ms: limits.wall_ms,
        },
        Failure::OutOfMemory => CallError::OutOfMemory {
            memory_bytes: limits.memory_bytes,
        },
        Failure::InvalidInput(why) => CallError::InvalidInput { why: story(why) },
        Failure::InvalidOutput(why) => CallError::InvalidOutput {
            why: story(why),
            printed,
        },
    }
}
