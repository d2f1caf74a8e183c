//! Baseline: the test skill reports the base.

use flow::Event;
use flow::id::Role;
use flow::role::TestRequest;
use flow::step::Step;

use crate::context::Context;
use crate::step::intake::skill_view;
use crate::step::{Failed, setup, skill};

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
        command: "test".into(),
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
    // Its commands are dead by now. What could write to the view could have put there what is no part of the base.
    if let Some((_, grant)) = context.skills.get(&test.name)
        && grant.writable().is_empty()
    {
        let key = context.build(&run.base.tree, grant);
        context.house.builds.keep(&key, &view.scratch());
    }
    events.push(Event::BaselineTaken { report });
    Ok(events)
}
