//! The loop around one run, and what people say to it from outside.

use std::sync::Arc;

use audit::{Decided, Decision};
use flow::event::Answer;
use flow::id::{GateName, RunId};
use flow::run::{Action, next};
use flow::{Event, Recorded, Run};
use journal::Journal;

use crate::clock::now_ms;
use crate::context::{Context, DriveError, Watcher};
use crate::house::House;
use crate::ledger::{self, Ledger};
use crate::step;

/// Reads a run without driving it.
///
/// # Errors
/// [`DriveError`].
pub fn load(journal: &Journal, run: &RunId) -> Result<(Run, Vec<Recorded>), DriveError> {
    ledger::load(journal, run)
}

/// Drives a run until it has ended or waits for a person. Dropping the future leaves a run that can be driven again.
///
/// # Errors
/// [`DriveError`] when the run cannot be driven at all; what goes wrong within a step is an event of the run.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn drive(
    house: Arc<House>,
    run: &RunId,
    watcher: Arc<dyn Watcher>,
) -> Result<Run, DriveError> {
    let ledger = Ledger::open(&house.journal, run, watcher.clone())?;
    sweep(&house, run);
    let context = Context::of(house, ledger, watcher)?;
    loop {
        match next(&context.ledger.run()) {
            Action::Perform(due) => {
                context
                    .ledger
                    .append(vec![Event::StepStarted { step: due.clone() }])?;
                let came = step::perform(&context, &due).await;
                let events = came.unwrap_or_else(|ended| {
                    let mut events = ended.before;
                    events.push(Event::StepFailed {
                        step: due,
                        failure: ended.failure,
                    });
                    events
                });
                context.ledger.append(events)?;
            }
            Action::Park(reason) => context.ledger.append(vec![Event::Parked { reason }])?,
            Action::AwaitAnswer { .. } | Action::AwaitResume | Action::Nothing => {
                sweep(&context.house, run);
                return Ok(context.ledger.run());
            }
        }
    }
}

/// What an interrupted step left behind is nothing but views, and they can be made again.
fn sweep(house: &House, run: &RunId) {
    let directory = house.run_dir(run);
    if let Err(error) = confine::remove_tree(&directory) {
        tracing::warn!(directory = %directory.display(), %error, "views of an interrupted step are left");
    }
}

/// Records a person's answer for a gate, for the tree at hand.
///
/// # Errors
/// [`DriveError::NotNow`] when that gate does not wait for a person.
pub fn answer(
    house: &House,
    run: &RunId,
    gate: Option<&GateName>,
    answer: Answer,
    by: &str,
    note: &str,
    watcher: Arc<dyn Watcher>,
) -> Result<(), DriveError> {
    let ledger = Ledger::open(&house.journal, run, watcher)?;
    let Action::AwaitAnswer { subject, gates } = next(&ledger.run()) else {
        return Err(DriveError::NotNow(format!(
            "run {run} does not wait for an answer: `moat runs show {run}` says where it is"
        )));
    };
    let names = || {
        gates
            .iter()
            .map(GateName::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let chosen: Vec<GateName> = match gate {
        Some(gate) if gates.contains(gate) => vec![gate.clone()],
        Some(gate) => {
            return Err(DriveError::NotNow(format!(
                "gate {gate} does not wait for an answer; these do: {}",
                names()
            )));
        }
        None => gates.clone(),
    };
    for gate in chosen {
        let decided = Decided::Answer {
            gate: gate.clone(),
            tree: subject.tree.clone(),
            answer,
            note: note.into(),
        };
        decide(house, run, by, decided)?;
        let event = Event::Answered {
            gate,
            tree: subject.tree.clone(),
            answer,
            by: by.into(),
            note: note.into(),
        };
        ledger.append(vec![event])?;
        if answer == Answer::Reject {
            break;
        }
    }
    Ok(())
}

/// Sends a parked run on its way again; a run that was only interrupted needs no word.
///
/// # Errors
/// [`DriveError`].
pub fn resume(
    house: &House,
    run: &RunId,
    by: &str,
    watcher: Arc<dyn Watcher>,
) -> Result<(), DriveError> {
    let ledger = Ledger::open(&house.journal, run, watcher)?;
    match next(&ledger.run()) {
        Action::AwaitResume => {
            decide(house, run, by, Decided::Resume)?;
            ledger.append(vec![Event::Resumed { by: by.into() }])
        }
        Action::Nothing => Err(DriveError::NotNow(format!("run {run} has ended"))),
        _ => Ok(()),
    }
}

/// Ends a run.
///
/// # Errors
/// [`DriveError`].
pub fn cancel(
    house: &House,
    run: &RunId,
    by: &str,
    watcher: Arc<dyn Watcher>,
) -> Result<(), DriveError> {
    let ledger = Ledger::open(&house.journal, run, watcher)?;
    match next(&ledger.run()) {
        Action::Nothing => Err(DriveError::NotNow(format!("run {run} has ended"))),
        _ => {
            decide(house, run, by, Decided::Cancel)?;
            ledger.append(vec![Event::Cancelled { by: by.into() }])
        }
    }
}

/// A person's decision is in the trail before it has any effect.
fn decide(house: &House, run: &RunId, by: &str, decided: Decided) -> Result<(), DriveError> {
    let decision = Decision {
        by: by.into(),
        run: Some(run.clone()),
        decided,
    };
    let entry = audit::Entry::Decision(decision);
    house.trail.append(now_ms(), entry)?;
    Ok(())
}
