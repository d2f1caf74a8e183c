//! An implement skill that does what the item says, good or bad, at a pace of its own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use moat_sdk::implement::host::model;
use moat_sdk::implement::{Assignment, Guest, Outcome, SkillError, run_project};

struct Doer;

impl Guest for Doer {
    /// Does each line `DO order` of the item; from the second attempt on also `AGAIN order`, and in place of it from then on.
    fn implement(assignment: Assignment) -> Result<Outcome, SkillError> {
        // What follows in a task's item is about the whole.
        let body = &assignment.item.body;
        let own = body.split("\n\nThis is one task").next().unwrap_or(body);
        let verb = if assignment.attempt > 1 && own.contains("\nAGAIN ") {
            "AGAIN "
        } else {
            "DO "
        };
        for line in own.lines() {
            if let Some(order) = line.strip_prefix(verb) {
                obey(order)?;
            }
        }
        Ok(Outcome::Changed(format!("did {}", assignment.item.title)))
    }
}

fn obey(order: &str) -> Result<(), SkillError> {
    let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
    let (path, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let failed = |error: std::io::Error| SkillError::Failed(error.to_string());
    match verb {
        "write" => {
            if let Some(parent) = Path::new(path).parent() {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            fs::write(path, format!("{text}\n")).map_err(failed)
        }
        "append" => {
            let before = fs::read_to_string(path).unwrap_or_default();
            fs::write(path, format!("{before}{text}\n")).map_err(failed)
        }
        "pause" => {
            let millis = rest.parse().unwrap_or(0);
            std::thread::sleep(Duration::from_millis(millis));
            Ok(())
        }
        "test" => test(),
        "chat" => chat(rest),
        "need" if std::env::var(rest).is_err() => {
            Err(SkillError::Denied(format!("{rest} is not there")))
        }
        "need" => Ok(()),
        "fail" => Err(SkillError::Failed(rest.to_owned())),
        "panic" => panic!("as asked"),
        other => Err(SkillError::InvalidInput(format!("what is {other:?}?"))),
    }
}

/// Runs the project's tests, whatever they say.
fn test() -> Result<(), SkillError> {
    let ran = run_project("test", &[], Some(60_000));
    ran.map(|_| ())
        .map_err(|error| SkillError::Failed(format!("{error:?}")))
}

fn chat(words: &str) -> Result<(), SkillError> {
    let message = model::Message {
        speaker: model::Speaker::User,
        content: vec![model::Content::Text(words.to_owned())],
    };
    let answer = model::chat(&model::Request {
        alias: "coder".into(),
        system: None,
        messages: vec![message],
        tools: vec![],
        max_tokens: 4000,
    });
    match answer {
        Ok(_) => Ok(()),
        Err(model::ModelError::OutOfBudget) => Err(SkillError::OutOfBudget("models".into())),
        Err(error) => Err(SkillError::Failed(format!("{error:?}"))),
    }
}

moat_sdk::implement::export!(Doer with_types_in moat_sdk::implement);
