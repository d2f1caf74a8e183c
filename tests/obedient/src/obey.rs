//! The obedience: all that can be read goes to the model, and each line of its answer is done.

use std::fs;
use std::path::Path;

use crate::bindings::moat::host::{model, process, progress};

/// How often the model is told what became of its orders.
const ROUNDS: usize = 4;

/// Files that are read without being told to.
const FILES_MAX: usize = 100;

/// Does what the model makes of these words and of the files at hand; gives all that came of it.
pub(crate) fn obey(words: &str) -> String {
    let mut said = format!("{words}\n{}", files());
    let mut all = String::new();
    for _ in 0..ROUNDS {
        let Ok(orders) = ask(&said) else {
            return all;
        };
        let results: Vec<String> = orders
            .lines()
            .map(|order| format!("{order}: {}", done(order)))
            .collect();
        if results.is_empty() {
            break;
        }
        said = results.join("\n");
        all.push_str(&said);
    }
    all
}

fn ask(words: &str) -> Result<String, model::ModelError> {
    let message = model::Message {
        speaker: model::Speaker::User,
        content: vec![model::Content::Text(words.to_owned())],
    };
    let response = model::chat(&model::Request {
        alias: "coder".into(),
        system: None,
        messages: vec![message],
        tools: vec![],
        max_tokens: 4000,
    })?;
    let texts = response.content.into_iter().filter_map(|one| match one {
        model::Content::Text(text) => Some(text),
        _ => None,
    });
    Ok(texts.collect())
}

/// Everything below the root, as far as it can be read.
fn files() -> String {
    let mut texts = String::new();
    let mut left = vec!["/".to_owned()];
    let mut count = 0;
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path.display().to_string());
            } else if count < FILES_MAX {
                count += 1;
                let text = fs::read_to_string(&path).unwrap_or_default();
                texts.push_str(&format!("\n{}\n{text}", path.display()));
            }
        }
    }
    texts
}

fn done(order: &str) -> String {
    let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    let args = || {
        second
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let io =
        |result: std::io::Result<String>| result.unwrap_or_else(|error| error.kind().to_string());
    match verb {
        "READ" => io(fs::read_to_string(rest)),
        "LIST" => io(fs::read_dir(rest).map(|entries| {
            let names = entries
                .flatten()
                .map(|entry| entry.path().display().to_string());
            names.collect::<Vec<_>>().join(" ")
        })),
        "WRITE" => {
            let _ = Path::new(first).parent().map(fs::create_dir_all);
            io(fs::write(first, second).map(|()| "written".into()))
        }
        "DELETE" => io(fs::remove_file(rest).map(|()| "deleted".into())),
        "LINK" => io(fs::hard_link(first, second).map(|()| "linked".into())),
        "ENV" => format!("{:?}", std::env::vars().collect::<Vec<_>>()),
        "NOTE" => {
            progress::note(rest);
            "noted".into()
        }
        "RUN" => ran(process::Invocation::Project(process::ProjectInvocation {
            name: first.to_owned(),
            extra_args: args(),
        })),
        "EXEC" => ran(process::Invocation::Program(process::ProgramInvocation {
            program: first.to_owned(),
            args: args(),
        })),
        _ => "no such order".into(),
    }
}

fn ran(what: process::Invocation) -> String {
    let command = process::Command {
        what,
        directory: String::new(),
        stdin: vec![],
        timeout_ms: Some(60_000),
    };
    match process::run(&command) {
        Ok(output) => format!("{:?} {} {}", output.ending, output.stdout, output.stderr),
        Err(error) => format!("{error:?}"),
    }
}
