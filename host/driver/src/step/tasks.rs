//! Tasks: what they have joined becomes the candidate of the whole.

use flow::Event;
use flow::event::Candidate;
use flow::id::{CommitId, RunId, TreeId};
use repo::{DiffLimits, Mirror, StoreError};

use crate::context::Context;
use crate::step::plan::JOINED;
use crate::step::{Failed, setup};

/// Where the joined work of a run's tasks stands.
pub(crate) fn joined(mirror: &Mirror, run: &RunId) -> Result<CommitId, StoreError> {
    let kept = mirror.kept_commit(run, JOINED)?;
    kept.ok_or_else(|| StoreError::Missing {
        kind: "joined work of run",
        id: run.to_string(),
    })
}

pub(crate) fn integrate(context: &Context) -> Result<Vec<Event>, Failed> {
    let run = context.ledger.run();
    let git = |error: &dyn std::fmt::Display| setup("mirror", error);
    let tip = joined(&context.mirror, &run.opened.run).map_err(|error| git(&error))?;
    let tree = context.mirror.tree_of(&tip).map_err(|error| git(&error))?;
    let changed = changed(&context.mirror, &run.base.tree, &tree)?;
    let name = format!("attempt-{}", run.attempts.len() + 1);
    context
        .keep(&name, tree.clone())
        .map_err(|error| git(&error))?;
    let candidate = Candidate {
        tree,
        base: run.base,
        changed,
        refused: vec![],
    };
    Ok(vec![Event::Integrated { candidate }])
}

/// The paths in which two trees differ.
pub(crate) fn changed(
    mirror: &Mirror,
    base: &TreeId,
    tree: &TreeId,
) -> Result<Vec<String>, Failed> {
    let limits = DiffLimits {
        patch_bytes_max: 0,
        ..DiffLimits::default()
    };
    let diff = mirror
        .diff(base, tree, &limits)
        .map_err(|error| setup("mirror", &error))?;
    Ok(diff.files.into_iter().map(|file| file.path).collect())
}
