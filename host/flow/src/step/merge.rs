//! Merge: the only thing that moves the protected branch, to a commit whose exact tree every gate has passed.

use crate::event::Parking;
use crate::id::{CommitId, TreeId};
use crate::role::Evidence;
use crate::run::{Action, End, Prepared, Red, Run, Stage};
use crate::step::{Step, gate, repair};
use crate::verdict::Base;

/// Merges prepared in vain before a person is asked: the branch moves faster than the gates can answer.
const ROUNDS_MAX: u32 = 10;

/// The candidate onto the tip.
pub(crate) fn next_prepare(run: &Run) -> Action {
    if run.merges_lost >= ROUNDS_MAX {
        return Action::Park(Parking::BranchBusy {
            rounds: run.merges_lost,
        });
    }
    Action::Perform(Step::PrepareMerge)
}

/// The branch to the verified commit.
pub(crate) fn next_move(_run: &Run, prepared: &Prepared) -> Action {
    Action::Perform(Step::MoveBranch {
        from: prepared.onto.commit.clone(),
        to: prepared.commit.clone(),
    })
}

/// Takes over a merge onto the tip; gates that passed this very tree on this very base need not answer again.
pub(crate) fn prepared(
    run: &mut Run,
    onto: &Base,
    commit: &CommitId,
    tree: &TreeId,
) -> Result<(), String> {
    if run.stage != Stage::PrepareMerge {
        return Err("no merge is due".into());
    }
    run.failures.clear();
    run.intended = None;
    let prepared = Prepared {
        onto: onto.clone(),
        commit: commit.clone(),
        tree: tree.clone(),
    };
    let subject = prepared.subject();
    run.stage = Stage::GatesOnTip(prepared);
    gate::settle(run, &subject);
    Ok(())
}

/// The candidate contradicts what was merged meanwhile: another attempt, from the new tip.
pub(crate) fn conflicted(run: &mut Run, onto: &Base, paths: &[String]) -> Result<(), String> {
    if run.stage != Stage::PrepareMerge {
        return Err("no merge is due".into());
    }
    let tree = run
        .candidate()
        .map(|candidate| candidate.tree.clone())
        .ok_or("there is no candidate")?;
    let text = format!(
        "The branch is now at {}.\nConflicting paths:\n{}",
        onto.commit,
        paths.join("\n")
    );
    run.base = onto.clone();
    run.baseline = None;
    // The joined work belongs to the old base; its change is shown to the next attempt.
    run.start = None;
    repair::red(
        run,
        Red {
            evidence: vec![Evidence {
                source: "merge".into(),
                title: "the candidate conflicts with the branch's tip".into(),
                text,
            }],
            signature: repair::signature(&tree, ["conflict", onto.commit.as_str()]),
        },
    );
    Ok(())
}

/// The intent to move must name what was verified.
pub(crate) fn intended(
    run: &mut Run,
    from: &CommitId,
    to: &CommitId,
    tree: &TreeId,
) -> Result<(), String> {
    match &run.stage {
        Stage::MoveBranch(prepared)
            if prepared.onto.commit == *from
                && prepared.commit == *to
                && prepared.tree == *tree =>
        {
            run.intended = Some(to.clone());
            Ok(())
        }
        _ => Err("this move was not verified".into()),
    }
}

/// The branch stands at the verified commit, as was intended.
pub(crate) fn merged(run: &mut Run, commit: &CommitId) -> Result<(), String> {
    match &run.stage {
        Stage::MoveBranch(prepared) if prepared.commit == *commit => {}
        _ => return Err("this commit was not verified".into()),
    }
    if run.intended.as_ref() != Some(commit) {
        return Err("the move was not intended".into());
    }
    run.failures.clear();
    run.merged = Some(commit.clone());
    run.stage = if run.opened.child.is_some() {
        Stage::Ended(End::Joined)
    } else if run.opened.pipeline.deploy.is_some() {
        Stage::Deploy(commit.clone())
    } else {
        Stage::Ended(End::Merged)
    };
    Ok(())
}

/// Someone else moved the branch: merge onto the new tip and verify again.
pub(crate) fn lost(run: &mut Run) -> Result<(), String> {
    if !matches!(run.stage, Stage::MoveBranch(_)) {
        return Err("no move is due".into());
    }
    run.merges_lost += 1;
    run.stage = Stage::PrepareMerge;
    Ok(())
}
