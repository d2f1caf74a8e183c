//! Implement: attempts at the work item.

use crate::event::{Candidate, Parking};
use crate::role::{Evidence, Outcome};
use crate::run::{Action, Attempt, Red, Run, Stage};
use crate::step::{Step, gate, repair, tasks};

/// The next attempt, while the budget allows one.
pub(crate) fn next(run: &Run) -> Action {
    let attempt = run.attempts.len() as u32 + 1;
    if attempt > run.budget.attempts {
        return Action::Park(Parking::AttemptsUsed {
            attempts: run.budget.attempts,
        });
    }
    Action::Perform(Step::Implement { attempt })
}

/// Takes over what an attempt left.
pub(crate) fn attempted(
    run: &mut Run,
    attempt: u32,
    outcome: &Outcome,
    candidate: &Candidate,
) -> Result<(), String> {
    if attempt as usize != run.attempts.len() + 1 {
        return Err(format!("attempt {} was expected", run.attempts.len() + 1));
    }
    if candidate.base != run.base {
        return Err("the candidate has another base than the run".into());
    }
    run.failures.clear();
    run.left = None;
    run.attempts.push(Attempt {
        number: attempt,
        outcome: Some(outcome.clone()),
        candidate: Some(candidate.clone()),
        failure: None,
        red: None,
    });
    match outcome {
        Outcome::GaveUp(reason) => {
            run.parked = Some(Parking::GaveUp {
                reason: reason.clone(),
            })
        }
        Outcome::AlreadyTrue(reason) => {
            run.parked = Some(Parking::ClaimsAlreadyTrue {
                reason: reason.clone(),
            })
        }
        Outcome::Changed(claim) if candidate.tree == candidate.base.tree => {
            repair::red(run, nothing_changed(claim, candidate))
        }
        Outcome::Changed(_) => {
            if let Some(red) = tasks::unclaimed(run, candidate) {
                repair::red(run, red);
                return Ok(());
            }
            run.stage = Stage::Gates;
            // A tree that was seen before has its verdicts already.
            gate::settle(run, &candidate.subject());
        }
    }
    Ok(())
}

fn nothing_changed(claim: &str, candidate: &Candidate) -> Red {
    let mut text = format!("The attempt says: {claim}\nIts worktree is the base, unchanged.");
    if !candidate.refused.is_empty() {
        text.push_str("\nThe host did not take these changes:\n");
        text.push_str(&candidate.refused.join("\n"));
    }
    Red {
        evidence: vec![Evidence {
            source: "host".into(),
            title: "a change was claimed and none was made".into(),
            text,
        }],
        signature: repair::signature(&candidate.tree, ["nothing-changed"]),
    }
}
