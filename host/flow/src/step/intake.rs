//! Intake: a report becomes the run's work item.

use crate::event::Parking;
use crate::role::{Decision, WorkItem, WorkKind};
use crate::run::{Action, End, Run, Stage};
use crate::step::{Step, plan};

/// Triage by the skill.
pub(crate) fn next(_run: &Run) -> Action {
    Action::Perform(Step::Intake)
}

/// Takes over the decision.
pub(crate) fn triaged(run: &mut Run, decision: &Decision) -> Result<(), String> {
    run.failures.clear();
    match decision {
        Decision::Accepted(item) => {
            run.item = Some(item.clone());
            run.stage = if run.opened.pipeline.test.is_some() {
                Stage::Baseline
            } else {
                plan::stage_of(run)
            };
        }
        Decision::Declined(why) => run.stage = Stage::Ended(End::Declined(why.clone())),
        Decision::Unclear(questions) => {
            run.parked = Some(Parking::Unclear {
                questions: questions.clone(),
            })
        }
    }
    Ok(())
}

/// The work item of a run whose pipeline has no triage skill: the report as it is.
pub fn untriaged(text: &str) -> WorkItem {
    let title = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("untitled");
    WorkItem {
        title: title.chars().take(120).collect(),
        body: text.to_owned(),
        kind: WorkKind::Bug,
        suspects: Vec::new(),
        acceptance: Vec::new(),
    }
}
