//! `moat:host/model`: calls to language models by alias.

use serde_json::{Value, json};

use crate::broker::{Again, Reply, Turn, Unanswered, only, result};
use crate::message::model::{ModelError, Request, Response};

pub(crate) async fn answer(
    turn: &mut Turn<'_>,
    function: &str,
    args: Vec<Value>,
) -> Result<Reply, Unanswered> {
    let grant = turn.grant;
    Ok(match function {
        "chat" => match only::<Request>(args) {
            Some(mut request) => {
                if let Err(denial) = grant.may_use_model(&request.alias) {
                    let error = result::<Response, _>(Err(ModelError::Denied));
                    return Ok(Reply::Denied(error, denial));
                }
                request.max_tokens = request.max_tokens.min(grant.max_tokens()).max(1);
                // A provider that was asked already knows by the key that it is the same.
                turn.about_to(Again::Safely, String::new).await?;
                Reply::Done(result(turn.services.chat(request, turn.number()).await))
            }
            None => Reply::Malformed,
        },
        "aliases" => Reply::Done(json!(
            grant
                .models()
                .filter_map(|name| turn.services.alias(name))
                .collect::<Vec<_>>()
        )),
        _ => Reply::Malformed,
    })
}
