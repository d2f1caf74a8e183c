//! A report that names a URL and nothing else; the work item is what is found there.

use moat_sdk::triage::{Decision, Guest, Report, SkillError, WorkItem};

use crate::Probe;

impl Guest for Probe {
    fn triage(report: Report) -> Result<Decision, SkillError> {
        let text = moat_sdk::http::get(report.text.trim())?.text()?;
        Ok(Decision::Accepted(WorkItem {
            title: text.lines().next().unwrap_or("").to_owned(),
            body: text,
            kind: moat_sdk::triage::moat::skill::types::WorkKind::Bug,
            suspects: vec![],
            acceptance: vec![],
        }))
    }
}

moat_sdk::triage::export!(Probe with_types_in moat_sdk::triage);
