//! Repair: what follows a red candidate or a failed step; every loop ends by budget or by lack of progress.

use crate::effect::Asked;
use crate::event::{Cause, Divergence, Failure, Parking};
use crate::id::{Digest, TreeId};
use crate::role::Evidence;
use crate::run::{Attempt, Red, Run, Stage};
use crate::step::{Step, plan, tasks};

/// How often a step is done again after passing failures without a result in between.
const PASSING_FAILURES_MAX: usize = 3;

/// How often a step goes on by itself after it was interrupted.
const INTERRUPTIONS_MAX: u32 = 3;

/// Digests a red: the tree and the failures on it.
pub(crate) fn signature<'a>(tree: &TreeId, failures: impl IntoIterator<Item = &'a str>) -> Digest {
    let mut text = tree.to_string();
    for failure in failures {
        text.push('\n');
        text.push_str(failure);
    }
    Digest::of(text.as_bytes())
}

/// The last attempt is red: another one with the evidence, unless the very same red was seen before.
pub(crate) fn red(run: &mut Run, red: Red) {
    let seen = run.attempts.iter().any(|attempt| {
        attempt
            .red
            .as_ref()
            .is_some_and(|before| before.signature == red.signature)
    });
    if let Some(last) = run.attempts.last_mut() {
        last.red = Some(red);
    }
    run.failures.clear();
    run.stage = Stage::Implement;
    if seen {
        run.parked = Some(Parking::NoProgress);
    }
}

/// A step ended without a result.
pub(crate) fn step_failed(run: &mut Run, step: &Step, failure: &Failure) {
    run.failures.push(failure.clone());
    let park = Parking::StepFailed {
        step: step.clone(),
        failure: failure.clone(),
    };
    match (failure.cause, step) {
        (Cause::Passing, _) if run.failures.len() < PASSING_FAILURES_MAX => {}
        (Cause::Budget, _) => {
            run.parked = Some(Parking::BudgetUsed {
                what: failure.evidence.title.clone(),
            })
        }
        (Cause::Skill | Cause::Passing, Step::Baseline | Step::Plan) => passed_by(run, step),
        (Cause::Skill, Step::Implement { attempt }) => {
            run.attempts.push(Attempt {
                number: *attempt,
                outcome: None,
                candidate: None,
                failure: Some(failure.clone()),
                red: None,
            });
            let tree = run.base.tree.clone();
            let red_signature = signature(&tree, [failure.signature.as_str()]);
            red(
                run,
                Red {
                    evidence: vec![failure.evidence.clone()],
                    signature: red_signature,
                },
            );
        }
        _ => run.parked = Some(park),
    }
}

/// A step that the run can do without.
fn passed_by(run: &mut Run, step: &Step) {
    run.failures.clear();
    run.stage = match step {
        // Without a baseline the attempt knows less, but gates know no less.
        Step::Baseline => plan::stage_of(run),
        // Without a plan the item is done as a whole.
        _ => Stage::Implement,
    };
}

/// A step stays under way: it goes on by itself where that may help, and else when a person sends it on. Either way what is recorded of it holds.
pub(crate) fn interrupted(run: &mut Run, step: &Step, failure: &Failure) {
    let before = run.in_flight.as_ref().map_or(0, |one| one.interruptions);
    match (failure.cause, step) {
        (Cause::Passing, _) if before < INTERRUPTIONS_MAX => {
            if let Some(under_way) = &mut run.in_flight {
                under_way.interruptions += 1;
            }
        }
        (Cause::Passing, Step::Baseline | Step::Plan) => {
            run.in_flight = None;
            run.asked = Asked::default();
            passed_by(run, step);
        }
        (Cause::Budget, _) => {
            run.parked = Some(Parking::BudgetUsed {
                what: failure.evidence.title.clone(),
            });
        }
        _ => {
            run.parked = Some(Parking::StepFailed {
                step: step.clone(),
                failure: failure.clone(),
            });
        }
    }
}

/// A step that was taken up again did otherwise than before: it may pass, and is bounded like all that may.
pub(crate) fn diverged(run: &mut Run, step: &Step, report: &Divergence) {
    let failure = Failure {
        cause: Cause::Passing,
        evidence: Evidence {
            source: "host".into(),
            title: "a step that was taken up again did otherwise than before".into(),
            text: format!(
                "At host call {} it had asked:\n{}\nand asked now:\n{}",
                report.call, report.recorded, report.asked
            ),
        },
        signature: Digest::of(b"diverged"),
    };
    step_failed(run, step, &failure);
}

/// A person sends the run on: to the step it was parked at, with its failures forgotten.
pub(crate) fn resumed(run: &mut Run) -> Result<(), String> {
    if run.blocked().is_some() {
        return Err("a grant is missing, and a word gives none".into());
    }
    if run.interrupted().is_some() {
        return Err("what happened must be said first".into());
    }
    let parking = run.parked.take().ok_or("the run is not parked")?;
    run.failures.clear();
    run.merges_lost = 0;
    if let Some(under_way) = &mut run.in_flight {
        under_way.interruptions = 0;
    }
    match parking {
        // A person who resumes after these gives the run one more attempt.
        Parking::AttemptsUsed { .. } => run.budget.attempts += 1,
        Parking::GaveUp { .. }
        | Parking::ClaimsAlreadyTrue { .. }
        | Parking::Rejected { .. }
        | Parking::NoProgress => {
            run.stage = Stage::Implement;
            let needed = run.attempts.len() as u32 + 1;
            run.budget.attempts = run.budget.attempts.max(needed);
        }
        Parking::BudgetUsed { .. } => run.give_budget(),
        Parking::TasksCancelled { .. } => tasks::begin_again(run),
        Parking::Unclear { .. }
        | Parking::BlockedOnGrant { .. }
        | Parking::EffectUnknown { .. }
        | Parking::StepFailed { .. }
        | Parking::RolledBack { .. }
        | Parking::BranchBusy { .. } => {}
    }
    Ok(())
}
