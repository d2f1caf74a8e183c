//! A model that says its lines, and a project whose tests are a look at one file.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use std::collections::VecDeque;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::{End, Failure, work};
use crate::host::{
    Command, CommandError, Content, Ending, Host, Message, ModelError, Output, Request, Response,
    Speaker, Stop, ToolResult, ToolUse,
};
use crate::prompt::{Assignment, Baseline};
use crate::view::View;

pub(crate) const BROKEN: &str = "def fee(minutes):\n    return minutes // 60 + 1\n";
pub(crate) const MENDED: &str = "def fee(minutes):\n    return -(-minutes // 60)\n";

/// What the model does in one turn.
pub(crate) type Turn = Result<Response, ModelError>;

/// A model that says its lines, and a project whose tests pass when `fees.py` is mended.
pub(crate) struct Script {
    pub(crate) directory: TempDir,
    pub(crate) turns: VecDeque<Turn>,
    /// Said for ever when the turns are used up.
    pub(crate) rest: Option<Turn>,
    /// Every conversation that was sent.
    pub(crate) sent: Vec<Vec<Message>>,
    pub(crate) runs: Vec<(String, Vec<String>)>,
    pub(crate) test_error: Option<CommandError>,
    pub(crate) notes: Vec<String>,
    pub(crate) ms_a_turn: u64,
}

impl Host for Script {
    fn chat(&mut self, request: Request<'_>) -> Turn {
        assert_eq!(request.system, crate::prompt::SYSTEM);
        assert!(request.max_tokens > 0 && !request.tools.is_empty());
        self.sent.push(request.messages.to_vec());
        let next = self.turns.pop_front().or_else(|| self.rest.clone());
        next.unwrap_or_else(|| panic!("the script is at its end: {:?}", request.messages.last()))
    }

    fn run(
        &mut self,
        name: &str,
        args: &[String],
        timeout_ms: u64,
    ) -> Result<Output, CommandError> {
        assert!(timeout_ms > 0);
        self.runs.push((name.into(), args.to_vec()));
        if let Some(error) = &self.test_error {
            return Err(error.clone());
        }
        let text =
            std::fs::read_to_string(self.directory.path().join("fees.py")).unwrap_or_default();
        let green = text == MENDED;
        Ok(Output {
            ending: Ending::Exited(i32::from(!green)),
            stdout: if green {
                "test test_fee ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored\n".into()
            } else {
                "test test_fee ... FAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored\n"
                    .into()
            },
            stderr: String::new(),
        })
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.into());
    }

    fn elapsed_ms(&mut self) -> u64 {
        self.sent.len() as u64 * self.ms_a_turn
    }
}

impl Script {
    pub(crate) fn new(turns: Vec<Turn>) -> Script {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("fees.py"), BROKEN).unwrap();
        Script {
            directory,
            turns: turns.into(),
            rest: None,
            sent: vec![],
            runs: vec![],
            test_error: None,
            notes: vec![],
            ms_a_turn: 0,
        }
    }

    pub(crate) fn for_ever(turn: Turn) -> Script {
        let mut script = Script::new(vec![]);
        script.rest = Some(turn);
        script
    }

    pub(crate) fn work(&mut self) -> Result<End, Failure> {
        self.work_with(&assignment(), &["test"], 200_000)
    }

    pub(crate) fn work_with(
        &mut self,
        assignment: &Assignment,
        commands: &[&str],
        context: u32,
    ) -> Result<End, Failure> {
        let commands: Vec<Command> = commands
            .iter()
            .map(|name| Command {
                name: (*name).into(),
                argv: vec!["run".into()],
            })
            .collect();
        let mut view = View::new(self.directory.path());
        let end = work(assignment, &commands, context, &mut view, self);
        self.sent.iter().for_each(|messages| is_sound(messages));
        end
    }

    pub(crate) fn file(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("fees.py")).unwrap()
    }

    /// What the model was told last before its turn `turn`, from 1.
    pub(crate) fn told(&self, turn: usize) -> Vec<ToolResult> {
        let message = self.sent[turn - 1].last().unwrap();
        message
            .content
            .iter()
            .filter_map(|part| match part {
                Content::ToolResult(result) => Some(result.clone()),
                _ => None,
            })
            .collect()
    }
}

/// What every provider asks of a conversation.
pub(crate) fn is_sound(messages: &[Message]) {
    let ids = |message: &Message| -> (Vec<String>, Vec<String>) {
        let mut ids = (vec![], vec![]);
        for part in &message.content {
            match part {
                Content::ToolUse(tool) => {
                    let plain = |c: char| c == '_' || c == '-' || c.is_ascii_alphanumeric();
                    assert!(!tool.name.is_empty() && tool.name.chars().all(plain));
                    assert!(
                        serde_json::from_str::<Value>(&tool.input)
                            .unwrap()
                            .is_object()
                    );
                    assert!(!tool.id.is_empty() && !ids.0.contains(&tool.id));
                    ids.0.push(tool.id.clone());
                }
                Content::ToolResult(result) => ids.1.push(result.id.clone()),
                Content::Text(text) => assert!(!text.trim().is_empty()),
            }
        }
        ids
    };
    assert!(messages.len() % 2 == 1 && messages[0].speaker == Speaker::User);
    for pair in messages.windows(2) {
        assert_ne!(pair[0].speaker, pair[1].speaker);
        assert!(!pair[1].content.is_empty());
        assert_eq!(ids(&pair[0]).0, ids(&pair[1]).1);
    }
}

pub(crate) fn assignment() -> Assignment {
    Assignment {
        title: "a full hour costs two".into(),
        kind: "bug",
        attempt: 1,
        baseline: Some(Baseline {
            outcome: "fails",
            ..Baseline::default()
        }),
        ..Assignment::default()
    }
}

pub(crate) fn says(content: Vec<Content>, stop: Stop) -> Turn {
    Ok(Response {
        content,
        stop,
        input_tokens: 0,
    })
}

pub(crate) fn text(words: &str) -> Content {
    Content::Text(words.into())
}

pub(crate) fn tool(id: &str, name: &str, input: &Value) -> Content {
    Content::ToolUse(ToolUse {
        id: id.into(),
        name: name.into(),
        input: input.to_string(),
    })
}

pub(crate) fn uses(name: &str, input: Value) -> Turn {
    says(vec![tool("t", name, &input)], Stop::ToolUse)
}

pub(crate) fn mend() -> Value {
    json!({ "path": "fees.py", "old": "minutes // 60 + 1", "new": "-(-minutes // 60)" })
}

pub(crate) fn finish() -> Turn {
    uses(
        "finish",
        json!({ "summary": "Round up\n\nA full hour was charged twice." }),
    )
}

pub(crate) fn gave_up(end: Result<End, Failure>) -> String {
    match end {
        Ok(End::GaveUp(why)) => why,
        other => panic!("{other:?}"),
    }
}
