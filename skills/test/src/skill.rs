//! The skill itself.

use moat_sdk::report::{Outcome, Report};
use moat_sdk::test::host::process::{Ending, ProcessError, project_commands};
use moat_sdk::test::moat::skill::types::{SuiteOutcome, TestCase, TestOutcome};
use moat_sdk::test::{Guest, Request, SkillError, TestReport, note, run_project};

use crate::verdict::{Suite, suite, tail};

/// SIGKILL.
const KILLED: i32 = 9;

const TAIL_BYTES: usize = 16 * 1024;

struct Skill;

impl Guest for Skill {
    fn test(request: Request) -> Result<TestReport, SkillError> {
        let name = &request.command;
        let command = project_commands()
            .into_iter()
            .find(|one| one.name == *name)
            .map_or_else(|| name.clone(), |one| one.argv.join(" "));
        note(format!("running {command}"));
        let output = run_project(name, &[], None).map_err(|error| match error {
            ProcessError::Denied => SkillError::Denied(format!("the project's command `{name}`")),
            ProcessError::NotFound => SkillError::InvalidInput(format!(
                "the project has no command `{name}`, or the machine lacks its program"
            )),
            ProcessError::Invalid(why) => SkillError::InvalidInput(why),
            ProcessError::OutOfBudget => SkillError::OutOfBudget("commands".into()),
            ProcessError::Unavailable(why) => SkillError::Retryable(why),
        })?;
        if matches!(output.ending, Ending::Signalled(KILLED)) {
            // Such as by a machine that ran out of memory: it says nothing of the tests.
            return Err(SkillError::Retryable(format!("{command} was killed")));
        }
        let text = format!("{}\n{}", output.stdout, output.stderr);
        let report = Report::read(&text);
        let exit = match output.ending {
            Ending::Exited(code) => Some(code),
            Ending::Signalled(_) | Ending::Deadline => None,
        };
        let outcome = match suite(exit, report.ran, report.red().count()) {
            Suite::Passed => SuiteOutcome::Passed,
            Suite::Failed => SuiteOutcome::Failed,
            Suite::Errored => SuiteOutcome::Errored,
            Suite::Empty => SuiteOutcome::Empty,
        };
        let tests = report.cases.into_iter().take(2_000).map(|case| TestCase {
            location: case
                .frames
                .last()
                .map(|(path, line)| format!("{path}:{line}")),
            outcome: match case.outcome {
                Outcome::Passed => TestOutcome::Passed,
                Outcome::Failed => TestOutcome::Failed,
                Outcome::Errored => TestOutcome::Errored,
                Outcome::Skipped => TestOutcome::Skipped,
            },
            name: case.name,
            message: case.message,
        });
        Ok(TestReport {
            outcome,
            command,
            exit,
            tests: tests.collect(),
            tail: tail(&text, TAIL_BYTES).to_owned(),
            duration_ms: output.duration_ms,
        })
    }
}

moat_sdk::test::export!(Skill with_types_in moat_sdk::test);
