//! Plan: the plan skill splits the item into tasks, and what they will join is begun.

use flow::Event;
use flow::event::Cause;
use flow::id::Role;
use flow::role::PlannedTask;
use flow::step::Step;
use flow::task;

use crate::context::Context;
use crate::step::intake::skill_view;
use crate::step::{Failed, failed, setup, skill};

/// The name under which the joined work of a run's tasks is kept in the mirror.
pub(crate) const JOINED: &str = "joined";

pub(crate) async fn perform(context: &Context) -> Result<Vec<Event>, Failed> {
    let run = context.ledger.run();
    let plan = run
        .opened
        .pipeline
        .plan
        .as_ref()
        .ok_or_else(|| setup("plan", &"the pipeline has no plan skill"))?;
    let item = run
        .item
        .as_ref()
        .ok_or_else(|| setup("plan", &"the run has no work item"))?;
    let view = skill_view(context, plan, &run.base.tree).await?;
    let (planned, mut events) = skill::call::<_, Vec<PlannedTask>>(
        context,
        &Step::Plan,
        plan,
        Role::Plan,
        item,
        &view,
        None,
    )
    .await?;
    let tasks = match task::check(planned) {
        Ok(tasks) => tasks,
        Err(error) => {
            let title = format!("its plan cannot be followed: {error}");
            let mut ended = failed(Cause::Skill, plan.name.as_str(), title, "");
            ended.before = events;
            return Err(ended);
        }
    };
    // Nothing has been joined yet: the plan is not in the journal.
    context
        .keep(JOINED, run.base.commit.clone())
        .map_err(|error| setup("mirror", &error))?;
    events.push(Event::Planned { tasks });
    Ok(events)
}
