//! Deploy: the merged tree into service, or back out.

use crate::event::Parking;
use crate::id::CommitId;
use crate::role::Deployment;
use crate::run::{Action, End, Run, Stage};
use crate::step::Step;

/// The deploy skill's turn.
pub(crate) fn next(_run: &Run, commit: &CommitId) -> Action {
    Action::Perform(Step::Deploy {
        commit: commit.clone(),
    })
}

/// Takes over how it ended. A rollback leaves the run parked: what was merged is not what is in service.
pub(crate) fn deployed(run: &mut Run, deployment: &Deployment) -> Result<(), String> {
    if !matches!(run.stage, Stage::Deploy(_)) {
        return Err("no deployment is due".into());
    }
    run.failures.clear();
    run.deployment = Some(deployment.clone());
    match deployment {
        Deployment::Healthy(_) => run.stage = Stage::Ended(End::Deployed),
        Deployment::RolledBack(rollback) => {
            run.parked = Some(Parking::RolledBack {
                reason: rollback.reason.clone(),
            })
        }
    }
    Ok(())
}
