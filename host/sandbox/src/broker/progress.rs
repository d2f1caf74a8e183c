//! `moat:host/progress`: words for a watching person; no authority.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::broker::{Reply, only};
use crate::services::Services;

/// A person reads no faster; what comes in between is dropped.
const PACE: Duration = Duration::from_millis(50);

/// When the last words were passed on.
#[derive(Default)]
pub(crate) struct Pace(Option<Instant>);

pub(crate) fn answer(
    pace: &mut Pace,
    services: &dyn Services,
    function: &str,
    args: Vec<Value>,
) -> Reply {
    let text = match function {
        "note" => match only::<String>(args) {
            Some(text) => text,
            None => return Reply::Malformed,
        },
        "count" => match serde_json::from_value::<(u64, Option<u64>, String)>(Value::Array(args)) {
            Ok((done, Some(total), unit)) => format!("{done} of {total} {unit}"),
            Ok((done, None, unit)) => format!("{done} {unit}"),
            Err(_) => return Reply::Malformed,
        },
        _ => return Reply::Malformed,
    };
    if pace.0.is_none_or(|last| last.elapsed() >= PACE) {
        pace.0 = Some(Instant::now());
        services.note(text.chars().filter(|c| !c.is_control()).take(200).collect());
    }
    Reply::Done(Value::Null)
}
