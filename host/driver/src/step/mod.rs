//! What each step does, one file each, named as in `flow`.

pub(crate) mod baseline;
pub(crate) mod deploy;
pub(crate) mod gate;
pub(crate) mod implement;
pub(crate) mod intake;
pub(crate) mod merge;
pub(crate) mod plan;
pub(crate) mod skill;
pub(crate) mod tasks;

use confine::ConfineError;
use flow::Event;
use flow::event::{Cause, Failure};
use flow::grant::Blocked;
use flow::id::Digest;
use flow::role::Evidence;
use flow::step::Step;

use crate::context::Context;

/// A step's end without a result. Boxed: it is rare and large.
pub(crate) type Failed = Box<Ended>;

/// Why a step has no result, and what happened in it all the same.
pub(crate) struct Ended {
    pub(crate) failure: Failure,
    pub(crate) before: Vec<Event>,
    /// What its skill lacked, if that ended it.
    pub(crate) blocked: Option<Blocked>,
    /// Whether the reason is none of the skill's, so that the step stays under way where it has a record to go on from.
    pub(crate) goes_on: bool,
    /// What to record instead of a failure: the step was taken up again, and went otherwise or came to what nobody knows.
    pub(crate) instead: Option<Event>,
}

impl Ended {
    /// The events of a step that ended so; `is_recorded` says whether it has a record.
    pub(crate) fn events(self, step: Step, is_recorded: bool) -> Vec<Event> {
        let has_ended = self.instead.is_some() || self.blocked.is_some();
        if self.goes_on && is_recorded && !has_ended {
            // What it used is told of when it has ended.
            let failure = self.failure;
            return vec![Event::StepInterrupted { step, failure }];
        }
        let mut events = self.before;
        events.push(match (self.instead, self.blocked) {
            (Some(event), _) => event,
            (None, Some(blocked)) => Event::Blocked { step, blocked },
            (None, None) => Event::StepFailed {
                step,
                failure: self.failure,
            },
        });
        events
    }
}

/// Does a step and gives the events that came of it.
pub(crate) async fn perform(context: &Context, step: &Step) -> Result<Vec<Event>, Failed> {
    match step {
        Step::Intake => intake::perform(context).await,
        Step::Baseline => baseline::perform(context).await,
        Step::Implement { attempt } => implement::perform(context, *attempt).await,
        Step::Gate { gate, subject } => gate::perform(context, gate, subject).await,
        Step::PrepareMerge => merge::prepare(context),
        Step::MoveBranch { from, to } => merge::move_branch(context, from, to),
        Step::Deploy { commit } => deploy::perform(context, commit).await,
        Step::Plan => plan::perform(context).await,
        Step::Integrate => tasks::integrate(context),
    }
}

/// Makes a failure; its signature leaves out what differs from time to time.
pub(crate) fn failed(
    cause: Cause,
    source: &str,
    title: impl Into<String>,
    text: impl Into<String>,
) -> Failed {
    let evidence = Evidence {
        source: source.into(),
        title: title.into(),
        text: text.into(),
    };
    let signature = signature(&[&evidence.title, &evidence.text]);
    Box::new(Ended {
        failure: Failure {
            cause,
            evidence,
            signature,
        },
        before: vec![],
        blocked: None,
        goes_on: false,
        instead: None,
    })
}

/// A failure of the machine or of the configuration: a person must act.
pub(crate) fn setup(source: &str, error: &dyn std::fmt::Display) -> Failed {
    interrupted(Cause::Setup, source, error.to_string())
}

/// Why a confined program has no end: what killed its launcher may not kill the next one, and all else is the machine's.
pub(crate) fn cause_of(error: &ConfineError) -> Cause {
    match error {
        ConfineError::Launcher { .. } | ConfineError::Lost { .. } => Cause::Passing,
        ConfineError::Setup { .. } | ConfineError::Exec { .. } | ConfineError::NotFound { .. } => {
            Cause::Setup
        }
    }
}

/// A failure that is none of the skill's.
pub(crate) fn interrupted(cause: Cause, source: &str, title: String) -> Failed {
    let mut ended = failed(cause, source, title, "");
    ended.goes_on = true;
    ended
}

/// Digests texts without the numbers in them: times, addresses, line numbers and counts differ between equal failures.
pub(crate) fn signature(texts: &[&str]) -> Digest {
    let mut plain = String::new();
    for text in texts {
        let mut in_number = false;
        for c in text.chars() {
            let number = c.is_ascii_digit();
            if !number {
                plain.push(c);
            } else if !in_number {
                plain.push('#');
            }
            in_number = number;
        }
        plain.push('\n');
    }
    Digest::of(plain.as_bytes())
}

/// Keeps the beginning and the end of a text, at most `max` bytes.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let floor = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (head, tail) = (floor(max / 2), floor(text.len() - max / 2));
    format!(
        "{}\n[… {} bytes left out …]\n{}",
        &text[..head],
        tail - head,
        &text[tail..]
    )
}
