//! The skill itself.

use moat_sdk::triage::moat::skill::types::WorkKind;
use moat_sdk::triage::{Decision, Guest, Report, SkillError, WorkItem, note};

use crate::reading::{Kind, read};

struct Skill;

impl Guest for Skill {
    fn triage(report: Report) -> Result<Decision, SkillError> {
        note("reading the report");
        let Some(reading) = read(&report.text) else {
            return Ok(Decision::Declined("the report is empty".into()));
        };
        if reading.paths.is_empty()
            && reading.tests.is_empty()
            && reading.body.split_whitespace().count() < 4
        {
            return Ok(Decision::Unclear(vec![
                "What happens, and what should happen instead?".into(),
                "Which file, page or test shows it?".into(),
            ]));
        }
        let suspects = reading
            .paths
            .into_iter()
            .filter(|path| std::path::Path::new(path).is_file())
            .collect();
        let mut acceptance: Vec<String> = reading
            .tests
            .iter()
            .map(|test| format!("the test {test} passes"))
            .collect();
        acceptance.push("the project's tests pass".into());
        let kind = match reading.kind {
            Kind::Bug => WorkKind::Bug,
            Kind::Incident => WorkKind::Incident,
            Kind::Feature => WorkKind::Feature,
            Kind::Chore => WorkKind::Chore,
        };
        Ok(Decision::Accepted(WorkItem {
            title: reading.title,
            body: reading.body,
            kind,
            suspects,
            acceptance,
        }))
    }
}

moat_sdk::triage::export!(Skill with_types_in moat_sdk::triage);
