//! The loop: ask the model, do what it asks for, tell it, until the tests agree with it or there is a reason to stop.

use moat_sdk::report::Report;

use crate::clip;
use crate::conversation::{Conversation, TooLarge};
use crate::guard::{Advice, Guard, Made, TURNS_MAX};
use crate::host::{
    Command, CommandError, Content, Ending, Host, ModelError, Output, Request, Response, Stop,
    Tool, ToolResult, ToolUse,
};
use crate::prompt::{Assignment, SYSTEM, first_message};
use crate::said::Said;
use crate::tool::{Call, Finish, offered};
use crate::toolbox::{Answer, OutOfBudget, TIME_MS_MAX, command_ms, not_run, perform, shown};
use crate::view::View;

/// The alias that this skill asks for, as its manifest declares it.
pub const ALIAS: &str = "coder";

/// The project command whose exit status the skill believes.
pub const TEST: &str = "test";

/// Output tokens of one call, as the manifest declares them.
pub const MAX_TOKENS: u32 = 16_000;

/// With less there is no room for the assignment and a file or two.
pub const CONTEXT_TOKENS_MIN: u32 = 8_000;

/// How often a model may be wrong about being done. Then the gates say so: to give up would end the whole run here, while a candidate that they turn
/// down brings a fresh attempt with what they saw, as long as the run's budget has one.
const RED_FINISHES_MAX: u32 = 3;

/// Calls that are done in one turn; the others are answered, and not done.
const CALLS_MAX: usize = 16;

const TOO_MANY: &str =
    "There were too many calls in one turn: this one was not done. Make at most 16 at a time.";

const CUT_OFF: &str = "Your answer was cut off within this call because it was too long, so it was not done. Make smaller steps.";

const NO_NEWS: &str = "You have done exactly this before, on the same files, with the same answers. Do something else, or use finish or give_up.";

/// A summary becomes a commit message.
const SUMMARY_BYTES_MAX: usize = 4_000;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Files were changed.
    Changed(String),
    /// Nothing had to be.
    AlreadyTrue(String),
    /// It stopped without a result.
    GaveUp(String),
}

/// Why there is no end: what the attempt needs is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It is not granted.
    Denied(String),
    /// A budget is used up.
    OutOfBudget(String),
    /// Later it may be there.
    Retryable(String),
    /// It will not be.
    Failed(String),
}

/// Makes one attempt. `context_tokens` is what one conversation with the model may hold.
///
/// # Errors
/// [`Failure`]; whatever the model does wrong is no error, and ends in [`End::GaveUp`].
pub fn work(
    assignment: &Assignment,
    commands: &[Command],
    context_tokens: u32,
    view: &mut View,
    host: &mut impl Host,
) -> Result<End, Failure> {
    if context_tokens < CONTEXT_TOKENS_MIN {
        return Err(Failure::Failed(format!(
            "the model behind `{ALIAS}` holds {context_tokens} tokens, and {CONTEXT_TOKENS_MIN} are the least that this skill works with"
        )));
    }
    let tools = offered(commands);
    let tool_bytes = |tool: &Tool| tool.name.len() + tool.description.len() + tool.schema.len();
    let fixed_bytes = SYSTEM.len() + tools.iter().map(tool_bytes).sum::<usize>();
    let max_tokens = MAX_TOKENS.min(context_tokens / 4);
    let tokens_max = (context_tokens - max_tokens) as usize;
    let room = Conversation::new(String::new(), tokens_max, fixed_bytes).room_bytes();
    let first = first_message(assignment, commands, room / 3);
    let attempt = Attempt {
        assignment,
        commands,
        tools,
        max_tokens,
        conversation: Conversation::new(first, tokens_max, fixed_bytes),
        guard: Guard::default(),
        turn: 0,
        red_finishes: 0,
        told_unchanged: false,
        did: Vec::new(),
        view,
        host,
    };
    attempt.run()
}

struct Attempt<'a, H> {
    assignment: &'a Assignment,
    commands: &'a [Command],
    tools: Vec<Tool>,
    max_tokens: u32,
    conversation: Conversation,
    guard: Guard,
    turn: u32,
    red_finishes: u32,
    told_unchanged: bool,
    /// What the last turn's calls did, in words.
    did: Vec<String>,
    view: &'a mut View,
    host: &'a mut H,
}

/// What a call came to.
enum Came {
    To(Answer),
    ToAnEnd(End),
}

impl<H: Host> Attempt<'_, H> {
    fn run(mut self) -> Result<End, Failure> {
        loop {
            let Some(turn) = self.guard.turn() else {
                return Ok(self.stopped(&format!("{TURNS_MAX} turns were not enough")));
            };
            self.turn = turn;
            if self.host.elapsed_ms() > TIME_MS_MAX {
                return Ok(self.stopped("time ran out"));
            }
            match self.conversation.fit() {
                Ok(false) => {}
                Ok(true) => self.guard.forget(),
                Err(TooLarge) => {
                    return Ok(self.stopped("the conversation is too large for the model"));
                }
            }
            self.note_asking();
            let response = self.ask()?;
            self.conversation.measured(response.input_tokens);
            if response.stop == Stop::Refusal {
                return Ok(self.stopped(&format!("the model refused: {}", said(&response))));
            }
            if let Some(end) = self.answer(response)? {
                return Ok(end);
            }
        }
    }

    fn ask(&mut self) -> Result<Response, Failure> {
        let request = Request {
            system: SYSTEM,
            messages: self.conversation.messages(),
            tools: &self.tools,
            max_tokens: self.max_tokens,
        };
        self.host.chat(request).map_err(no_answer)
    }

    /// Does what the model asks for and tells it what came of it.
    fn answer(&mut self, response: Response) -> Result<Option<End>, Failure> {
        let was_cut = response.stop == Stop::MaxTokens;
        // The last part of an answer that was cut may lack its end, even where it can be read.
        let broken = was_cut && matches!(response.content.last(), Some(Content::ToolUse(_)));
        let said = Said::new(response.content);
        if said.uses.is_empty() {
            let nudge = if was_cut {
                "Your answer was cut off because it was too long. Think in fewer words, and use a tool."
            } else {
                "You used no tool. Go on with the work by using one; when it is done use finish, when it cannot be done give_up."
            };
            self.conversation
                .exchange(said.content, vec![Content::Text(nudge.into())]);
            let advice = self.guard.idle();
            return Ok(self.heed(advice));
        }
        let whole = said.uses.len() - usize::from(broken);
        // All results of a turn together must leave room for the next turns.
        let mut room = self.conversation.room_bytes() / 4;
        let mut answers = Vec::new();
        let mut calls = Vec::new();
        for (at, tool) in said.uses.into_iter().enumerate() {
            let files = self.view.fingerprint();
            let (came, well_formed) = if at >= whole {
                (Came::To(Answer::wrong(CUT_OFF)), false)
            } else if at >= CALLS_MAX {
                (Came::To(Answer::wrong(TOO_MANY)), true)
            } else {
                self.call(&tool)?
            };
            let answer = match came {
                Came::To(answer) => answer,
                Came::ToAnEnd(end) => return Ok(Some(end)),
            };
            let text = clip::middle(&answer.text, room.max(500));
            room = room.saturating_sub(text.len());
            answers.push(Content::ToolResult(ToolResult {
                id: tool.id,
                text,
                is_error: answer.is_error,
            }));
            calls.push(Made {
                tool: tool.name,
                input: tool.input,
                gist: answer.gist,
                files,
                well_formed,
            });
        }
        let advice = self.guard.made(calls);
        if advice == Advice::Warn {
            answers.push(Content::Text(NO_NEWS.into()));
        }
        self.conversation.exchange(said.content, answers);
        Ok(self.heed(advice))
    }

    fn heed(&self, advice: Advice) -> Option<End> {
        match advice {
            Advice::GoOn | Advice::Warn => None,
            Advice::Stop(why) => Some(self.stopped(&why)),
        }
    }

    /// One call, and whether it could be read.
    fn call(&mut self, tool: &ToolUse) -> Result<(Came, bool), Failure> {
        let call = match Call::read(&tool.name, &tool.input, &self.tools) {
            Ok(call) => call,
            Err(why) => return Ok((Came::To(Answer::wrong(why)), false)),
        };
        if matches!(call, Call::RunCommand(_) | Call::Finish(_)) {
            self.note(&call.doing());
        }
        self.did.push(call.doing());
        let came = match &call {
            Call::Finish(finish) => self.finish(finish)?,
            Call::GiveUp(give_up) => Came::ToAnEnd(End::GaveUp(
                match clip::words(&give_up.reason, SUMMARY_BYTES_MAX) {
                    reason if reason.is_empty() => "the model gave up and did not say why".into(),
                    reason => reason,
                },
            )),
            _ => Came::To(
                perform(&call, self.view, self.commands, self.host)
                    .map_err(|OutOfBudget| out_of_budget())?,
            ),
        };
        Ok((came, true))
    }

    /// The model says that it is done; the tests are asked.
    fn finish(&mut self, finish: &Finish) -> Result<Came, Failure> {
        let summary = clip::words(&finish.summary, SUMMARY_BYTES_MAX);
        if summary.is_empty() {
            return Ok(Came::To(Answer::wrong(
                "say in `summary` what was changed and why",
            )));
        }
        if self.view.changed().next().is_none() {
            return self.finish_unchanged(summary);
        }
        let Some(tests) = self.run_tests()? else {
            return Ok(Came::ToAnEnd(End::Changed(summary)));
        };
        if tests.green {
            return Ok(Came::ToAnEnd(End::Changed(summary)));
        }
        self.red_finishes += 1;
        if self.red_finishes == RED_FINISHES_MAX {
            return Ok(Came::ToAnEnd(End::Changed(format!(
                "{summary}\n\nThe project's tests are still red with it: {}",
                tests.why
            ))));
        }
        Ok(Came::To(Answer {
            text: format!(
                "It is not done: {}. Go on.\n{}",
                tests.why, tests.shown.text
            ),
            is_error: true,
            gist: tests.shown.gist,
        }))
    }

    fn finish_unchanged(&mut self, summary: String) -> Result<Came, Failure> {
        if !self.told_unchanged {
            self.told_unchanged = true;
            return Ok(Came::To(Answer::wrong(
                "No file differs from what it was at the beginning. If the work item holds without a change, finish once more and say how you know; else make the change first.",
            )));
        }
        // Nothing was changed, so what the base showed still holds.
        let red = match &self.assignment.baseline {
            Some(baseline) if baseline.green => None,
            Some(_) => Some("the project's tests are red on the base".to_owned()),
            None => self
                .run_tests()?
                .filter(|tests| !tests.green)
                .map(|tests| tests.why),
        };
        Ok(Came::ToAnEnd(match red {
            None => End::AlreadyTrue(summary),
            Some(red) => End::GaveUp(format!(
                "the model says that it is done and changed nothing, but {red}. It says: {summary}"
            )),
        }))
    }

    /// Runs the whole suite; `None` where the project gives no such command to this skill.
    fn run_tests(&mut self) -> Result<Option<Tests>, Failure> {
        if !self.commands.iter().any(|command| command.name == TEST) {
            return Ok(None);
        }
        let timeout_ms = command_ms(self.host);
        match self.host.run(TEST, &[], timeout_ms) {
            Ok(output) => Ok(Some(Tests::read(&output))),
            Err(CommandError::OutOfBudget) => Err(out_of_budget()),
            Err(error) => {
                let why = format!(
                    "the project's tests cannot be run: {}",
                    not_run(&error, false)
                );
                Err(match error {
                    CommandError::Denied => Failure::Denied(why),
                    CommandError::Unavailable(_) => Failure::Retryable(why),
                    _ => Failure::Failed(why),
                })
            }
        }
    }

    fn stopped(&self, why: &str) -> End {
        let changed = self.view.changed().count();
        let tests = match self.red_finishes {
            0 => "the model never said that it was done",
            _ => "the tests were red when the model said that it was done",
        };
        End::GaveUp(format!(
            "{why}; after {} turns {changed} files are changed, and {tests}",
            self.turn
        ))
    }

    /// The host drops notes that follow each other at once, so this one tells of the quick work before it as well.
    fn note_asking(&mut self) {
        let did = std::mem::take(&mut self.did);
        if did.is_empty() {
            self.note("asking the model");
        } else {
            self.note(&format!(
                "asking the model, after {}",
                clip::line(&did.join(", "), 150)
            ));
        }
    }

    fn note(&mut self, what: &str) {
        let text = format!(
            "attempt {}, turn {}: {what}",
            self.assignment.attempt, self.turn
        );
        self.host.note(&text);
    }
}

/// One run of the whole suite.
pub(crate) struct Tests {
    pub(crate) green: bool,
    /// What is red, in a line.
    why: String,
    shown: Answer,
}

impl Tests {
    /// Green is what the gates take for green: status 0, no test that says otherwise, and not a suite without tests.
    pub(crate) fn read(output: &Output) -> Tests {
        let report = Report::read(&format!("{}\n{}", output.stdout, output.stderr));
        let red: Vec<&str> = report.red().map(|case| case.name.as_str()).collect();
        let shown = shown(output);
        let ended_well = output.ending == Ending::Exited(0);
        let why = match red.as_slice() {
            [] if ended_well && report.ran == Some(0) => "no test ran".to_owned(),
            [] => format!("the test command {}", shown.gist),
            red => format!(
                "{} tests are red: {}",
                red.len(),
                clip::line(&red.join(", "), 300)
            ),
        };
        Tests {
            green: ended_well && red.is_empty() && report.ran != Some(0),
            why,
            shown,
        }
    }
}

fn said(response: &Response) -> String {
    let texts = response.content.iter().filter_map(|part| match part {
        Content::Text(text) => Some(text.as_str()),
        Content::ToolUse(_) | Content::ToolResult(_) => None,
    });
    match clip::line(&texts.collect::<Vec<_>>().join(" "), 500) {
        words if words.trim().is_empty() => "without a word".into(),
        words => words,
    }
}

fn out_of_budget() -> Failure {
    Failure::OutOfBudget("the step's budget is used up before the work was done".into())
}

/// Why the project has no model for this skill, and what to do.
pub fn not_configured() -> Failure {
    Failure::Failed(format!(
        "no model is configured for the alias `{ALIAS}`: name one under [models] in moat.toml, or let `search-repair`, which needs none, play the role `implement`"
    ))
}

fn no_answer(error: ModelError) -> Failure {
    match error {
        ModelError::Denied => Failure::Denied(format!("the model alias `{ALIAS}` is not granted")),
        ModelError::NotConfigured => not_configured(),
        ModelError::OutOfBudget => Failure::OutOfBudget(
            "the budget for the model is used up before the work was done".into(),
        ),
        ModelError::Invalid(why) => {
            Failure::Failed(format!("the model's provider refused the request: {why}"))
        }
        ModelError::Unavailable(why) => {
            Failure::Retryable(format!("the model cannot be reached: {why}"))
        }
        ModelError::Broken(why) => {
            Failure::Retryable(format!("the model's answers made no sense: {why}"))
        }
    }
}
