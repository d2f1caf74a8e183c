//! The loop around one run, and what people say to it from outside.

use std::sync::Arc;

use audit::{Decided, Decision};
use flow::effect::Interrupted;
use flow::event::{Answer, Parking};
use flow::grant::Blocked;
use flow::id::{GateName, RunId};
use flow::run::{Action, next};
use flow::{Event, Recorded, Run};
use journal::Journal;

use crate::clock::now_ms;
use crate::context::{Context, DriveError, Watcher};
use crate::grants::{self, Standing};
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
    let ledger = Arc::new(Ledger::open(&house, run, watcher.clone())?);
    tokio::select! {
        biased;
        // Whatever is under way ends with it: it would not count.
        lost = ledger.lost() => Err(lost),
        driven = drive_held(house, ledger.clone(), watcher) => driven,
    }
}

async fn drive_held(
    house: Arc<House>,
    ledger: Arc<Ledger>,
    watcher: Arc<dyn Watcher>,
) -> Result<Run, DriveError> {
    sweep(&house, &ledger, Swept::Others);
    let skills = match grants::standing(&house, &ledger.run())? {
        Standing::Holds(skills) => skills,
        Standing::Narrowed(blocked) => {
            if matches!(next(&ledger.run()), Action::Perform(_) | Action::Park(_)) {
                let reason = Parking::BlockedOnGrant { blocked };
                ledger.append(vec![Event::Parked { reason }])?;
            }
            return Ok(ledger.run());
        }
    };
    let context = Context::of(house, ledger, skills, watcher)?;
    loop {
        match next(&context.ledger.run()) {
            Action::Perform(due) => {
                context
                    .ledger
                    .append(vec![Event::StepStarted { step: due.clone() }])?;
                let came = step::perform(&context, &due).await;
                let events = came.unwrap_or_else(|ended| ended.events(due));
                context.ledger.append(events)?;
            }
            Action::Park(reason) => context.ledger.append(vec![Event::Parked { reason }])?,
            Action::AwaitAnswer { .. } | Action::AwaitResume | Action::Nothing => {
                sweep(&context.house, &context.ledger, Swept::All);
                return Ok(context.ledger.run());
            }
        }
    }
}

/// Which views of a run are taken away.
enum Swept {
    /// Those of holders before this one.
    Others,
    /// This holder's as well.
    All,
}

/// What an interrupted step left behind is nothing but views, and they can be made again. Each holder of the run has a directory of its own: what
/// one that stood still has running writes nowhere else.
fn sweep(house: &House, ledger: &Ledger, swept: Swept) {
    let (directory, own) = (
        house.run_dir(&ledger.run().opened.run),
        ledger.directory(house),
    );
    let taken_away = || -> std::io::Result<()> {
        match swept {
            Swept::All => confine::remove_tree(&directory),
            Swept::Others => {
                let others = match std::fs::read_dir(&directory) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                    entries => entries?.map(|entry| Ok(entry?.path())),
                };
                others
                    .filter(|path: &std::io::Result<_>| {
                        !path.as_ref().is_ok_and(|path| *path == own)
                    })
                    .try_for_each(|path| confine::remove_tree(&path?))
            }
        }
    };
    if let Err(error) = taken_away() {
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
    let ledger = Ledger::open(house, run, watcher)?;
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

/// Sends a parked run on its way again; a run that was only interrupted needs no word. One that lacks a grant goes on when the grant was given: by a
/// commit on the protected branch, or in the policy.
///
/// # Errors
/// [`DriveError`]; [`DriveError::StillBlocked`] when it was not.
pub fn resume(
    house: &House,
    run: &RunId,
    by: &str,
    watcher: Arc<dyn Watcher>,
) -> Result<(), DriveError> {
    let ledger = Ledger::open(house, run, watcher)?;
    let state = ledger.run();
    if let Some(interrupted) = state.interrupted() {
        return Err(not_known(run, interrupted));
    }
    if let Some(blocked) = state.blocked() {
        return regrant(house, &ledger, blocked, by);
    }
    match next(&state) {
        Action::AwaitResume => {
            decide(house, run, by, Decided::Resume)?;
            ledger.append(vec![Event::Resumed { by: by.into() }])
        }
        Action::Nothing => Err(DriveError::NotNow(format!("run {run} has ended"))),
        _ => Ok(()),
    }
}

/// Says of what a run waits for whether it happened: it is then passed by, or done.
///
/// # Errors
/// [`DriveError::NotNow`] when the run waits for no such word.
pub fn resolve(
    house: &House,
    run: &RunId,
    happened: bool,
    by: &str,
    watcher: Arc<dyn Watcher>,
) -> Result<(), DriveError> {
    let ledger = Ledger::open(house, run, watcher)?;
    let state = ledger.run();
    let Some(interrupted) = state.interrupted() else {
        return Err(DriveError::NotNow(format!(
            "nothing of run {run} waits for a person to say whether it happened: `moat runs show {run}` says where it is"
        )));
    };
    let effect = interrupted.what.as_str().into();
    decide(house, run, by, Decided::Happened { happened, effect })?;
    let by = by.into();
    let number = interrupted.number;
    ledger.append(vec![Event::EffectResolved {
        number,
        happened,
        by,
    }])
}

fn not_known(run: &RunId, interrupted: &Interrupted) -> DriveError {
    DriveError::NotNow(format!(
        "whether this of skill {} happened is not known: {}\nlook where it would have happened, and say it: `moat runs resume {run} --happened`, or `--did-not-happen` to have it done",
        interrupted.skill,
        interrupted.what.escape_debug()
    ))
}

/// New grants for a run, each one that changes in the trail before the run has it.
fn regrant(house: &House, ledger: &Ledger, blocked: &Blocked, by: &str) -> Result<(), DriveError> {
    let state = ledger.run();
    let regrant = grants::regrant(house, &state, blocked)?;
    for skill in state.opened.pipeline.skills() {
        let (from, to) = (state.grant_of(skill), regrant.grants.get(&skill.name));
        let Some(to) = to.filter(|to| *to != from) else {
            continue;
        };
        let decided = Decided::Grant {
            skill: skill.name.clone(),
            from: from.clone(),
            to: to.clone(),
            policy: regrant.policy.text.clone(),
            project: regrant.project.clone(),
        };
        decide(house, &state.opened.run, by, decided)?;
    }
    let by = by.into();
    ledger.append(vec![Event::Regranted { by, regrant }])
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
    let ledger = Ledger::open(house, run, watcher)?;
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
