//! A guest that does one thing after another and tells the host what it has so far: whoever sees its requests sees what it was given.

use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use moat_sdk::job::host::{model, process, release};
use serde_json::{Value, json};

use crate::http;

/// Does the steps of the input, and answers with what came of each.
pub fn told(input: &Value) -> Value {
    let begun = Instant::now();
    let mut told = Vec::new();
    for step in input["steps"].as_array().into_iter().flatten() {
        let came = one(step, &begun, &told);
        told.push(came);
    }
    json!(told)
}

fn one(step: &Value, begun: &Instant, told: &[Value]) -> Value {
    match step["do"].as_str().unwrap_or("") {
        "random" => json!([
            wasip2::random::random::get_random_u64().to_string(),
            wasip2::random::insecure::get_insecure_random_u64().to_string(),
            format!("{:?}", wasip2::random::insecure_seed::insecure_seed()),
        ]),
        "clock" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.map_or(0, |now| now.as_nanos());
            json!([now.to_string(), begun.elapsed().as_nanos().to_string()])
        }
        "look" => {
            for _ in 0..step["times"].as_u64().unwrap_or(0) {
                std::hint::black_box(Instant::now());
            }
            json!("looked")
        }
        "sleep" => {
            let ms = step["ms"].as_u64().unwrap_or(0);
            std::thread::sleep(std::time::Duration::from_millis(ms));
            json!("slept")
        }
        "spin" => loop {
            std::hint::black_box(0);
        },
        // Asks by what the view holds, which nobody records.
        "heed" => {
            json!(fs::read_to_string(step["path"].as_str().unwrap_or("")).unwrap_or_default())
        }
        "write" => of_files(fs::write(path(step, "path"), path(step, "text"))),
        "remove" => of_files(fs::remove_file(path(step, "path"))),
        "rename" => of_files(fs::rename(path(step, "path"), path(step, "to"))),
        "clear" => of_files(fs::remove_dir_all(path(step, "path"))),
        "make" => of_files(fs::create_dir(path(step, "path"))),
        "read" => of_files(fs::read_to_string(path(step, "path"))),
        "chat" => {
            let request = model::Request {
                alias: step["alias"].as_str().unwrap_or("small").into(),
                system: Some(json!(told).to_string()),
                messages: vec![],
                tools: vec![],
                max_tokens: 5,
            };
            let answer = model::chat(&request).map(|response| format!("{:?}", response.stop));
            json!([request.system, format!("{answer:?}")])
        }
        "aliases" => json!(format!("{:?}", model::aliases())),
        "commands" => json!(format!("{:?}", process::project_commands())),
        "run" => {
            let what = process::Invocation::Project(process::ProjectInvocation {
                name: step["name"].as_str().unwrap_or("test").into(),
                extra_args: vec![],
            });
            let answer = process::run(&process::Command {
                what,
                directory: String::new(),
                stdin: json!(told).to_string().into_bytes(),
                timeout_ms: None,
            });
            json!(answer.map_or_else(|error| format!("{error:?}"), |output| output.stdout))
        }
        "stage" => json!(format!("{:?}", release::stage())),
        "fetch" => http::fetch(step),
        "pair" => http::pair(step),
        _ => Value::Null,
    }
}

fn path<'a>(step: &'a Value, key: &str) -> &'a str {
    step[key].as_str().unwrap_or("")
}

fn of_files<T: Into<Value>>(result: std::io::Result<T>) -> Value {
    match result {
        Ok(value) => json!({ "ok": value.into() }),
        Err(error) => json!({ "err": format!("{:?}", error.kind()) }),
    }
}
