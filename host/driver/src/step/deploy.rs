//! Deploy: the deploy skill decides the order of things, the host does them.

use flow::Event;
use flow::id::{CommitId, Role};
use flow::role::Target;
use flow::step::Step;

use crate::context::Context;
use crate::releases::Releases;
use crate::step::intake::skill_view;
use crate::step::{Failed, setup, skill};

pub(crate) async fn perform(context: &Context, commit: &CommitId) -> Result<Vec<Event>, Failed> {
    let run = context.ledger.run();
    let configured = run
        .opened
        .pipeline
        .deploy
        .as_ref()
        .zip(context.project.deploy.clone());
    let (pipeline, deploy) =
        configured.ok_or_else(|| setup("deploy", &"the project configures no [deploy]"))?;
    let tree = context
        .mirror
        .tree_of(commit)
        .map_err(|error| setup("deploy", &error))?;
    let releases = Releases {
        directory: context.house.releases_dir(&run.opened.repository),
        mirror: context.mirror.clone(),
        deploy,
        target: (commit.clone(), tree.clone()),
        held: Some(context.ledger.held().clone()),
    };
    let view = skill_view(context, &pipeline.skill, &tree).await?;
    let target = Target {
        commit: commit.to_string(),
        patience_ms: pipeline.patience_ms,
    };
    let step = Step::Deploy {
        commit: commit.clone(),
    };
    let (deployment, mut events) = skill::call(
        context,
        &step,
        &pipeline.skill,
        Role::Deploy,
        &target,
        &view,
        Some(releases),
    )
    .await?;
    events.push(Event::Deployed { deployment });
    Ok(events)
}
