//! Tasks: what a plan splits a work item into, whether the plan can be followed, and which tasks may be done now.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::claim::{Claim, InvalidClaim};
use crate::id::{CommitId, InvalidId, RunId, TaskId};
use crate::role::PlannedTask;
use crate::verdict::Base;

/// A plan with more tasks is no plan that a person can look over.
pub const TASKS_MAX: usize = 32;
/// Claims of one task.
const CLAIMS_MAX: usize = 100;
/// Instructions and acceptance of one task: an assignment has to fit into a prompt.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// One task of a plan that can be followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Task {
    /// Unique within the plan.
    pub id: TaskId,
    /// One line.
    pub title: String,
    /// What is to be done.
    pub instructions: String,
    /// The paths that it may change, and no others.
    pub claims: Vec<Claim>,
    /// Tasks that must be joined before it begins.
    pub after: Vec<TaskId>,
    /// Sentences that must hold when it is done.
    pub acceptance: Vec<String>,
}

impl Task {
    /// Whether it may change a path.
    pub fn claims(&self, path: &str) -> bool {
        self.claims.iter().any(|claim| claim.covers(path))
    }

    /// Whether some path may be changed by both: they are not done at the same time.
    pub fn overlaps(&self, other: &Task) -> bool {
        let mine = self.claims.iter();
        mine.flat_map(|one| other.claims.iter().map(move |two| (one, two)))
            .any(|(one, two)| one.overlaps(two))
    }
}

/// Why a plan cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too many tasks.
    #[error("it has {found} tasks, more than {TASKS_MAX}")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// An id is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A claim is none.
    #[error("task {task}: {error}")]
    Claim {
        /// The task.
        task: TaskId,
        /// Why.
        error: InvalidClaim,
    },
    /// A task has no claim, or too many.
    #[error("task {task} claims {found} paths; one to {CLAIMS_MAX} are needed")]
    Claims {
        /// The task.
        task: TaskId,
        /// How many.
        found: usize,
    },
    /// A task has no title, or too much text.
    #[error("task {task} has no title, or more than {TEXT_BYTES_MAX} bytes of text")]
    Text {
        /// The task.
        task: TaskId,
    },
    /// An id stands twice.
    #[error("task {task} stands twice")]
    Twice {
        /// The task.
        task: TaskId,
    },
    /// A task waits for one that is not there.
    #[error("task {task} comes after {after}, which is not in the plan")]
    Unknown {
        /// The task.
        task: TaskId,
        /// What is not there.
        after: TaskId,
    },
    /// Tasks wait for each other.
    #[error("tasks wait for each other: {}", .tasks.iter().map(TaskId::as_str).collect::<Vec<_>>().join(", "))]
    Circle {
        /// Those that can never begin.
        tasks: Vec<TaskId>,
    },
}

/// Reads a plan.
///
/// # Errors
/// [`PlanError`]: what cannot be followed is refused as a whole.
pub fn check(planned: Vec<PlannedTask>) -> Result<Vec<Task>, PlanError> {
    if planned.len() > TASKS_MAX {
        return Err(PlanError::TooMany {
            found: planned.len(),
        });
    }
    let tasks = planned
        .into_iter()
        .map(task)
        .collect::<Result<Vec<_>, _>>()?;
    consistent(&tasks)?;
    Ok(tasks)
}

fn task(planned: PlannedTask) -> Result<Task, PlanError> {
    let id: TaskId = planned.id.parse()?;
    let claim = |text: String| {
        Claim::try_from(text).map_err(|error| PlanError::Claim {
            task: id.clone(),
            error,
        })
    };
    Ok(Task {
        title: planned.title.trim().chars().take(200).collect(),
        instructions: planned.instructions,
        claims: planned
            .claims
            .into_iter()
            .map(claim)
            .collect::<Result<_, _>>()?,
        after: (planned.after.iter().map(|text| text.parse())).collect::<Result<_, _>>()?,
        acceptance: planned.acceptance,
        id,
    })
}

/// What holds of the tasks together. The journal's plan is held to it as well.
pub(crate) fn consistent(tasks: &[Task]) -> Result<(), PlanError> {
    if tasks.len() > TASKS_MAX {
        return Err(PlanError::TooMany { found: tasks.len() });
    }
    let mut ids = BTreeSet::new();
    for task in tasks {
        let id = || task.id.clone();
        if !ids.insert(&task.id) {
            return Err(PlanError::Twice { task: id() });
        }
        if !(1..=CLAIMS_MAX).contains(&task.claims.len()) {
            let found = task.claims.len();
            return Err(PlanError::Claims { task: id(), found });
        }
        let acceptance: usize = task.acceptance.iter().map(String::len).sum();
        if task.title.is_empty() || task.instructions.len() + acceptance > TEXT_BYTES_MAX {
            return Err(PlanError::Text { task: id() });
        }
    }
    for task in tasks {
        if let Some(after) = task.after.iter().find(|after| !ids.contains(after)) {
            return Err(PlanError::Unknown {
                task: task.id.clone(),
                after: after.clone(),
            });
        }
    }
    // Those whose predecessors can all be done can be done; what is left when nothing is added any more never can.
    let mut left: Vec<&Task> = tasks.iter().collect();
    let mut done: BTreeSet<&TaskId> = BTreeSet::new();
    loop {
        let before = left.len();
        left.retain(|task| {
            let can = task.after.iter().all(|after| done.contains(after));
            if can {
                done.insert(&task.id);
            }
            !can
        });
        if left.is_empty() {
            return Ok(());
        }
        if left.len() == before {
            return Err(PlanError::Circle {
                tasks: left.into_iter().map(|task| task.id.clone()).collect(),
            });
        }
    }
}

/// A task and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskState {
    /// The task.
    pub task: Task,
    /// Where it stands.
    pub standing: Standing,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No run works on it.
    Waiting,
    /// A run works on it, or waits for a person.
    UnderWay {
        /// The run.
        run: RunId,
        /// What it was begun from: the joined work of then.
        base: Base,
    },
    /// Its work is in the joined tree.
    Joined {
        /// The run that did it.
        run: RunId,
        /// The commit that brought it in.
        commit: CommitId,
    },
    /// A person ended its run.
    Cancelled {
        /// The run.
        run: RunId,
    },
}

/// How the run of a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum TaskEnd {
    /// Its work is in the joined tree.
    Joined {
        /// The commit that brought it in.
        commit: CommitId,
    },
    /// A person ended it.
    Cancelled,
}

/// A model call of a task's run, for which the parent sets money aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildCall {
    /// The task's run.
    pub run: RunId,
    /// The call's number there.
    pub call: u64,
}

/// The tasks that may be begun now, in the plan's order: what they come after is joined, and no claim of theirs meets one of a task that is
/// under way or stands before them in this answer.
pub fn ready(tasks: &[TaskState]) -> Vec<&Task> {
    let is_joined = |id: &TaskId| {
        let joined = |one: &TaskState| matches!(one.standing, Standing::Joined { .. });
        tasks.iter().any(|one| one.task.id == *id && joined(one))
    };
    let mut apart: Vec<&Task> = tasks
        .iter()
        .filter(|one| matches!(one.standing, Standing::UnderWay { .. }))
        .map(|one| &one.task)
        .collect();
    let mut ready = Vec::new();
    for one in tasks {
        if one.standing == Standing::Waiting
            && one.task.after.iter().all(is_joined)
            && !apart.iter().any(|other| one.task.overlaps(other))
        {
            apart.push(&one.task);
            ready.push(&one.task);
        }
    }
    ready
}
