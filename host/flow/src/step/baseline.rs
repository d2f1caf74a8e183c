//! Baseline: what the project's tests show before anything is changed.

use crate::role::TestReport;
use crate::run::{Action, Run};
use crate::step::{Step, plan};

/// The base's tests, by the test skill.
pub(crate) fn next(_run: &Run) -> Action {
    Action::Perform(Step::Baseline)
}

/// Takes over the report.
pub(crate) fn taken(run: &mut Run, report: &TestReport) {
    run.failures.clear();
    run.baseline = Some(report.clone());
    run.stage = plan::stage_of(run);
}
