//! The state of a run and its two rules: `apply` and `next`.
//!
//! ```text
//! Opened -> Intake -> Baseline -> Implement(1) -> Gates -> PrepareMerge -> Gates on the merged tree -> MoveBranch -> Deploy -> Ended
//!             |                      ^   |          |            |                                        |
//!             v                      |   v          v red        v conflict                               v branch moved
//!          Declined              Implement(n+1) <- repair <------+              PrepareMerge again <------+
//! ```
//!
//! A run whose pipeline has a plan skill passes `Plan` before `Implement`. With more than one task it goes
//!
//! ```text
//! Plan -> Tasks -> Gates on the joined tree -> …                       a run of its own for each task:
//!           ^  |                                                       Baseline -> Implement(1) -> … -> MoveBranch -> Ended(Joined)
//!           +--+ a task is opened, a task has ended                    where the branch is the parent's joined work
//! ```
//!
//! Any stage but `Ended` may be parked, resumed to the same stage, or cancelled.

use std::collections::BTreeMap;

use crate::effect::{self, Asked};
use crate::event::{Answer, Candidate, Event, Failure, Opened, Parking, Recorded, Usage};
use crate::grant::{self, Regrant};
use crate::id::{CommitId, Digest, GateName, RunId, SkillName, TaskId, TreeId};
use crate::money::{Reservation, Spend};
use crate::pipeline::Budget;
use crate::role::{Deployment, Outcome, TestReport, WorkItem};
use crate::step::{self, Step};
use crate::task::{ChildCall, TaskState};
use crate::verdict::{Base, Finding, Subject, Verdict};

/// A run, as its events tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What it is bound to.
    pub opened: Opened,
    /// What it may use in all: the budget that it was opened with, and what people gave by resuming it.
    pub budget: Budget,
    /// When it was opened.
    pub opened_at_ms: u64,
    /// When its last event was recorded.
    pub last_at_ms: u64,
    /// How many events it has.
    pub events: u64,
    /// Where it is.
    pub stage: Stage,
    /// Why it waits for a person, if it does.
    pub parked: Option<Parking>,
    /// The base that the next attempt starts from.
    pub base: Base,
    /// What has to become true, once known.
    pub item: Option<WorkItem>,
    /// The base's tests, if reported.
    pub baseline: Option<TestReport>,
    /// The attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Verdicts by gate definition and subject.
    pub verdicts: BTreeMap<(Digest, String), Verdict>,
    /// What people answered, by gate and tree.
    pub answers: Vec<(GateName, crate::id::TreeId, Answer)>,
    /// The step under way.
    pub in_flight: Option<InFlight>,
    /// Failures of the step at hand since it last made progress.
    pub failures: Vec<Failure>,
    /// The commit that the branch is about to be moved to, once that is durable.
    pub intended: Option<CommitId>,
    /// Merges prepared in vain.
    pub merges_lost: u32,
    /// The commit that the branch was moved to.
    pub merged: Option<CommitId>,
    /// The deployment, if there was one.
    pub deployment: Option<Deployment>,
    /// Model calls that were begun.
    pub calls: u64,
    /// What models took.
    pub spend: Spend,
    /// Which calls under way are for what, and what the settled ones of the step under way took.
    pub asked: Asked,
    /// What is set aside for calls under way; a call that was lost in a crash stays here and counts as spent.
    pub reserved: BTreeMap<u64, Reservation>,
    /// Time in steps.
    pub active_ms: u64,
    /// What skills used of their grants.
    pub used: BTreeMap<SkillName, Usage>,
    /// Refused capabilities.
    pub denials: u64,
    /// The grants that hold instead of those that the run was opened with.
    pub regrant: Option<Regrant>,
    /// What an attempt that lacked a grant had made of its base.
    pub left: Option<TreeId>,
    /// The tasks of its plan, in the plan's order.
    pub tasks: Vec<TaskState>,
    /// Runs that work or worked on them, in the order of their opening.
    pub children: Vec<RunId>,
    /// The joined work of its tasks: attempts begin from it.
    pub start: Option<TreeId>,
    /// Calls of tasks' runs that something is set aside for, by the number that they have here.
    pub lent: BTreeMap<u64, ChildCall>,
}

/// A step that has begun and has no result yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    /// The step.
    pub step: Step,
    /// When a driver took it up last.
    pub since_ms: u64,
    /// The event that first began it: what was recorded of it lies under this number, and a driver that takes it up again goes on from there.
    pub began: u64,
    /// What people know of its host calls that were interrupted, by number: whether it happened.
    pub resolved: BTreeMap<u64, bool>,
    /// How often it was interrupted by something else than the end of its driver, since a person last sent it on.
    pub interruptions: u32,
}

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The report is not decided on.
    Intake,
    /// The base's tests are not reported.
    Baseline,
    /// The item is to be split into tasks.
    Plan,
    /// The tasks are worked on, each by a run of its own.
    Tasks,
    /// An attempt is to be made.
    Implement,
    /// The gates look at the last attempt's candidate.
    Gates,
    /// The candidate is green on its base and to be merged onto the tip.
    PrepareMerge,
    /// The gates look at the merged tree.
    GatesOnTip(Prepared),
    /// The merged tree is green; the branch is to be moved.
    MoveBranch(Prepared),
    /// The branch was moved; the tree is to be deployed.
    Deploy(CommitId),
    /// Nothing is left to do.
    Ended(End),
}

/// A merge onto the tip that no one sees yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The tip.
    pub onto: Base,
    /// The commit to move to.
    pub commit: CommitId,
    /// Its tree.
    pub tree: crate::id::TreeId,
}

impl Prepared {
    /// What the gates look at.
    pub fn subject(&self) -> Subject {
        Subject {
            tree: self.tree.clone(),
            base: self.onto.tree.clone(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Merged, and nothing to deploy.
    Merged,
    /// Merged, deployed and healthy.
    Deployed,
    /// Its task's work is part of the parent's.
    Joined,
    /// Triage found no work in the report.
    Declined(String),
    /// A person ended it.
    Cancelled,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// What the skill said; absent when the step failed.
    pub outcome: Option<Outcome>,
    /// What it left; absent when the step failed.
    pub candidate: Option<Candidate>,
    /// Why the step failed, if it did.
    pub failure: Option<Failure>,
    /// Why the attempt went no further, once that is known.
    pub red: Option<Red>,
}

/// Why an attempt is red.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Red {
    /// What was said, for the next attempt and the dossier.
    pub evidence: Vec<crate::role::Evidence>,
    /// Over the tree and the failures' signatures: the same red twice is no progress.
    pub signature: Digest,
}

/// What the driver is to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Do this step.
    Perform(Step),
    /// Open a run for each task that is ready, as far as there is room, and see to those that are under way.
    Tend {
        /// Tasks to be opened.
        ready: Vec<TaskId>,
        /// Runs of tasks that have not ended, as far as is known.
        under_way: Vec<RunId>,
    },
    /// Record that the run is parked.
    Park(Parking),
    /// A person must answer for these gates, on this tree.
    AwaitAnswer {
        /// What the person answers for.
        subject: Subject,
        /// Gates that need a person.
        gates: Vec<GateName>,
    },
    /// The run is parked: a person must resume or cancel it.
    AwaitResume,
    /// Nothing, ever.
    Nothing,
}

/// An event that cannot follow what is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {number} ({event}) cannot follow: {why}")]
pub struct Illegal {
    /// Its number.
    pub number: u64,
    /// Its type.
    pub event: &'static str,
    /// What it contradicts.
    pub why: String,
}

/// Folds a run's events into its state.
///
/// # Errors
/// The first event that cannot follow the ones before it; `Ok(None)` for no events.
pub fn replay<'a>(events: impl IntoIterator<Item = &'a Recorded>) -> Result<Option<Run>, Illegal> {
    events
        .into_iter()
        .try_fold(None, |run, event| apply(run, event).map(Some))
}

/// Gives the state after an event.
///
/// # Errors
/// [`Illegal`] when the event contradicts the state; the journal was then written by something else than the driver.
pub fn apply(run: Option<Run>, recorded: &Recorded) -> Result<Run, Illegal> {
    let refuse = |why: String| Illegal {
        number: recorded.number,
        event: recorded.event.name(),
        why,
    };
    let Some(mut run) = run else {
        return match &recorded.event {
            Event::Opened(opened) if recorded.number == 1 => Ok(Run::open(opened, recorded.at_ms)),
            _ => Err(refuse("a run begins with `opened`, number 1".into())),
        };
    };
    if recorded.number != run.events + 1 {
        return Err(refuse(format!("number {} was expected", run.events + 1)));
    }
    if let (Stage::Ended(_), false) = (&run.stage, recorded.event.may_follow_the_end()) {
        return Err(refuse("the run has ended".into()));
    }
    run.apply_event(&recorded.event, recorded.number, recorded.at_ms)
        .map_err(refuse)?;
    run.events = recorded.number;
    run.last_at_ms = recorded.at_ms;
    Ok(run)
}

/// The number of the rules, [`apply`] and [`next`]: raised with every change by which a run that an older moat left stands otherwise than it did,
/// so that what is kept of how runs stand is looked at anew.
pub const RULES: u32 = 1;

/// Gives what is to be done now.
pub fn next(run: &Run) -> Action {
    if let Stage::Ended(_) = run.stage {
        return Action::Nothing;
    }
    if run.parked.is_some() {
        return Action::AwaitResume;
    }
    if let Some(what) = run.budget_used() {
        return Action::Park(Parking::BudgetUsed { what });
    }
    match &run.stage {
        Stage::Intake => step::intake::next(run),
        Stage::Baseline => step::baseline::next(run),
        Stage::Plan => step::plan::next(run),
        Stage::Tasks => step::tasks::next(run),
        Stage::Implement => step::implement::next(run),
        Stage::Gates => step::gate::next_on_candidate(run),
        Stage::PrepareMerge => step::merge::next_prepare(run),
        Stage::GatesOnTip(prepared) => step::gate::next_on_tip(run, prepared),
        Stage::MoveBranch(prepared) => step::merge::next_move(run, prepared),
        Stage::Deploy(commit) => step::deploy::next(run, commit),
        Stage::Ended(_) => Action::Nothing,
    }
}

impl Run {
    fn open(opened: &Opened, at_ms: u64) -> Run {
        let child = opened.child.as_deref();
        Run {
            base: opened.base.clone(),
            budget: opened.pipeline.budget,
            opened: opened.clone(),
            opened_at_ms: at_ms,
            last_at_ms: at_ms,
            events: 1,
            stage: child.map_or(Stage::Intake, |child| {
                step::tasks::first_stage(opened, child)
            }),
            parked: None,
            item: child.map(|child| child.item.clone()),
            baseline: child.and_then(|child| child.baseline.clone()),
            attempts: Vec::new(),
            verdicts: BTreeMap::new(),
            answers: Vec::new(),
            in_flight: None,
            failures: Vec::new(),
            intended: None,
            merges_lost: 0,
            merged: None,
            deployment: None,
            calls: 0,
            spend: Spend::default(),
            asked: Asked::default(),
            reserved: BTreeMap::new(),
            active_ms: 0,
            used: BTreeMap::new(),
            denials: 0,
            regrant: child.and_then(|child| child.regrant.clone()),
            left: None,
            tasks: Vec::new(),
            children: Vec::new(),
            start: None,
            lent: BTreeMap::new(),
        }
    }

    fn apply_event(&mut self, event: &Event, number: u64, at_ms: u64) -> Result<(), String> {
        match event {
            Event::Opened(_) => return Err("the run is open already".into()),
            Event::StepStarted { step } => self.begin(step, number, at_ms)?,
            Event::StepFailed { step, failure } => {
                self.finish(|begun| begun == step, at_ms)?;
                step::repair::step_failed(self, step, failure);
            }
            Event::Diverged { step, report } => {
                self.finish(|begun| begun == step, at_ms)?;
                step::repair::diverged(self, step, report);
            }
            Event::StepInterrupted { step, failure } => {
                self.is_under_way(step)?;
                self.pause(at_ms);
                step::repair::interrupted(self, step, failure);
            }
            Event::EffectUnknown { step, interrupted } => {
                effect::unknown(self, step, interrupted, at_ms)?
            }
            Event::EffectResolved {
                number, happened, ..
            } => effect::resolved(self, *number, *happened)?,
            // Accounts of a skill go beyond the run: what is to be done next does not depend on them.
            Event::EffectIntended { step, .. } => self.is_under_way(step)?,
            Event::EffectConfirmed { .. } | Event::EffectWithdrawn { .. } => {}
            Event::Blocked { step, blocked } => {
                self.finish(|begun| begun == step, at_ms)?;
                grant::blocked(self, blocked);
            }
            Event::Regranted { regrant, .. } => grant::regranted(self, regrant)?,
            Event::Triaged { decision } => {
                self.finish(|begun| *begun == Step::Intake, at_ms)?;
                step::intake::triaged(self, decision)?;
            }
            Event::BaselineTaken { report } => {
                self.finish(|begun| *begun == Step::Baseline, at_ms)?;
                step::baseline::taken(self, report);
            }
            Event::Attempted {
                attempt,
                outcome,
                candidate,
            } => {
                let attempt_begun = Step::Implement { attempt: *attempt };
                self.finish(|begun| *begun == attempt_begun, at_ms)?;
                step::implement::attempted(self, *attempt, outcome, candidate)?;
            }
            Event::Used { skill, usage, .. } => {
                self.used.entry(skill.clone()).or_default().add(usage);
            }
            Event::Denied { times, .. } => self.denials += u64::from(*times),
            Event::GateDecided { verdict } => {
                self.finish(|begun| step::gate::is_of(begun, verdict), at_ms)?;
                step::gate::decided(self, verdict)?;
            }
            Event::Answered {
                gate,
                tree,
                answer,
                note,
                ..
            } => step::gate::answered(self, gate, tree, *answer, note)?,
            Event::MergePrepared { onto, commit, tree } => {
                self.finish(|begun| *begun == Step::PrepareMerge, at_ms)?;
                step::merge::prepared(self, onto, commit, tree)?;
            }
            Event::MergeConflicted { onto, paths } => {
                self.finish(|begun| *begun == Step::PrepareMerge, at_ms)?;
                step::merge::conflicted(self, onto, paths)?;
            }
            Event::MergeIntended { from, to, tree } => step::merge::intended(self, from, to, tree)?,
            Event::Merged { commit } => {
                self.finish(|begun| matches!(begun, Step::MoveBranch { .. }), at_ms)?;
                step::merge::merged(self, commit)?;
            }
            Event::MergeLost { .. } => {
                self.finish(|begun| matches!(begun, Step::MoveBranch { .. }), at_ms)?;
                step::merge::lost(self)?;
            }
            Event::Reserved {
                call,
                reservation,
                of,
                asking,
                ..
            } => self.reserve(*call, *reservation, *asking, of.as_ref())?,
            Event::Settled { call, spend } => self.settle(*call, spend)?,
            Event::Deployed { deployment } => {
                self.finish(|begun| matches!(begun, Step::Deploy { .. }), at_ms)?;
                step::deploy::deployed(self, deployment)?;
            }
            Event::Parked { reason } => {
                if self.parked.is_some() {
                    return Err("the run is parked already".into());
                }
                self.parked = Some(reason.clone());
            }
            Event::Resumed { .. } => step::repair::resumed(self)?,
            Event::Cancelled { .. } => {
                self.in_flight = None;
                self.stage = Stage::Ended(End::Cancelled);
            }
            Event::Planned { tasks } => {
                self.finish(|begun| *begun == Step::Plan, at_ms)?;
                step::plan::planned(self, tasks)?;
            }
            Event::TaskOpened { task, run, base } => step::tasks::opened(self, task, run, base)?,
            Event::TaskEnded {
                task,
                run,
                end,
                active_ms,
            } => step::tasks::ended(self, task, run, end, *active_ms)?,
            Event::Integrated { candidate } => {
                self.finish(|begun| *begun == Step::Integrate, at_ms)?;
                step::tasks::integrated(self, candidate)?;
            }
            Event::BudgetGiven { .. } => step::tasks::budget_given(self)?,
        }
        Ok(())
    }

    /// A step may begin again: a driver that died in the middle of it left no result. It is then the same one, and its record holds.
    fn begin(&mut self, step: &Step, number: u64, at_ms: u64) -> Result<(), String> {
        match next(self) {
            Action::Perform(due) if due == *step => {
                let before = self.in_flight.take().filter(|before| before.step == *step);
                self.in_flight = Some(InFlight {
                    step: due,
                    since_ms: at_ms,
                    began: before.as_ref().map_or(number, |before| before.began),
                    interruptions: before.as_ref().map_or(0, |before| before.interruptions),
                    resolved: before.map(|before| before.resolved).unwrap_or_default(),
                });
                Ok(())
            }
            due => Err(format!("the step due is {due:?}")),
        }
    }

    fn is_under_way(&self, step: &Step) -> Result<(), String> {
        let under_way = self.in_flight.as_ref();
        match under_way.is_some_and(|under_way| under_way.step == *step) {
            true => Ok(()),
            false => Err(format!("`{step}` is not under way")),
        }
    }

    /// Counts the time of a step that stays under way while nobody works on it.
    pub(crate) fn pause(&mut self, at_ms: u64) {
        if let Some(under_way) = &mut self.in_flight {
            let took_ms = at_ms.saturating_sub(under_way.since_ms);
            under_way.since_ms = at_ms;
            self.active_ms = self.active_ms.saturating_add(took_ms);
        }
    }

    /// A result is taken of the very step that is under way: one that comes late, or twice, is not.
    fn finish(&mut self, fits: impl FnOnce(&Step) -> bool, at_ms: u64) -> Result<(), String> {
        match self.in_flight.take() {
            Some(under_way) if fits(&under_way.step) => {
                self.asked.forget_own();
                let took_ms = at_ms.saturating_sub(under_way.since_ms);
                self.active_ms = self.active_ms.saturating_add(took_ms);
                Ok(())
            }
            Some(under_way) => Err(format!("`{}` is under way", under_way.step)),
            None => Err("no step is under way".into()),
        }
    }

    /// The last attempt's candidate.
    pub fn candidate(&self) -> Option<&Candidate> {
        self.attempts
            .last()
            .and_then(|attempt| attempt.candidate.as_ref())
    }

    /// The verdict of a gate on a subject, with a person's answer taken into account.
    pub fn finding(&self, gate: &crate::pipeline::Gate, subject: &Subject) -> Option<Finding> {
        let verdict = self.verdicts.get(&step::gate::key(&gate.digest, subject))?;
        if verdict.finding != Finding::NeedsHuman {
            return Some(verdict.finding);
        }
        let answer = self
            .answers
            .iter()
            .rev()
            .find(|(name, tree, _)| *name == gate.name && *tree == subject.tree);
        Some(match answer {
            Some((_, _, Answer::Approve)) => Finding::Pass,
            Some((_, _, Answer::Reject)) => Finding::Fail,
            None => Finding::NeedsHuman,
        })
    }
}

impl Event {
    /// The event's type, as the journal has it.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Opened(_) => "opened",
            Event::StepStarted { .. } => "step-started",
            Event::StepFailed { .. } => "step-failed",
            Event::Blocked { .. } => "blocked",
            Event::Regranted { .. } => "regranted",
            Event::Triaged { .. } => "triaged",
            Event::BaselineTaken { .. } => "baseline-taken",
            Event::Attempted { .. } => "attempted",
            Event::Used { .. } => "used",
            Event::Denied { .. } => "denied",
            Event::GateDecided { .. } => "gate-decided",
            Event::Answered { .. } => "answered",
            Event::MergePrepared { .. } => "merge-prepared",
            Event::MergeConflicted { .. } => "merge-conflicted",
            Event::MergeIntended { .. } => "merge-intended",
            Event::Merged { .. } => "merged",
            Event::MergeLost { .. } => "merge-lost",
            Event::Reserved { .. } => "reserved",
            Event::Settled { .. } => "settled",
            Event::Deployed { .. } => "deployed",
            Event::Parked { .. } => "parked",
            Event::Resumed { .. } => "resumed",
            Event::Cancelled { .. } => "cancelled",
            Event::Planned { .. } => "planned",
            Event::TaskOpened { .. } => "task-opened",
            Event::TaskEnded { .. } => "task-ended",
            Event::Integrated { .. } => "integrated",
            Event::BudgetGiven { .. } => "budget-given",
            Event::Diverged { .. } => "diverged",
            Event::StepInterrupted { .. } => "step-interrupted",
            Event::EffectUnknown { .. } => "effect-unknown",
            Event::EffectResolved { .. } => "effect-resolved",
            Event::EffectIntended { .. } => "effect-intended",
            Event::EffectConfirmed { .. } => "effect-confirmed",
            Event::EffectWithdrawn { .. } => "effect-withdrawn",
        }
    }

    /// A model call that was under way when the run was cancelled still has its price.
    fn may_follow_the_end(&self) -> bool {
        matches!(
            self,
            Event::Settled { .. } | Event::Used { .. } | Event::Denied { .. }
        )
    }
}
