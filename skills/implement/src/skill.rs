//! The skill itself: the loop over the host's model, the view's files and the project's commands.

use std::time::Instant;

use moat_sdk::implement::host::{model, process};
use moat_sdk::implement::moat::skill::types::{
    SuiteOutcome, TestCase, TestOutcome, TestReport, WorkKind,
};
use moat_sdk::implement::{Assignment, Guest, Outcome, SkillError, note, run_project};

use crate::agent::{ALIAS, End, Failure, not_configured, work};
use crate::host::{
    Command, CommandError, Content, Ending, Host, Message, ModelError, Output, Request, Response,
    Speaker, Stop, ToolUse,
};
use crate::prompt::{self, Baseline, Evidence, Test};
use crate::view::View;

struct Skill;

impl Guest for Skill {
    fn implement(assignment: Assignment) -> Result<Outcome, SkillError> {
        let Some(alias) = model::aliases()
            .into_iter()
            .find(|alias| alias.name == ALIAS)
        else {
            return Err(failed(not_configured()));
        };
        let commands: Vec<Command> = process::project_commands()
            .into_iter()
            .map(|command| Command {
                name: command.name,
                argv: command.argv,
            })
            .collect();
        let mut host = Bound(Instant::now());
        let end = work(
            &read(assignment),
            &commands,
            alias.context_tokens,
            &mut View::new("/"),
            &mut host,
        );
        match end {
            Ok(End::Changed(text)) => Ok(Outcome::Changed(text)),
            Ok(End::AlreadyTrue(text)) => Ok(Outcome::AlreadyTrue(text)),
            Ok(End::GaveUp(text)) => Ok(Outcome::GaveUp(text)),
            Err(failure) => Err(failed(failure)),
        }
    }
}

fn failed(failure: Failure) -> SkillError {
    match failure {
        Failure::Denied(why) => SkillError::Denied(why),
        Failure::OutOfBudget(why) => SkillError::OutOfBudget(why),
        Failure::Retryable(why) => SkillError::Retryable(why),
        Failure::Failed(why) => SkillError::Failed(why),
    }
}

fn read(assignment: Assignment) -> prompt::Assignment {
    let item = assignment.item;
    prompt::Assignment {
        title: item.title,
        body: item.body,
        kind: match item.kind {
            WorkKind::Bug => "bug",
            WorkKind::Feature => "feature",
            WorkKind::Incident => "incident",
            WorkKind::Chore => "chore",
        },
        suspects: item.suspects,
        acceptance: item.acceptance,
        attempt: assignment.attempt,
        baseline: assignment.baseline.map(baseline),
        evidence: assignment
            .evidence
            .into_iter()
            .map(|one| Evidence {
                source: one.source,
                title: one.title,
                text: one.text,
            })
            .collect(),
        last_diff: assignment.last_diff,
    }
}

fn baseline(report: TestReport) -> Baseline {
    let is_red =
        |test: &&TestCase| matches!(test.outcome, TestOutcome::Failed | TestOutcome::Errored);
    Baseline {
        green: report.outcome == SuiteOutcome::Passed,
        outcome: match report.outcome {
            SuiteOutcome::Passed => "passes",
            SuiteOutcome::Failed => "fails",
            SuiteOutcome::Errored => "cannot run its tests",
            SuiteOutcome::Empty => "has no test that ran",
        },
        command: report.command,
        red: report
            .tests
            .iter()
            .filter(is_red)
            .map(|test| Test {
                name: test.name.clone(),
                message: test.message.clone(),
                location: test.location.clone(),
            })
            .collect(),
        passed: report
            .tests
            .iter()
            .filter(|test| test.outcome == TestOutcome::Passed)
            .count(),
        tail: report.tail,
    }
}

/// Holds the moment of the call.
struct Bound(Instant);

impl Host for Bound {
    fn chat(&mut self, request: Request<'_>) -> Result<Response, ModelError> {
        let tool = |tool: &crate::host::Tool| model::Tool {
            name: tool.name.to_owned(),
            description: tool.description.to_owned(),
            input_schema: tool.schema.clone(),
        };
        let request = model::Request {
            alias: ALIAS.to_owned(),
            system: Some(request.system.to_owned()),
            messages: request.messages.iter().map(message).collect(),
            tools: request.tools.iter().map(tool).collect(),
            max_tokens: request.max_tokens,
        };
        let response = model::chat(&request).map_err(|error| match error {
            model::ModelError::Denied => ModelError::Denied,
            model::ModelError::NotConfigured => ModelError::NotConfigured,
            model::ModelError::OutOfBudget => ModelError::OutOfBudget,
            model::ModelError::Invalid(why) => ModelError::Invalid(why),
            model::ModelError::Unavailable(why) => ModelError::Unavailable(why),
            model::ModelError::Broken(why) => ModelError::Broken(why),
        })?;
        let usage = response.usage;
        Ok(Response {
            content: response.content.into_iter().filter_map(part).collect(),
            stop: match response.stop {
                model::StopReason::EndTurn => Stop::EndTurn,
                model::StopReason::ToolUse => Stop::ToolUse,
                model::StopReason::MaxTokens => Stop::MaxTokens,
                model::StopReason::Refusal => Stop::Refusal,
            },
            input_tokens: usage
                .input
                .saturating_add(usage.cache_read)
                .saturating_add(usage.cache_write),
        })
    }

    fn run(
        &mut self,
        name: &str,
        extra_args: &[String],
        timeout_ms: u64,
    ) -> Result<Output, CommandError> {
        let output =
            run_project(name, extra_args, Some(timeout_ms)).map_err(|error| match error {
                process::ProcessError::Denied => CommandError::Denied,
                process::ProcessError::NotFound => CommandError::NotFound,
                process::ProcessError::Invalid(why) => CommandError::Invalid(why),
                process::ProcessError::OutOfBudget => CommandError::OutOfBudget,
                process::ProcessError::Unavailable(why) => CommandError::Unavailable(why),
            })?;
        Ok(Output {
            ending: match output.ending {
                process::Ending::Exited(code) => Ending::Exited(code),
                process::Ending::Signalled(signal) => Ending::Signalled(signal),
                process::Ending::Deadline => Ending::Deadline,
            },
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }

    fn note(&mut self, text: &str) {
        note(text);
    }

    fn elapsed_ms(&mut self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

fn message(message: &Message) -> model::Message {
    let content = message.content.iter().map(|part| match part {
        Content::Text(text) => model::Content::Text(text.clone()),
        Content::ToolUse(tool) => model::Content::ToolUse(model::ToolUse {
            id: tool.id.clone(),
            name: tool.name.clone(),
            input: tool.input.clone(),
        }),
        Content::ToolResult(result) => model::Content::ToolResult(model::ToolResult {
            id: result.id.clone(),
            text: result.text.clone(),
            is_error: result.is_error,
        }),
    });
    model::Message {
        speaker: match message.speaker {
            Speaker::User => model::Speaker::User,
            Speaker::Assistant => model::Speaker::Assistant,
        },
        content: content.collect(),
    }
}

/// What the model said; a result of a tool is not its to give.
fn part(content: model::Content) -> Option<Content> {
    match content {
        model::Content::Text(text) => Some(Content::Text(text)),
        model::Content::ToolUse(tool) => Some(Content::ToolUse(ToolUse {
            id: tool.id,
            name: tool.name,
            input: tool.input,
        })),
        model::Content::ToolResult(_) => None,
    }
}

moat_sdk::implement::export!(Skill with_types_in moat_sdk::implement);
