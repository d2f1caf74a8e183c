//! The loop around one run, and what people say to it from outside.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit::{Decided, Decision};
use flow::effect::Interrupted;
use flow::event::{Answer, Parking};
use flow::grant::Blocked;
use flow::id::{GateName, RunId};
use flow::run::{Action, End, Stage, next};
use flow::step::Step;
use flow::{Event, Recorded, Run};
use journal::{Journal, JournalError};
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinSet;

use crate::children::{self, Family};
use crate::clock::now_ms;
use crate::context::{Context, DriveError, Watcher};
use crate::grants::{self, Standing};
use crate::house::House;
use crate::ledger::{self, Ledger};
use crate::scheduler::{Party, Turn};
use crate::step;
use crate::survey;
use crate::transcript;

/// Reads a run without driving it.
///
/// # Errors
/// [`DriveError`].
pub fn load(journal: &Journal, run: &RunId) -> Result<(Run, Vec<Recorded>), DriveError> {
    ledger::load(journal, run)
}

/// Drives a run until it has ended or waits for a person. Dropping the future leaves a run that can be driven again.
///
/// A run that works on a task is driven with its parent, of whose money and joined work it has its part; where another process drives that one,
/// it goes on there, and what is returned is how it stands.
///
/// # Errors
/// [`DriveError`] when the run cannot be driven at all; what goes wrong within a step is an event of the run.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn drive(
    house: Arc<House>,
    run: &RunId,
    watcher: Arc<dyn Watcher>,
) -> Result<Run, DriveError> {
    let (state, _) = load(&house.journal, run)?;
    let Some(child) = state.opened.child else {
        return drive_one(house, run, watcher, None).await;
    };
    match drive_one(house.clone(), &child.parent, watcher, None).await {
        Ok(_) => {}
        Err(error) if is_anothers(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(load(&house.journal, run)?.0)
}

/// More runs of one process at the same time would hold more files than a process may have open.
const DRIVEN_AT_ONCE: usize = 100;

/// Drives many runs at the same time, each as [`drive`] would, and gives what became of them in the order in which they stopped.
///
/// What goes wrong with one run is no matter of the others.
pub async fn drive_all(
    house: Arc<House>,
    runs: Vec<RunId>,
    watcher: &dyn Fn(&RunId) -> Arc<dyn Watcher>,
) -> Vec<(RunId, Result<Run, DriveError>)> {
    let mut waiting = runs.into_iter();
    let mut driven = JoinSet::new();
    let mut stopped = Vec::new();
    loop {
        while driven.len() < DRIVEN_AT_ONCE
            && let Some(run) = waiting.next()
        {
            let (house, watcher) = (house.clone(), watcher(&run));
            driven.spawn(async move {
                let state = drive(house, &run, watcher).await;
                (run, state)
            });
        }
        match driven.join_next().await {
            Some(Ok(one)) => stopped.push(one),
            Some(Err(panicked)) => tracing::error!(%panicked, "a run could not be driven"),
            None => return stopped,
        }
    }
}

/// Runs that have something to do and that nobody drives, the oldest first. Those of tasks go with their parents.
///
/// # Errors
/// [`DriveError`] when the journal cannot be read. Of runs that another moat left, one that this moat does not understand may be left out.
pub fn interrupted(house: &House) -> Result<Vec<RunId>, DriveError> {
    sweep_ended(house);
    let mut runs = survey::due(&house.journal)?;
    let driven = house.journal.driven()?;
    runs.retain(|run| !driven.contains(run));
    Ok(runs)
}

/// Whether a run is left alone because another moat has it.
pub(crate) fn is_anothers(error: &DriveError) -> bool {
    matches!(
        error,
        DriveError::Journal(
            JournalError::Held { .. } | JournalError::Frozen { .. } | JournalError::Fenced { .. }
        )
    )
}

/// Boxed: the run of a task is driven within its parent's.
pub(crate) fn drive_one(
    house: Arc<House>,
    run: &RunId,
    watcher: Arc<dyn Watcher>,
    family: Option<Family>,
) -> Pin<Box<dyn Future<Output = Result<Run, DriveError>> + Send>> {
    let run = run.clone();
    Box::pin(async move { drive_here(house, &run, watcher, family).await })
}

async fn drive_here(
    house: Arc<House>,
    run: &RunId,
    watcher: Arc<dyn Watcher>,
    family: Option<Family>,
) -> Result<Run, DriveError> {
    let mut ledger = Ledger::open(&house, run, watcher.clone())?;
    if let Some(family) = &family {
        ledger = ledger.spending_of(family.parent.clone());
    }
    let ledger = Arc::new(ledger);
    let driven = tokio::select! {
        biased;
        // Whatever is under way ends with it: it would not count.
        lost = ledger.lost() => Err(lost),
        driven = drive_held(house.clone(), ledger.clone(), watcher, family) => driven,
    };
    match driven {
        // Somebody cancelled the run: that is no failure of whoever drove it.
        Err(error @ DriveError::Journal(JournalError::Fenced { .. })) => {
            match load(&house.journal, run)?.0 {
                cancelled if cancelled.stage == Stage::Ended(End::Cancelled) => {
                    sweep(&house, &ledger, Swept::All);
                    Ok(cancelled)
                }
                _ => Err(error),
            }
        }
        driven => driven,
    }
}

async fn drive_held(
    house: Arc<House>,
    ledger: Arc<Ledger>,
    watcher: Arc<dyn Watcher>,
    family: Option<Family>,
) -> Result<Run, DriveError> {
    sweep(&house, &ledger, Swept::Others);
    let skills = match grants::standing(&house, &ledger.run())? {
        Standing::Holds(skills) => skills,
        Standing::Narrowed(blocked) => {
            if matches!(
                next(&ledger.run()),
                Action::Perform(_) | Action::Park(_) | Action::Tend { .. }
            ) {
                let reason = Parking::BlockedOnGrant { blocked };
                ledger.append(vec![Event::Parked { reason }])?;
            }
            return Ok(ledger.run());
        }
    };
    let mut context = Context::of(house, ledger, skills, watcher)?;
    let mut merging = None;
    context.keep("base", context.ledger.run().opened.base.commit)?;
    loop {
        let state = context.ledger.run();
        match next(&state) {
            Action::Perform(due) => {
                merging = match (merges(&state, &due), merging) {
                    (true, None) => Some(merge_turn(&context, family.as_ref(), &state).await?),
                    (true, held) => held,
                    (false, _) => None,
                };
                perform(&mut context, &state, due).await?;
            }
            Action::Park(reason) => context.ledger.append(vec![Event::Parked { reason }])?,
            Action::Tend { .. } => {
                children::tend(&context).await?;
                if matches!(next(&context.ledger.run()), Action::Tend { .. }) {
                    sweep(&context.house, &context.ledger, Swept::All);
                    return Ok(context.ledger.run());
                }
            }
            Action::AwaitAnswer { .. } | Action::AwaitResume | Action::Nothing => {
                sweep(&context.house, &context.ledger, Swept::All);
                return Ok(context.ledger.run());
            }
        }
    }
}

/// Begins a step when it is its turn, and records what came of it.
async fn perform(context: &mut Context, state: &Run, due: Step) -> Result<(), DriveError> {
    context.turn = (context.house.scheduler)
        .step(&context.project, &Party::of(state), state, &due)
        .await?;
    context
        .ledger
        .append(vec![Event::StepStarted { step: due.clone() }])?;
    let came = step::perform(context, &due).await;
    context.turn = Turn::default();
    let events = match came {
        Ok(events) => events,
        Err(ended) => ended.events(due, is_recorded(context)?),
    };
    context.ledger.append(events)
}

/// Whether the step under way has a record.
fn is_recorded(context: &Context) -> Result<bool, DriveError> {
    let run = context.ledger.run();
    Ok(match &run.in_flight {
        Some(under_way) => (context.house.journal).has_notes(&run.opened.run, under_way.began)?,
        None => false,
    })
}

/// Whether a step belongs to the merge onto the tip, of which there is one at a time: for a branch, and for the joined work of a family.
fn merges(run: &Run, step: &Step) -> bool {
    matches!(step, Step::PrepareMerge | Step::MoveBranch { .. })
        || matches!(run.stage, Stage::GatesOnTip(_))
}

/// Held from the merge onto the tip until that has moved.
enum Merging {
    Family(#[expect(dead_code, reason = "held")] OwnedMutexGuard<()>),
    Branch(#[expect(dead_code, reason = "held")] Turn),
}

async fn merge_turn(
    context: &Context,
    family: Option<&Family>,
    run: &Run,
) -> Result<Merging, DriveError> {
    Ok(match family {
        Some(family) => Merging::Family(family.join().await),
        None => Merging::Branch(context.house.scheduler.merge(&Party::of(run)).await?),
    })
}

/// What processes left that were killed right after their runs had ended: views, and signs of life. Nobody drives those runs again. And their
/// transcripts, once they are old; and what was being compiled.
pub(crate) fn sweep_ended(house: &House) {
    house.sandbox.sweep();
    // What is left of them holds no base: a lease of one ends with its process.
    house.views.sweep();
    if let Err(error) = house.journal.sweep() {
        tracing::warn!(%error, "lock files of processes that died are left");
    }
    let old = now_ms().saturating_sub(transcript::KEPT.as_millis() as u64);
    for run in house.journal.noted_before(old).unwrap_or_default() {
        if has_ended(house, &run)
            && let Err(error) = transcript::forget(&house.journal, &run)
        {
            tracing::warn!(%run, %error, "transcripts of a run that has ended are left");
        }
    }
    let Ok(entries) = std::fs::read_dir(house.root().join("runs")) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(run) = name.to_str().and_then(|name| name.parse::<RunId>().ok()) else {
            continue;
        };
        if has_ended(house, &run)
            && let Err(error) = confine::remove_tree(&house.run_dir(&run))
        {
            tracing::warn!(%run, %error, "views of a run that has ended are left");
        }
    }
}

fn has_ended(house: &House, run: &RunId) -> bool {
    let is_over = |(state, _): (Run, Vec<Recorded>)| matches!(state.stage, Stage::Ended(_));
    !house.journal.is_driven(run) && load(&house.journal, run).is_ok_and(is_over)
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
        // Where a link leads is none of ours.
        if directory.is_symlink() {
            return std::fs::remove_file(&directory);
        }
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
    sweep_ended(house);
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
            give_budget(house, &state, by, ledger.watcher())?;
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

/// The money of a task's run is its parent's: where that is used up, the parent is given it.
fn give_budget(
    house: &House,
    state: &Run,
    by: &str,
    watcher: Arc<dyn Watcher>,
) -> Result<(), DriveError> {
    let (Some(Parking::BudgetUsed { .. }), Some(child)) = (&state.parked, &state.opened.child)
    else {
        return Ok(());
    };
    let parent = Ledger::open(house, &child.parent, watcher)?;
    parent.append(vec![Event::BudgetGiven { by: by.into() }])
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

/// How long an effect that is under way may keep a person's word waiting: moving a ref takes milliseconds, switching a release seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// Ends a run, and the runs that work on its tasks, also one that another process drives: that one can do no more for it from then on, and stops.
///
/// # Errors
/// [`DriveError`]; [`JournalError::Frozen`] when whoever drives the run does not end an effect that it has begun.
pub fn cancel(
    house: &House,
    run: &RunId,
    by: &str,
    watcher: Arc<dyn Watcher>,
) -> Result<(), DriveError> {
    let not_ended = |state: &Run| match next(state) {
        Action::Nothing => Err(DriveError::NotNow(format!("run {run} has ended"))),
        _ => Ok(()),
    };
    not_ended(&load(&house.journal, run)?.0)?;
    let was_driven = house.journal.is_driven(run);
    decide(house, run, by, Decided::Cancel)?;
    let ledger = seize(house, run, watcher.clone())?;
    // It may have come to its end while it was being taken.
    not_ended(&ledger.run())?;
    // Its tasks' runs first: none of them is left behind to be driven by nobody.
    for child in ledger.run().runs_under_way() {
        match cancel(house, child, by, watcher.clone()) {
            Ok(()) | Err(DriveError::NotNow(_) | DriveError::NoSuchRun { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    ledger.append(vec![Event::Cancelled { by: by.into() }])?;
    if !was_driven {
        sweep(house, &ledger, Swept::All);
    }
    Ok(())
}

/// Takes a run, between two effects of whoever has it.
fn seize(house: &House, run: &RunId, watcher: Arc<dyn Watcher>) -> Result<Ledger, DriveError> {
    let begun = Instant::now();
    loop {
        match Ledger::seize(house, run, watcher.clone()) {
            Err(DriveError::Journal(JournalError::Frozen { .. })) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            taken => return taken,
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
