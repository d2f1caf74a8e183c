//! What a guest does with files and clocks that no honest one needs.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};

/// The answer, where the input asks for one of these.
pub fn answer(what: &str, path: &str, to: &str, input: &Value) -> Option<Result<Value, String>> {
    let told =
        |result: std::io::Result<Value>| result.map_err(|error| format!("{:?}", error.kind()));
    Some(match what {
        #[allow(
            deprecated,
            reason = "the only call that makes a link of either kind here"
        )]
        "symlink" => told(fs::soft_link(path, to).map(|()| Value::Null)),
        "same" => Ok(same(path, input)),
        "touch" => Ok(touched(path)),
        "stamp" => told(stamped(path, input)),
        "stat" => told(stated(path)),
        "ticks" => loop {
            std::hint::black_box(Instant::now());
        },
        "blanks" => loop {
            let _ = std::io::stdout().write(b"");
            let _ = std::io::stdout().flush();
        },
        _ => return None,
    })
}

/// Reads a file many times; answers with how often that went well, and the first content that was not the expected one.
fn same(path: &str, input: &Value) -> Value {
    let mut read = 0u64;
    for _ in 0..input["times"].as_u64().unwrap_or(0) {
        if let Ok(text) = fs::read_to_string(path) {
            read += 1;
            if Some(text.as_str()) != input["text"].as_str() {
                return json!({ "read": read, "other": text });
            }
        }
    }
    json!({ "read": read })
}

/// What goes through a file that was opened for reading only.
fn touched(path: &str) -> Value {
    let Ok(mut file) = fs::File::open(path) else {
        return json!(["open"]);
    };
    let mut done = Vec::new();
    if file.set_modified(UNIX_EPOCH).is_ok() {
        done.push("times");
    }
    if file.set_len(0).is_ok() {
        done.push("size");
    }
    if file.write(b"x").is_ok() {
        done.push("content");
    }
    json!(done)
}

fn stamped(path: &str, input: &Value) -> std::io::Result<Value> {
    let seconds = Duration::new(input["seconds"].as_u64().unwrap_or(0), 999_999_999);
    let at = UNIX_EPOCH
        .checked_add(seconds)
        .ok_or(std::io::ErrorKind::InvalidInput)?;
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .set_modified(at)?;
    Ok(Value::Null)
}

fn stated(path: &str) -> std::io::Result<Value> {
    let modified = fs::metadata(path)?.modified()?;
    Ok(json!(
        modified
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    ))
}
