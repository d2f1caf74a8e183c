//! `moat:host/effects`: a skill's account of what it does outside; no authority.

use serde_json::Value;

use crate::broker::{Again, Reply, Turn, Unanswered, only, result};
use crate::message::effects::EffectsError;

/// Of a key, in characters: it stands in lines that people read.
const KEY_CHARS_MAX: usize = 200;

/// Of what an effect is, and of what came of it.
const TEXT_BYTES_MAX: usize = 2000;

pub(crate) async fn answer(
    turn: &mut Turn<'_>,
    function: &str,
    args: Vec<Value>,
) -> Result<Reply, Unanswered> {
    let (key, text): (String, String) = match function {
        "all" if args.is_empty() => {
            turn.about_to(Again::Freely, String::new).await?;
            return Ok(Reply::Done(result(turn.services.effects().await)));
        }
        "intend" | "confirm" => match serde_json::from_value(Value::Array(args)) {
            Ok((key, text)) => (key, text),
            Err(_) => return Ok(Reply::Malformed),
        },
        "withdraw" => match only(args) {
            Some(key) => (key, String::new()),
            None => return Ok(Reply::Malformed),
        },
        _ => return Ok(Reply::Malformed),
    };
    if let Err(why) = well_formed(&key, &text) {
        let error = EffectsError::Invalid(why);
        return Ok(Reply::Done(result::<(), _>(Err(error))));
    }
    // The account knows by the number that it is the same call.
    turn.about_to(Again::Safely, String::new).await?;
    let services = turn.services;
    Ok(Reply::Done(match function {
        "intend" => result(services.intend(key, text, turn.number()).await),
        "confirm" => result(services.confirm(key, text).await),
        _ => result(services.withdraw(key).await),
    }))
}

fn well_formed(key: &str, text: &str) -> Result<(), String> {
    let length = key.chars().count();
    if length == 0 || length > KEY_CHARS_MAX || key.chars().any(char::is_control) {
        return Err(format!(
            "a key has from 1 to {KEY_CHARS_MAX} characters, and no control characters"
        ));
    }
    match text.len() > TEXT_BYTES_MAX {
        true => Err(format!("a text has at most {TEXT_BYTES_MAX} bytes")),
        false => Ok(()),
    }
}
