//! Baseline: the test skill reports the base.

use flow::Event;
use flow::id::Role;
use flow::role::TestRequest;
use flow::step::Step;

use crate::builds;
use crate::context::Context;
use crate::step::intake::skill_view;
use crate::step::{Failed, setup, skill};
use crate::views;

pub(crate) async fn perform(context: &Context) -> Result<Vec<Event>, Failed> {
    let run = context.ledger.run();
    let test = run
        .opened
        .pipeline
        .test
        .as_ref()
        .ok_or_else(|| setup("baseline", &"the pipeline has no test skill"))?;
    let view = skill_view(context, test, &run.base.tree).await?;
    let request = TestRequest {
        command: builds::COMMAND.into(),
    };
    let (report, mut events) = skill::call(
        context,
        &Step::Baseline,
        test,
        Role::Test,
        &request,
        &view,
        None,
    )
    .await?;
    // Its commands are dead by now. What could write to the view could have put there what is no part of the base; and the base of a task may
    // be what other agents made.
    if let Some((_, grant)) = context.skills.get(&test.name)
        && grant.writable().is_empty()
        && run.opened.child.is_none()
    {
        let key = context.build(&run.base.tree, grant);
        let (house, scratch) = (context.house.clone(), view.scratch());
        let kept = tokio::task::spawn_blocking(move || {
            house.builds.keep(&key, &scratch, views::keep(house.root()));
        });
        kept.await.map_err(|error| setup("builds", &error))?;
    }
    events.push(Event::BaselineTaken { report });
    Ok(events)
}
