//! Intake: the triage skill reads the report.

use flow::Event;
use flow::id::Role;
use flow::role::Decision;
use flow::step::Step;
use flow::step::intake::untriaged;

use crate::context::Context;
use crate::step::{Failed, setup, skill};
use crate::view::View;

pub(crate) async fn perform(context: &Context) -> Result<Vec<Event>, Failed> {
    let run = context.ledger.run();
    let Some(triage) = &run.opened.pipeline.triage else {
        let decision = Decision::Accepted(untriaged(&run.opened.report.text));
        return Ok(vec![Event::Triaged { decision }]);
    };
    let view = skill_view(context, triage, &run.base.tree).await?;
    let (decision, mut events) = skill::call(
        context,
        &Step::Intake,
        triage,
        Role::Triage,
        &run.opened.report,
        &view,
        None,
    )
    .await?;
    events.push(Event::Triaged { decision });
    Ok(events)
}

/// What a skill sees of a tree.
pub(crate) async fn skill_view(
    context: &Context,
    skill: &flow::pipeline::Skill,
    tree: &flow::id::TreeId,
) -> Result<View, Failed> {
    let (_, grant) = context
        .skills
        .get(&skill.name)
        .ok_or_else(|| setup(skill.name.as_str(), &"the skill is not at hand"))?;
    (context.house.views)
        .of_grant(&context.directory(), &context.mirror, tree, grant)
        .await
        .map_err(|error| setup("worktree", &error))
}
