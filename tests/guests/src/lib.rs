//! A job that does what its input says, good or bad: `{"do": "read", "path": "a"}`; and a triage that fetches its report.

mod http;
mod story;
mod triage;
mod tricks;

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use moat_sdk::job::host::{model, process, progress, release};
use moat_sdk::job::{Guest, SkillError};
use serde_json::{Value, json};

struct Probe;

static CALLS: AtomicU64 = AtomicU64::new(0);

impl Guest for Probe {
    fn run(input: String) -> Result<String, SkillError> {
        let input: Value = serde_json::from_str(&input)
            .map_err(|error| SkillError::InvalidInput(error.to_string()))?;
        let path = input["path"].as_str().unwrap_or("");
        let to = input["to"].as_str().unwrap_or("");
        let answer = match input["do"].as_str().unwrap_or("") {
            "echo" => Ok(input["value"].clone()),
            "read" => told(fs::read_to_string(path).map(Value::from)),
            "write" => {
                told(fs::write(path, input["text"].as_str().unwrap_or("")).map(|()| Value::Null))
            }
            "reread" => told(reread(path, input["count"].as_u64().unwrap_or(0))),
            "list" => told(fs::read_dir(path).map(|entries| {
                let mut names: Vec<_> = entries
                    .flatten()
                    .map(|entry| entry.file_name().to_string_lossy().into_owned())
                    .collect();
                names.sort();
                json!(names)
            })),
            "remove" => told(fs::remove_file(path).map(|()| Value::Null)),
            "rename" => told(fs::rename(path, to).map(|()| Value::Null)),
            "link" => told(fs::hard_link(path, to).map(|()| Value::Null)),
            "truncate" => told(
                fs::OpenOptions::new()
                    .write(true)
                    .truncate(true)
                    .open(path)
                    .map(|_| Value::Null),
            ),
            // One more than the last time, if memory lived on from call to call.
            "count" => Ok(json!(CALLS.fetch_add(1, Ordering::Relaxed) + 1)),
            "resize" => told(
                fs::OpenOptions::new()
                    .write(true)
                    .open(path)
                    .and_then(|file| file.set_len(1 << 20))
                    .map(|()| Value::Null),
            ),
            "times" => told(
                fs::OpenOptions::new()
                    .write(true)
                    .open(path)
                    .and_then(|file| file.set_modified(std::time::UNIX_EPOCH))
                    .map(|()| Value::Null),
            ),
            "make" => told(fs::create_dir(path).map(|()| Value::Null)),
            "rmdir" => told(fs::remove_dir(path).map(|()| Value::Null)),
            "fill" => told(fill(path, &input)),
            "many" => told(many(path, input["count"].as_u64().unwrap_or(0))),
            "nest" => {
                let depth = input["depth"].as_u64().unwrap_or(0) as usize;
                return Ok(format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
            }
            "note" => {
                progress::note(&"x".repeat(input["bytes"].as_u64().unwrap_or(0) as usize));
                Ok(Value::Null)
            }
            "env" => Ok(json!(std::env::vars().collect::<Vec<_>>())),
            "spin" => loop {
                std::hint::black_box(0);
            },
            "sleep" => {
                std::thread::sleep(std::time::Duration::from_secs(3600));
                Ok(Value::Null)
            }
            "grow" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(vec![1u8; 1 << 20]);
                    std::hint::black_box(&hoard);
                }
            }
            "recurse" => Ok(json!(deep(0))),
            "panic" => panic!("as asked"),
            "flood" => {
                for _ in 0..1_000_000 {
                    println!("{}", "x".repeat(1000));
                }
                Ok(Value::Null)
            }
            "huge" => Ok(json!("x".repeat(8 << 20))),
            "open" => {
                let files: Vec<_> = (0..100_000)
                    .map_while(|_| fs::File::open(path).ok())
                    .collect();
                Ok(json!(files.len()))
            }
            "storm" => {
                for n in 0..10_000_000u64 {
                    progress::count(n, None, "calls");
                }
                Ok(Value::Null)
            }
            "run" => {
                let answer = ran(&input);
                match input["then"].as_str() {
                    Some("panic") => panic!("as asked, after {answer}"),
                    Some("spin") => loop {
                        std::hint::black_box(0);
                    },
                    _ => Ok(answer),
                }
            }
            "insist" => Ok(insisted(&input)),
            "toil" => Ok(toiled(input["count"].as_u64().unwrap_or(0))),
            "chat" => Ok(chatted(&input)),
            "story" => Ok(story::told(&input)),
            "fetch" => Ok(http::fetch(&input)),
            "ask" => Ok(http::ask(&input)),
            "hold" => Ok(http::hold(&input)),
            "drop-all" => Ok(http::drop_all(&input)),
            "abandon" => Ok(http::abandon(&input)),
            "mutate" => Ok(http::mutate(&input)),
            "fields" => Ok(http::fields(&input)),
            "unsent" => Ok(http::unsent(&input)),
            "release" => Ok(json!(format!("{:?}", release::versions()))),
            other => match tricks::answer(other, path, to, &input) {
                Some(answer) => answer,
                None => return Err(SkillError::InvalidInput(format!("what is {other:?}?"))),
            },
        };
        answer
            .map(|value: Value| value.to_string())
            .map_err(SkillError::Failed)
    }
}

fn told(result: std::io::Result<Value>) -> Result<Value, String> {
    result.map_err(|error| format!("{:?}", error.kind()))
}

/// Writes to one file; with `stubborn`, goes on when the disk is full.
fn fill(path: &str, input: &Value) -> std::io::Result<Value> {
    use std::io::Write as _;
    let mut file = fs::File::create(path)?;
    let block = vec![b'x'; 1 << 20];
    let mut written = 0;
    while written < input["bytes"].as_u64().unwrap_or(0) {
        match file.write_all(&block) {
            Err(_) if input["stubborn"] == true => {}
            other => other?,
        }
        written += block.len() as u64;
    }
    Ok(Value::Null)
}

/// Makes empty files, whatever becomes of each.
fn many(path: &str, count: u64) -> std::io::Result<Value> {
    for n in 0..count {
        let _ = fs::File::create(format!("{path}/{n}"));
    }
    Ok(Value::Null)
}

fn deep(n: u64) -> u64 {
    std::hint::black_box(if n == u64::MAX { 0 } else { deep(n + 1) + 1 })
}

fn ran(input: &Value) -> Value {
    let list = |key: &str| {
        input[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|arg| arg.as_str().map(str::to_owned))
            .collect()
    };
    let what = match input["program"].as_str() {
        Some(program) => process::Invocation::Program(process::ProgramInvocation {
            program: program.into(),
            args: list("args"),
        }),
        None => process::Invocation::Project(process::ProjectInvocation {
            name: input["name"].as_str().unwrap_or("").into(),
            extra_args: list("args"),
        }),
    };
    let directory = input["directory"].as_str().unwrap_or("").to_owned();
    match process::run(&process::Command {
        what,
        directory,
        stdin: vec![b'x'; input["stdin"].as_u64().unwrap_or(0) as usize],
        timeout_ms: None,
    }) {
        Ok(output) => json!({"stdout": output.stdout, "ending": format!("{:?}", output.ending)}),
        Err(error) => json!({"error": format!("{error:?}")}),
    }
}

/// Asks for a command again and again, with a pause in between; with `fresh`, for another one each time.
fn insisted(input: &Value) -> Value {
    let pause = std::time::Duration::from_micros(input["pause-us"].as_u64().unwrap_or(0));
    let mut refused = 0;
    for n in 0..input["count"].as_u64().unwrap_or(0) {
        let name = match input["fresh"] == true {
            true => format!("refused-{n}"),
            false => "refused".to_owned(),
        };
        let answer = ran(&json!({ "name": name }));
        refused += u64::from(answer["error"].is_string());
        std::thread::sleep(pause);
    }
    json!(refused)
}

/// Computes, and tells the host of it a thousand times in all.
/// Opens and reads the file so often; says how many bytes that were.
fn reread(path: &str, count: u64) -> std::io::Result<Value> {
    let mut bytes = 0;
    for _ in 0..count {
        bytes += fs::read(path)?.len();
    }
    Ok(json!(bytes))
}

fn toiled(count: u64) -> Value {
    let mut sum = 0u64;
    for n in 0..count {
        sum = std::hint::black_box(sum.rotate_left(5) ^ n);
        if n % (count / 1000).max(1) == 0 {
            progress::count(n, Some(count), "rounds");
        }
    }
    json!(sum)
}

fn chatted(input: &Value) -> Value {
    let request = model::Request {
        alias: input["alias"].as_str().unwrap_or("").into(),
        system: None,
        messages: vec![],
        tools: vec![],
        max_tokens: u32::MAX,
    };
    match model::chat(&request) {
        Ok(response) => json!({"stop": format!("{:?}", response.stop)}),
        Err(error) => json!({"error": format!("{error:?}")}),
    }
}

moat_sdk::job::export!(Probe with_types_in moat_sdk::job);
