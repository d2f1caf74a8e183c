//! Implement: the skill changes its view; what it leaves is imported by our own walk, and that tree is the candidate.

use capability::Grant;
use flow::Event;
use flow::event::Candidate;
use flow::id::{Role, TreeId};
use flow::role::{Assignment, Evidence};
use flow::run::Run;
use flow::step::Step;

use crate::builds;
use crate::context::Context;
use crate::step::intake::skill_view;
use crate::step::{Failed, cut, setup, skill, tasks};
use crate::view::View;

/// What is told of the last attempt's change.
const DIFF_BYTES_MAX: usize = 64 * 1024;

/// What is told of effects that are not confirmed.
const HALF_DONE_BYTES_MAX: usize = 16 * 1024;

pub(crate) async fn perform(context: &Context, attempt: u32) -> Result<Vec<Event>, Failed> {
    let run = context.ledger.run();
    let implement = &run.opened.pipeline.implement;
    let view = skill_view(context, implement, start(&run)).await?;
    let assignment = assignment(context, &run, attempt)?;
    let step = Step::Implement { attempt };
    let (_, grant) = context
        .skills
        .get(&implement.name)
        .ok_or_else(|| setup(implement.name.as_str(), &"the skill is not at hand"))?;
    // Outputs can hold what the command was given, its variables above all: only for who may run it.
    if grant.may_run_project(builds::COMMAND, &[]).is_ok()
        && let Some(before) = (context.house.builds).find(&context.build(start(&run), grant))
    {
        view.scratch().build_on(before, context.installed());
    }
    let called = skill::call(
        context,
        &step,
        implement,
        Role::Implement,
        &assignment,
        &view,
        None,
    )
    .await;
    let (outcome, mut events) = called.map_err(|mut ended| {
        if let Some(blocked) = &mut ended.blocked {
            blocked.left = left(context, &run, &view, grant);
        }
        ended
    })?;
    // The worker and every command of the step are dead by now: nothing writes here while it is read.
    let import = view
        .import(&context.mirror, start(&run), grant)
        .map_err(|error| {
            crate::step::failed(flow::event::Cause::Skill, "worktree", error.to_string(), "")
        })?;
    context
        .keep(&format!("attempt-{attempt}"), import.tree.clone())
        .map_err(|error| setup("mirror", &error))?;
    let changed = match &run.start {
        Some(_) => tasks::changed(&context.mirror, &run.base.tree, &import.tree)?,
        None => import
            .changed
            .into_iter()
            .map(|change| change.path)
            .collect(),
    };
    let candidate = Candidate {
        tree: import.tree,
        base: run.base.clone(),
        changed,
        refused: import
            .refused
            .into_iter()
            .map(|refused| format!("{}: {}", refused.path, refused.reason))
            .collect(),
    };
    events.push(Event::Attempted {
        attempt,
        outcome,
        candidate,
    });
    Ok(events)
}

/// What an attempt that lacked a grant had made of its base: kept, so that the next one need not begin with nothing.
fn left(context: &Context, run: &Run, view: &View, grant: &Grant) -> Option<TreeId> {
    let kept = || {
        let import = view.import(&context.mirror, start(run), grant).ok()?;
        let kept = context.keep("blocked", import.tree.clone());
        kept.ok().map(|()| import.tree)
    };
    kept().filter(|tree| tree != start(run))
}

/// What an attempt begins from: the joined work of the tasks, or the base.
fn start(run: &Run) -> &TreeId {
    run.start.as_ref().unwrap_or(&run.base.tree)
}

/// What skills began outside and did not finish: an agent that builds on it has to know.
fn half_done(context: &Context, run: &Run) -> Result<Option<Evidence>, Failed> {
    let journal = &context.house.journal;
    let open = crate::effects::unconfirmed(journal, &run.opened.repository);
    let open = open.map_err(|error| setup("journal", &error))?;
    let line = |one: &crate::effects::Unconfirmed| {
        format!(
            "{}: intended by skill {} in run {}, not confirmed: {}\n",
            one.key, one.skill, one.run, one.what
        )
    };
    let text: String = open.iter().map(line).collect();
    Ok((!open.is_empty()).then(|| Evidence {
        source: "host".into(),
        title: "what was begun outside and may have happened".into(),
        text: cut(&text, HALF_DONE_BYTES_MAX),
    }))
}

fn assignment(context: &Context, run: &Run, attempt: u32) -> Result<Assignment, Failed> {
    let item = run
        .item
        .clone()
        .ok_or_else(|| setup("implement", &"the run has no work item"))?;
    let reds = run
        .attempts
        .iter()
        .filter_map(|attempt| attempt.red.as_ref());
    let evidence = reds.flat_map(|red| red.evidence.iter().cloned());
    let evidence: Vec<Evidence> = evidence.chain(half_done(context, run)?).collect();
    let last = run
        .attempts
        .iter()
        .rev()
        .find_map(|attempt| attempt.candidate.as_ref())
        .map(|last| (&last.base.tree, &last.tree));
    let left = run.left.as_ref().map(|left| (&run.base.tree, left));
    let last_diff = match left.or(last) {
        Some((base, tree)) if tree != base => {
            let limits = repo::DiffLimits {
                patch_bytes_max: DIFF_BYTES_MAX,
                ..repo::DiffLimits::default()
            };
            let diff = context
                .mirror
                .diff(base, tree, &limits)
                .map_err(|error| setup("mirror", &error))?;
            Some(cut(&diff.patch, DIFF_BYTES_MAX))
        }
        _ => None,
    };
    Ok(Assignment {
        item,
        attempt,
        baseline: run.baseline.clone(),
        evidence,
        last_diff,
    })
}
