//! Plan: a work item is split into tasks, or done as a whole.

use crate::role::WorkItem;
use crate::run::{Action, Run, Stage};
use crate::step::Step;
use crate::task::{self, Standing, Task, TaskState};

/// The plan skill's turn.
pub(crate) fn next(_run: &Run) -> Action {
    Action::Perform(Step::Plan)
}

/// Where a run goes once its item, and the base's tests if it has a test skill, are known.
pub(crate) fn stage_of(run: &Run) -> Stage {
    let is_whole = run.opened.child.is_some() || run.opened.pipeline.plan.is_none();
    if is_whole {
        Stage::Implement
    } else {
        Stage::Plan
    }
}

/// Takes over the plan.
pub(crate) fn planned(run: &mut Run, tasks: &[Task]) -> Result<(), String> {
    task::consistent(tasks).map_err(|error| error.to_string())?;
    run.failures.clear();
    if tasks.len() < 2 {
        run.stage = Stage::Implement;
        return Ok(());
    }
    let waiting = |task: &Task| TaskState {
        task: task.clone(),
        standing: Standing::Waiting,
    };
    run.tasks = tasks.iter().map(waiting).collect();
    run.stage = Stage::Tasks;
    Ok(())
}

/// A task as the work item of its run: what the whole is about, and where this part of it ends.
pub fn item_of(whole: &WorkItem, task: &Task) -> WorkItem {
    let claims: Vec<String> = task.claims.iter().map(|one| format!("- {one}")).collect();
    let body = format!(
        "{}\n\nThis is one task of several that are done at the same time. It may change these paths and nothing else:\n{}\n\nThe whole, of which the other tasks do the rest: {}\n\n{}",
        task.instructions,
        claims.join("\n"),
        whole.title,
        whole.body
    );
    WorkItem {
        title: task.title.clone(),
        body,
        kind: whole.kind,
        suspects: (task.claims.iter())
            .filter_map(|claim| claim.literal().map(str::to_owned))
            .collect(),
        acceptance: task.acceptance.clone(),
    }
}
