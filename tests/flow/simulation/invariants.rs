//! What holds in every world, after every event: the house rules as far as they are the rules of a run.

use std::collections::{BTreeMap, BTreeSet};

use flow::event::{Answer, Event, Parking};
use flow::id::{CommitId, Digest, GateName, RunId, TreeId};
use flow::run::{Action, End, Run, Stage, next};
use flow::step::Step;
use flow::task::Standing;
use flow::verdict::{Finding, Subject};

/// `Err` names the invariant that is broken, and how.
pub type Held = Result<(), String>;

/// What was so before an event.
pub struct Before {
    pub stage: Stage,
    pub parked: Option<Parking>,
    pub attempts: usize,
    pub in_flight: Option<Step>,
    pub due: Action,
    pub remaining_ms: u64,
    pub regrant: Option<Vec<Digest>>,
    pub money: u64,
    pub budget: (u32, u64, u64, u64),
}

fn grants(run: &Run) -> Option<Vec<Digest>> {
    let regrant = run.regrant.as_ref()?;
    Some(regrant.grants.values().cloned().collect())
}

fn budget(run: &Run) -> (u32, u64, u64, u64) {
    let budget = run.budget;
    (
        budget.attempts,
        budget.tokens,
        budget.money.0,
        budget.active_ms,
    )
}

impl Before {
    pub fn of(run: &Run) -> Before {
        Before {
            stage: run.stage.clone(),
            parked: run.parked.clone(),
            attempts: run.attempts.len(),
            in_flight: world_step(run),
            due: next(run),
            remaining_ms: run.remaining_ms(),
            regrant: grants(run),
            money: run.committed().money.0,
            budget: budget(run),
        }
    }
}

/// The step under way.
pub fn world_step(run: &Run) -> Option<Step> {
    run.in_flight.as_ref().map(|one| one.step.clone())
}

/// What was said of a run's trees and money, kept beside its state and in another form.
#[derive(Default)]
pub struct Memory {
    pub passed: BTreeSet<(Digest, TreeId, TreeId)>,
    pub doubted: BTreeSet<(Digest, TreeId, TreeId)>,
    pub approved: BTreeSet<(GateName, TreeId)>,
    pub intended: BTreeSet<(CommitId, CommitId)>,
    pub settled: BTreeSet<u64>,
    pub reserved: BTreeSet<u64>,
    pub reds: BTreeSet<Digest>,
    pub merged: u32,
    pub healthy: u32,
    pub children: BTreeSet<RunId>,
    /// Passing failures of the step at hand.
    pub passing: u32,
    /// Events that are no beginnings since a person last said something.
    pub unattended: u32,
}

impl Memory {
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::GateDecided { verdict } => {
                let key = (
                    verdict.gate_digest.clone(),
                    verdict.subject.tree.clone(),
                    verdict.subject.base.clone(),
                );
                // The last word counts.
                self.passed.remove(&key);
                self.doubted.remove(&key);
                match verdict.finding {
                    Finding::Pass => self.passed.insert(key),
                    Finding::NeedsHuman => self.doubted.insert(key),
                    Finding::Fail => false,
                };
            }
            Event::Answered {
                gate, tree, answer, ..
            } => {
                let key = (gate.clone(), tree.clone());
                match answer {
                    Answer::Approve => self.approved.insert(key),
                    Answer::Reject => self.approved.remove(&key),
                };
            }
            Event::MergeIntended { from, to, .. } => {
                self.intended.insert((from.clone(), to.clone()));
            }
            _ => {}
        }
        let is_a_persons = matches!(
            event,
            Event::Resumed { .. }
                | Event::Answered { .. }
                | Event::Regranted { .. }
                | Event::BudgetGiven { .. }
                | Event::Cancelled { .. }
        );
        if is_a_persons {
            self.unattended = 0;
        } else if !matches!(event, Event::StepStarted { .. }) {
            self.unattended += 1;
        }
    }

    fn all_gates_passed(&self, run: &Run, subject: &Subject) -> bool {
        run.opened.pipeline.gates.iter().all(|gate| {
            let key = (
                gate.digest.clone(),
                subject.tree.clone(),
                subject.base.clone(),
            );
            let approved = self
                .approved
                .contains(&(gate.name.clone(), subject.tree.clone()));
            self.passed.contains(&key) || (self.doubted.contains(&key) && approved)
        })
    }
}

fn broken(name: &str, how: impl std::fmt::Debug) -> Held {
    Err(format!("{name}: {how:?}"))
}

fn held(name: &str, holds: bool, how: impl std::fmt::Debug) -> Held {
    if holds { Ok(()) } else { broken(name, how) }
}

/// All of them, for one event that one run took over.
pub fn hold(before: &Before, event: &Event, after: &Run, memory: &mut Memory) -> Held {
    only_gates_and_people_let_a_tree_pass(after, memory)?;
    the_branch_moves_only_as_verified_and_intended(before, event, after, memory)?;
    nothing_is_done_twice(event, memory)?;
    a_result_has_a_beginning(before, event)?;
    attempts_are_counted_once(before, event, after)?;
    what_is_under_way_is_due_again(before, event, after)?;
    a_missing_grant_is_given_by_people_alone(before, event, after)?;
    every_loop_has_a_budget(before, event, after, memory)?;
    the_same_failure_on_the_same_tree_stops(before, event, after, memory)?;
    money_is_set_aside_before_it_is_spent(before, event, after)?;
    a_parked_or_ended_run_does_nothing(before, event, after)?;
    tasks_are_kept_apart_and_in_order(after)?;
    the_whole_waits_for_its_tasks(event, after)?;
    a_task_stays_within_its_claims(event, after)?;
    only_people_give_more_budget(before, event, after)
}

/// Rule 3: a verdict comes from a gate, or from a person who was asked; no skill's word moves a tree on.
fn only_gates_and_people_let_a_tree_pass(after: &Run, memory: &Memory) -> Held {
    let subject = match &after.stage {
        Stage::PrepareMerge => after.candidate().map(|candidate| candidate.subject()),
        Stage::MoveBranch(prepared) => Some(prepared.subject()),
        _ => return Ok(()),
    };
    let passed = subject.is_some_and(|subject| memory.all_gates_passed(after, &subject));
    held(
        "only_gates_and_people_let_a_tree_pass",
        passed,
        &after.stage,
    )
}

/// Rule 4: a branch moves to a commit whose exact tree has a pass from every gate, and that was journalled before.
fn the_branch_moves_only_as_verified_and_intended(
    before: &Before,
    event: &Event,
    after: &Run,
    memory: &Memory,
) -> Held {
    let name = "the_branch_moves_only_as_verified_and_intended";
    match (event, &before.stage) {
        (Event::MergeIntended { from, to, tree }, Stage::MoveBranch(prepared)) => {
            let is_it =
                prepared.onto.commit == *from && prepared.commit == *to && prepared.tree == *tree;
            held(
                name,
                is_it && memory.all_gates_passed(after, &prepared.subject()),
                event,
            )
        }
        (Event::Merged { commit }, Stage::MoveBranch(prepared)) => {
            let intended = memory
                .intended
                .contains(&(prepared.onto.commit.clone(), commit.clone()));
            let end = match (&after.stage, after.opened.child.is_some()) {
                (Stage::Ended(End::Joined), is_child) => is_child,
                (Stage::Ended(End::Merged) | Stage::Deploy(_), is_child) => !is_child,
                _ => false,
            };
            held(name, intended && prepared.commit == *commit && end, event)
        }
        (Event::MergeIntended { .. } | Event::Merged { .. }, stage) => broken(name, stage),
        _ => Ok(()),
    }
}

/// Rule 5: no call is paid twice, no branch moved twice, no task done twice.
fn nothing_is_done_twice(event: &Event, memory: &mut Memory) -> Held {
    let fresh = match event {
        Event::Reserved { call, .. } => memory.reserved.insert(*call),
        Event::Settled { call, .. } => memory.settled.insert(*call),
        Event::Merged { .. } => {
            memory.merged += 1;
            memory.merged == 1
        }
        Event::Deployed {
            deployment: flow::role::Deployment::Healthy(_),
        } => {
            memory.healthy += 1;
            memory.healthy == 1
        }
        Event::TaskOpened { run, .. } => memory.children.insert(run.clone()),
        _ => true,
    };
    held("nothing_is_done_twice", fresh, event)
}

/// Rule 5: what a step leads to is recorded after its beginning, and of that very step.
fn a_result_has_a_beginning(before: &Before, event: &Event) -> Held {
    let begun = |fits: &dyn Fn(&Step) -> bool| before.in_flight.as_ref().is_some_and(fits);
    let holds = match event {
        Event::StepFailed { step, .. }
        | Event::StepInterrupted { step, .. }
        | Event::Blocked { step, .. } => begun(&|one| one == step),
        Event::Triaged { .. } => begun(&|one| *one == Step::Intake),
        Event::BaselineTaken { .. } => begun(&|one| *one == Step::Baseline),
        Event::Planned { .. } => begun(&|one| *one == Step::Plan),
        Event::Integrated { .. } => begun(&|one| *one == Step::Integrate),
        Event::Attempted { attempt, .. } => {
            begun(&|one| *one == Step::Implement { attempt: *attempt })
        }
        Event::GateDecided { verdict } => begun(
            &|one| matches!(one, Step::Gate { gate, subject } if *gate == verdict.gate && *subject == verdict.subject),
        ),
        Event::MergePrepared { .. } | Event::MergeConflicted { .. } => {
            begun(&|one| *one == Step::PrepareMerge)
        }
        Event::Merged { .. } | Event::MergeLost { .. } => {
            begun(&|one| matches!(one, Step::MoveBranch { .. }))
        }
        Event::Deployed { .. } => begun(&|one| matches!(one, Step::Deploy { .. })),
        _ => true,
    };
    held(
        "a_result_has_a_beginning",
        holds,
        (event, &before.in_flight),
    )
}

/// Rule 5: attempts are numbered without gaps, and no event makes more than one.
fn attempts_are_counted_once(before: &Before, event: &Event, after: &Run) -> Held {
    let numbered = (1..)
        .zip(&after.attempts)
        .all(|(n, attempt)| attempt.number == n);
    let made = after.attempts.len() - before.attempts;
    let may = matches!(
        event,
        Event::Attempted { .. } | Event::Integrated { .. } | Event::StepFailed { .. }
    );
    held(
        "attempts_are_counted_once",
        numbered && made <= usize::from(may),
        event,
    )
}

/// Rule 5: a step that was interrupted is the one that is due.
fn what_is_under_way_is_due_again(before: &Before, event: &Event, after: &Run) -> Held {
    let Event::StepStarted { step } = event else {
        return Ok(());
    };
    let due = matches!(&before.due, Action::Perform(due) if due == step);
    let again = matches!(next(after), Action::Perform(due) if due == *step);
    held("what_is_under_way_is_due_again", due && again, event)
}

/// Rule 6: a refused capability is no failure and no attempt, and no word ends the wait for it.
fn a_missing_grant_is_given_by_people_alone(before: &Before, event: &Event, after: &Run) -> Held {
    let name = "a_missing_grant_is_given_by_people_alone";
    let was = matches!(before.parked, Some(Parking::BlockedOnGrant { .. }));
    let regranted = matches!(event, Event::Regranted { .. });
    if matches!(event, Event::Blocked { .. }) {
        let waits = after.blocked().is_some() && after.attempts.len() == before.attempts;
        return held(name, waits, event);
    }
    let over = matches!(after.stage, Stage::Ended(_));
    let ended = was && after.blocked().is_none() && !over;
    held(name, !ended || regranted, event)?;
    held(
        name,
        grants(after) == before.regrant || (regranted && was),
        event,
    )
}

/// Rule 8: attempts, time, merges and repetitions end; nothing goes on for ever while nobody looks.
fn every_loop_has_a_budget(
    before: &Before,
    event: &Event,
    after: &Run,
    memory: &mut Memory,
) -> Held {
    let name = "every_loop_has_a_budget";
    held(
        name,
        after.attempts.len() as u32 <= after.budget.attempts,
        after.budget,
    )?;
    if let Event::StepStarted { step } = event {
        let finishes = matches!(step, Step::MoveBranch { .. } | Step::Deploy { .. });
        held(name, before.remaining_ms > 0 || finishes, step)?;
    }
    memory.passing = match event {
        Event::StepFailed { failure, .. } if failure.cause == flow::event::Cause::Passing => {
            memory.passing + 1
        }
        Event::StepStarted { .. }
        | Event::StepInterrupted { .. }
        | Event::Reserved { .. }
        | Event::Settled { .. }
        | Event::Used { .. }
        | Event::Denied { .. } => memory.passing,
        Event::TaskOpened { .. } | Event::TaskEnded { .. } | Event::MergeIntended { .. } => {
            memory.passing
        }
        _ => 0,
    };
    let stopped = after.parked.is_some() || after.stage != before.stage;
    held(name, memory.passing < 3 || stopped, event)?;
    let under_way = after.in_flight.as_ref();
    let interruptions = under_way.map_or(0, |one| one.interruptions);
    held(name, interruptions <= 3, interruptions)?;
    held(name, after.merges_lost <= 10, after.merges_lost)?;
    held(name, memory.unattended < 600, memory.unattended)
}

/// Rule 8: the same red again is no progress, and a person looks.
fn the_same_failure_on_the_same_tree_stops(
    before: &Before,
    event: &Event,
    after: &Run,
    memory: &mut Memory,
) -> Held {
    let red = after
        .attempts
        .last()
        .and_then(|attempt| attempt.red.as_ref());
    let Some(red) = red else { return Ok(()) };
    let is_new = matches!(after.stage, Stage::Implement)
        && (before.stage != after.stage || before.attempts != after.attempts.len());
    let decided = matches!(
        event,
        Event::GateDecided { .. }
            | Event::Attempted { .. }
            | Event::StepFailed { .. }
            | Event::MergePrepared { .. }
            | Event::MergeConflicted { .. }
            | Event::Integrated { .. }
            | Event::Answered { .. }
    );
    if !(is_new && decided) || after.stage != Stage::Implement {
        return Ok(());
    }
    let again = !memory.reds.insert(red.signature.clone());
    held(
        "the_same_failure_on_the_same_tree_stops",
        !again || after.parked.is_some(),
        event,
    )
}

/// Rule 8: never more is set aside or spent than the budget has.
fn money_is_set_aside_before_it_is_spent(before: &Before, event: &Event, after: &Run) -> Held {
    let name = "money_is_set_aside_before_it_is_spent";
    let committed = after.committed();
    let within = committed.money <= after.budget.money && committed.tokens <= after.budget.tokens;
    held(name, within, committed)?;
    // A call that ends never takes more than was set aside for it.
    let settles = matches!(event, Event::Settled { .. });
    held(
        name,
        !settles || committed.money.0 <= before.money,
        committed,
    )
}

/// One thing is due, and after the end nothing.
fn a_parked_or_ended_run_does_nothing(before: &Before, event: &Event, after: &Run) -> Held {
    let name = "a_parked_or_ended_run_does_nothing";
    let began = matches!(event, Event::StepStarted { .. } | Event::TaskOpened { .. });
    let stood = before.parked.is_some() || matches!(before.stage, Stage::Ended(_));
    held(name, !(began && stood), event)?;
    if let Stage::Ended(_) = before.stage {
        held(name, before.stage == after.stage, event)?;
    }
    let due = next(after);
    let right = match (&after.stage, &after.parked) {
        (Stage::Ended(_), _) => due == Action::Nothing,
        (_, Some(_)) => due == Action::AwaitResume,
        _ => !matches!(due, Action::Nothing | Action::AwaitResume),
    };
    held(name, right, due)
}

/// Tasks that may change one path are not under way together, and none is before what it comes after.
fn tasks_are_kept_apart_and_in_order(after: &Run) -> Held {
    let name = "tasks_are_kept_apart_and_in_order";
    let busy: Vec<_> = (after.tasks.iter())
        .filter(|one| matches!(one.standing, Standing::UnderWay { .. }))
        .collect();
    for (n, one) in busy.iter().enumerate() {
        // Claims of a simulated plan are names of paths, or all of them.
        let meets = |a: &str, b: &str| a == b || a == "**" || b == "**";
        let overlaps = busy[n + 1..].iter().any(|other| {
            one.task.claims.iter().any(|a| {
                other
                    .task
                    .claims
                    .iter()
                    .any(|b| meets(&a.to_string(), &b.to_string()))
            })
        });
        held(name, !overlaps, &one.task.id)?;
    }
    let joined: BTreeMap<_, _> = (after.tasks.iter())
        .map(|one| {
            (
                &one.task.id,
                matches!(one.standing, Standing::Joined { .. }),
            )
        })
        .collect();
    let begun = after
        .tasks
        .iter()
        .filter(|one| one.standing != Standing::Waiting);
    for one in begun {
        let first = one
            .task
            .after
            .iter()
            .all(|id| joined.get(id) == Some(&true));
        held(name, first, &one.task.id)?;
    }
    Ok(())
}

/// A joined tree is a candidate when all of its tasks are in it.
fn the_whole_waits_for_its_tasks(event: &Event, after: &Run) -> Held {
    let all = (after.tasks.iter()).all(|one| matches!(one.standing, Standing::Joined { .. }));
    let integrated = matches!(event, Event::Integrated { .. });
    held("the_whole_waits_for_its_tasks", !integrated || all, event)
}

/// A candidate that changes what its task does not claim goes no further.
fn a_task_stays_within_its_claims(event: &Event, after: &Run) -> Held {
    let (Event::Attempted { candidate, .. }, Some(child)) = (event, &after.opened.child) else {
        return Ok(());
    };
    let claimed = |path: &String| {
        let mut claims = child.task.claims.iter().map(ToString::to_string);
        claims.any(|claim| claim == *path || claim == "**")
    };
    let outside = candidate.changed.iter().any(|path| !claimed(path));
    held(
        "a_task_stays_within_its_claims",
        !outside || matches!(after.stage, Stage::Implement),
        event,
    )
}

/// Rule 8: a budget grows by a person's word, and by the attempt that joins the tasks.
fn only_people_give_more_budget(before: &Before, event: &Event, after: &Run) -> Held {
    let given = matches!(event, Event::Resumed { .. } | Event::BudgetGiven { .. });
    let mut was = before.budget;
    if matches!(event, Event::Integrated { .. }) {
        was.0 += 1;
    }
    held(
        "only_people_give_more_budget",
        given || budget(after) == was,
        event,
    )
}
