//! What happened: the events of a run, in the form that the journal keeps.
//!
//! Format 1. A change of meaning takes a new variant; old variants stay readable for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::effect::{Asking, Effect, Interrupted};
use crate::grant::{Blocked, PinnedPolicy, Regrant};
use crate::id::{CommitId, Digest, GateName, RunId, SkillName, TaskId, TreeId};
use crate::money::{Reservation, Spend};
use crate::pipeline::Pipeline;
use crate::role::{Decision, Deployment, Evidence, Outcome, Report, TestReport, WorkItem};
use crate::step::Step;
use crate::task::{ChildCall, Task, TaskEnd};
use crate::verdict::{Base, Subject, Verdict};

/// An event with its place and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// 1 for the first of its run, without gaps.
    pub number: u64,
    /// When it was recorded, in milliseconds since 1970.
    pub at_ms: u64,
    /// What happened.
    pub event: Event,
}

/// What can happen to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Event {
    /// The run exists.
    Opened(Box<Opened>),
    /// A step begins; what it does outside comes after this is durable.
    StepStarted {
        /// The step.
        step: Step,
    },
    /// A step ended without a result.
    StepFailed {
        /// The step.
        step: Step,
        /// Why.
        failure: Failure,
    },
    /// A step ended because its skill lacks a grant.
    Blocked {
        /// The step.
        step: Step,
        /// What is missing.
        blocked: Blocked,
    },
    /// A person sent a run that lacked a grant on its way, after the grant was given where grants are given.
    Regranted {
        /// The person.
        by: String,
        /// What holds from now on.
        regrant: Regrant,
    },
    /// Triage decided.
    Triaged {
        /// What becomes of the report.
        decision: Decision,
    },
    /// The base's tests were reported.
    BaselineTaken {
        /// The report.
        report: TestReport,
    },
    /// An attempt ended with a result.
    Attempted {
        /// 1 for the first.
        attempt: u32,
        /// What the skill says.
        outcome: Outcome,
        /// What the host found in the view: the candidate, not yet trusted.
        candidate: Candidate,
    },
    /// A skill answered: what the call used of its grant.
    Used {
        /// The step in which it was called.
        step: Step,
        /// The skill.
        skill: SkillName,
        /// What it used.
        usage: Usage,
    },
    /// A capability was refused to a skill.
    Denied {
        /// The step in which it happened.
        step: Step,
        /// The skill.
        skill: SkillName,
        /// What was asked, for people.
        what: String,
        /// The line that would have allowed it.
        line: String,
        /// How often in this step.
        times: u32,
    },
    /// A gate answered.
    GateDecided {
        /// Its verdict.
        verdict: Verdict,
    },
    /// A person answered for a gate, for one exact tree.
    Answered {
        /// The gate.
        gate: GateName,
        /// What the person saw.
        tree: TreeId,
        /// The answer.
        answer: Answer,
        /// The person, as the host knows them.
        by: String,
        /// In their words.
        note: String,
    },
    /// The candidate was merged onto the branch's tip, in the mirror only.
    MergePrepared {
        /// The tip.
        onto: Base,
        /// The commit that the branch will move to.
        commit: CommitId,
        /// Its tree.
        tree: TreeId,
    },
    /// The candidate does not merge onto the tip.
    MergeConflicted {
        /// The tip: later attempts start from it.
        onto: Base,
        /// Where.
        paths: Vec<String>,
    },
    /// The branch is about to be moved.
    MergeIntended {
        /// From the tip that was merged onto.
        from: CommitId,
        /// To the verified commit.
        to: CommitId,
        /// Its tree.
        tree: TreeId,
    },
    /// The branch stands at the verified commit.
    Merged {
        /// The commit.
        commit: CommitId,
    },
    /// The branch had moved meanwhile; nothing was changed.
    MergeLost {
        /// Where it stands.
        actual: CommitId,
    },
    /// Money and tokens were set aside for a model call.
    Reserved {
        /// 1 for the first of the run, without gaps.
        call: u64,
        /// The alias that the skill asked for.
        alias: String,
        /// Who answers: provider and model.
        model: String,
        /// How much.
        reservation: Reservation,
        /// The call of a task's run that it is for; absent for the run's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<ChildCall>,
        /// What it is for, where a call that is made again for it is charged for once; absent in runs of older versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asking: Option<Asking>,
    },
    /// A model call ended.
    Settled {
        /// The call.
        call: u64,
        /// What it really took.
        spend: Spend,
    },
    /// A deployment ended.
    Deployed {
        /// How.
        deployment: Deployment,
    },
    /// The run waits for a person, with a dossier.
    Parked {
        /// Why.
        reason: Parking,
    },
    /// A person sent a parked run on its way.
    Resumed {
        /// The person.
        by: String,
    },
    /// A person ended the run.
    Cancelled {
        /// The person.
        by: String,
    },
    /// The work item was split into tasks.
    Planned {
        /// The tasks; with one or none, the item is done as a whole.
        tasks: Vec<Task>,
    },
    /// A run of a task is to be opened, from what is joined so far. That run's first event comes after this is durable.
    TaskOpened {
        /// The task.
        task: TaskId,
        /// The run that works on it.
        run: RunId,
        /// What it begins from.
        base: Base,
    },
    /// The run of a task ended.
    TaskEnded {
        /// The task.
        task: TaskId,
        /// Its run.
        run: RunId,
        /// How.
        end: TaskEnd,
        /// Its time in steps.
        active_ms: u64,
    },
    /// All tasks are joined: their tree is the candidate.
    Integrated {
        /// The candidate, on the base that the tasks began from.
        candidate: Candidate,
    },
    /// A person gave a run whose tasks have used up its budget the same again.
    BudgetGiven {
        /// The person.
        by: String,
    },
    /// A step that was taken up again did otherwise than its record has it. It is given up, and begins afresh.
    Diverged {
        /// The step.
        step: Step,
        /// Where the two part.
        report: Divergence,
    },
    /// A step came to no end, for a reason that is not its skill's: its worker was lost, or a store of the host took nothing. It stays under way, and
    /// goes on from its record.
    StepInterrupted {
        /// The step.
        step: Step,
        /// Why.
        failure: Failure,
    },
    /// A step that was taken up again came to something that may have happened. It waits for a person, under way as it is.
    EffectUnknown {
        /// The step.
        step: Step,
        /// What.
        interrupted: Interrupted,
    },
    /// A person says whether it happened.
    EffectResolved {
        /// The host call.
        number: u64,
        /// Whether it did.
        happened: bool,
        /// The person.
        by: String,
    },
    /// A skill is about to do something outside that it keeps account of.
    EffectIntended {
        /// The step.
        step: Step,
        /// What.
        effect: Effect,
        /// The host call by which it said so.
        asking: Asking,
    },
    /// A skill says that something happened that it, or one before it, was about to do.
    EffectConfirmed {
        /// The skill.
        skill: SkillName,
        /// Its name for it.
        key: String,
        /// What came of it; untrusted.
        outcome: String,
    },
    /// A skill says that it did not happen.
    EffectWithdrawn {
        /// The skill.
        skill: SkillName,
        /// Its name for it.
        key: String,
    },
}

/// Where a skill, given the same answers, asked something else than it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The host call, 1 for the first of the step.
    pub call: u64,
    /// What it had asked.
    pub recorded: String,
    /// What it asked now; untrusted, as the other.
    pub asked: String,
}

/// What a run is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The run.
    pub run: RunId,
    /// The user's repository, by its absolute path.
    pub repository: String,
    /// What arrived.
    pub report: Report,
    /// The tip of the protected branch.
    pub base: Base,
    /// The way to go.
    pub pipeline: Pipeline,
    /// The `moat.toml` that it was resolved from.
    pub project: Digest,
    /// The policy that the grants were computed under; absent in runs of older versions.
    #[serde(default)]
    pub policy: Option<PinnedPolicy>,
    /// Of a run that works on a task of another: that task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<Box<Child>>,
}

/// What a run that works on a task has of its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The run whose task it is.
    pub parent: RunId,
    /// The task.
    pub task: Task,
    /// The task as a work item.
    pub item: WorkItem,
    /// The tests of its base, where the parent knows them.
    pub baseline: Option<TestReport>,
    /// The grants that hold for the parent instead of those that it was opened with.
    pub regrant: Option<Regrant>,
}

/// What an attempt left in its view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The tree that was imported.
    pub tree: TreeId,
    /// The base that the attempt started from.
    pub base: Base,
    /// Paths that differ from the base.
    pub changed: Vec<String>,
    /// What the import refused, for people.
    pub refused: Vec<String>,
}

impl Candidate {
    /// What the gates look at.
    pub fn subject(&self) -> Subject {
        Subject {
            tree: self.tree.clone(),
            base: self.base.tree.clone(),
        }
    }
}

/// What calls of a skill used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Host calls by `interface.function`, refused ones included.
    pub host_calls: BTreeMap<String, u64>,
    /// Units of work in WebAssembly.
    pub fuel: u64,
    /// All memories and tables of a call at their most.
    pub peak_memory_bytes: u64,
}

impl Usage {
    /// Adds another call's.
    pub fn add(&mut self, other: &Usage) {
        for (name, times) in &other.host_calls {
            let sum = self.host_calls.entry(name.clone()).or_insert(0);
            *sum = sum.saturating_add(*times);
        }
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.peak_memory_bytes = self.peak_memory_bytes.max(other.peak_memory_bytes);
    }
}

/// A person's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The gate counts as passed, for this tree.
    Approve,
    /// The candidate is refused.
    Reject,
}

/// Why a step has no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Who must act.
    pub cause: Cause,
    /// For people.
    pub evidence: Evidence,
    /// Equal for two failures that are the same failure.
    pub signature: Digest,
}

/// Who must act on a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The skill failed, trapped or broke its limits.
    Skill,
    /// It may pass: overload, a lost worker.
    Passing,
    /// A budget of the run is used up.
    Budget,
    /// The project's configuration or the machine.
    Setup,
    /// The user's checkout stands in the way.
    Checkout,
}

/// Why a run is parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum Parking {
    /// Triage needs answers.
    Unclear {
        /// The questions.
        questions: Vec<String>,
    },
    /// The skill has no idea left.
    GaveUp {
        /// Its words.
        reason: String,
    },
    /// The skill says that the item already holds, which no gate can prove.
    ClaimsAlreadyTrue {
        /// Its words.
        reason: String,
    },
    /// The same failure came back on the same tree.
    NoProgress,
    /// All attempts are used.
    AttemptsUsed {
        /// How many.
        attempts: u32,
    },
    /// Tokens, money or time are used up.
    BudgetUsed {
        /// Which one.
        what: String,
    },
    /// A step failed for good.
    StepFailed {
        /// The step.
        step: Step,
        /// Why.
        failure: Failure,
    },
    /// A skill lacks a grant.
    BlockedOnGrant {
        /// What is missing.
        blocked: Blocked,
    },
    /// Something was interrupted that may have happened.
    EffectUnknown {
        /// What.
        interrupted: Interrupted,
    },
    /// A person refused the candidate.
    Rejected {
        /// The gate.
        gate: GateName,
        /// In their words.
        note: String,
    },
    /// The deployment was unhealthy and taken back.
    RolledBack {
        /// Why.
        reason: String,
    },
    /// The branch kept moving.
    BranchBusy {
        /// Merges prepared in vain.
        rounds: u32,
    },
    /// Tasks were ended by a person, and nothing else is left to do.
    TasksCancelled {
        /// Which.
        tasks: Vec<TaskId>,
    },
}
