//! Baseline: the test skill reports the base.

use std::path::Path;

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
    // What could write to the view could have put there what is no part of the base; and the base of a task may be what other agents made.
    let grant = (context.skills.get(&test.name)).map(|(_, grant)| grant);
    let keeping = grant.filter(|grant| grant.writable().is_empty() && run.opened.child.is_none());
    if keeping.is_some() && !context.project.installed.is_empty() {
        view.scratch().set_aside();
    }
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
    // Its commands are dead by now.
    if let Some(grant) = keeping {
        let key = context.build(&run.base.tree, grant);
        let (house, scratch) = (context.house.clone(), view.scratch());
        let (mirror, tree) = (context.mirror.clone(), run.base.tree.clone());
        let installed = context.installed();
        let kept = tokio::task::spawn_blocking(move || {
            let found = |aside: &Path| mirror.installed(aside, &tree, &installed);
            let keep = views::keep(house.root());
            house.builds.keep(&key, &scratch, &installed, found, keep);
        });
        kept.await.map_err(|error| setup("builds", &error))?;
    }
    events.push(Event::BaselineTaken { report });
    Ok(events)
}
