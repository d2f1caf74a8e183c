//! Merge: onto the tip in the mirror first, and then the one move of the branch.

use flow::Event;
use flow::event::Cause;
use flow::id::{CommitId, RunId};
use flow::role::Outcome;
use flow::run::Run;
use flow::verdict::Base;
use repo::{Identity, MergeOutcome, Message, PublishError};

use crate::context::Context;
use crate::step::plan::JOINED;
use crate::step::tasks::joined;
use crate::step::{Failed, failed, setup};

/// Brings the tip over and merges the candidate onto it.
pub(crate) fn prepare(context: &Context) -> Result<Vec<Event>, Failed> {
    let run = context.ledger.run();
    let git = |error: &dyn std::fmt::Display| setup("merge", error);
    let candidate = run
        .candidate()
        .ok_or_else(|| setup("merge", &"there is no candidate"))?
        .clone();
    let tip = match &run.opened.child {
        Some(child) => joined(&context.mirror, &child.parent).map_err(|error| git(&error))?,
        None => context
            .mirror
            .fetch(&context.source, &run.opened.pipeline.branch)
            .map_err(|error| git(&error))?,
    };
    let onto = Base {
        tree: context.mirror.tree_of(&tip).map_err(|error| git(&error))?,
        commit: tip,
    };
    let identity = Identity::new("moat", "moat@localhost").map_err(|error| git(&error))?;
    // The same run makes the same commits, however often the step is repeated.
    let time = (run.opened_at_ms / 1000) as i64;
    let commit = |tree, parents: &[CommitId]| {
        context
            .mirror
            .commit(tree, parents, &identity, &message(&run), time)
    };
    let theirs = commit(
        &candidate.tree,
        std::slice::from_ref(&candidate.base.commit),
    )
    .map_err(|error| git(&error))?;
    let (commit, tree) = match context
        .mirror
        .merge(&onto.commit, &theirs)
        .map_err(|error| git(&error))?
    {
        MergeOutcome::FastForward { tree } => (theirs, tree),
        MergeOutcome::Clean { tree } => (
            commit(&tree, &[onto.commit.clone(), theirs]).map_err(|error| git(&error))?,
            tree,
        ),
        MergeOutcome::UpToDate => (onto.commit.clone(), onto.tree.clone()),
        MergeOutcome::Conflict { conflicts } => {
            let paths = conflicts
                .into_iter()
                .map(|conflict| format!("{}: {}", conflict.path, conflict.kind))
                .collect();
            return Ok(vec![Event::MergeConflicted { onto, paths }]);
        }
        MergeOutcome::Unrelated => {
            return Err(failed(
                Cause::Setup,
                "merge",
                "the branch was replaced by one with another history",
                "",
            ));
        }
    };
    context
        .keep("merge", commit.clone())
        .map_err(|error| git(&error))?;
    Ok(vec![Event::MergePrepared { onto, commit, tree }])
}

fn message(run: &Run) -> Message {
    let title = run
        .item
        .as_ref()
        .map_or("work item", |item| item.title.as_str());
    let claim = run
        .attempts
        .last()
        .and_then(|attempt| match &attempt.outcome {
            Some(Outcome::Changed(claim)) => Some(claim.as_str()),
            _ => None,
        });
    let message =
        Message::new(title, claim.unwrap_or("")).with_trailer("Moat-Run", run.opened.run.as_str());
    match &run.opened.child {
        Some(child) => message.with_trailer("Moat-Task", child.task.id.as_str()),
        None => message,
    }
}

/// Moves the branch to the verified commit, and nowhere else.
pub(crate) fn move_branch(
    context: &Context,
    from: &CommitId,
    to: &CommitId,
) -> Result<Vec<Event>, Failed> {
    let run = context.ledger.run();
    let branch = &run.opened.pipeline.branch;
    let tree = context
        .mirror
        .tree_of(to)
        .map_err(|error| setup("merge", &error))?;
    let intent = Event::MergeIntended {
        from: from.clone(),
        to: to.clone(),
        tree,
    };
    context
        .ledger
        .append(vec![intent])
        .map_err(|error| setup("merge", &error))?;
    let _effect = (context.ledger.effect()).map_err(|error| setup("merge", &error))?;
    if let Some(child) = &run.opened.child {
        return join(context, &child.parent, from, to);
    }
    // Asked again after a crash between the move and its record, `publish` finds the branch where it should be.
    match context.source.publish(&context.mirror, branch, from, to) {
        Ok(published) => {
            for checkout in &published.checkouts {
                tracing::info!(path = %checkout.path.display(), outcome = ?checkout.outcome, "checkout of the branch");
            }
            Ok(vec![Event::Merged { commit: to.clone() }])
        }
        Err(PublishError::Moved { .. })
            if context.source.branch_contains(branch, to).unwrap_or(false) =>
        {
            Ok(vec![Event::Merged { commit: to.clone() }])
        }
        Err(PublishError::Moved { actual, .. }) => Ok(vec![Event::MergeLost { actual }]),
        Err(ref error @ PublishError::CheckoutDirty { ref reason, .. }) if reason.passes() => {
            Err(failed(Cause::Passing, "merge", error.to_string(), ""))
        }
        Err(error @ PublishError::CheckoutDirty { .. }) => Err(failed(
            Cause::Checkout,
            "merge",
            error.to_string(),
            "Commit or stash the changes there, then resume the run.",
        )),
        Err(error @ PublishError::Locked { .. }) => {
            Err(failed(Cause::Passing, "merge", error.to_string(), ""))
        }
        Err(error) => Err(setup("merge", &error)),
    }
}

/// Moves the joined work of the parent to the verified commit: what a task's run does in the place of moving the branch.
fn join(
    context: &Context,
    parent: &RunId,
    from: &CommitId,
    to: &CommitId,
) -> Result<Vec<Event>, Failed> {
    let git = |error: &dyn std::fmt::Display| setup("merge", error);
    let actual = context
        .mirror
        .advance(parent, JOINED, from, to)
        .map_err(|error| git(&error))?;
    // After a crash between the move and its record, others may have joined theirs since.
    let holds = actual == *to
        || context
            .mirror
            .is_ancestor(to, &actual)
            .map_err(|error| git(&error))?;
    Ok(vec![if holds {
        Event::Merged { commit: to.clone() }
    } else {
        Event::MergeLost { actual }
    }])
}
