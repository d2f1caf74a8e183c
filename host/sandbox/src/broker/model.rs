//! `moat:host/model`: calls to language models by alias.

use capability::Grant;
use serde_json::{Value, json};

use crate::broker::{Reply, only, result};
use crate::message::model::{ModelError, Request, Response};
use crate::services::Services;

pub(crate) async fn answer(
    grant: &Grant,
    services: &dyn Services,
    function: &str,
    args: Vec<Value>,
) -> Reply {
    match function {
        "chat" => match only::<Request>(args) {
            Some(mut request) => {
                if let Err(denial) = grant.may_use_model(&request.alias) {
                    return Reply::Denied(result::<Response, _>(Err(ModelError::Denied)), denial);
                }
                request.max_tokens = request.max_tokens.min(grant.max_tokens()).max(1);
                Reply::Done(result(services.chat(request).await))
            }
            None => Reply::Malformed,
        },
        "aliases" => Reply::Done(json!(
            grant
                .models()
                .filter_map(|name| services.alias(name))
                .collect::<Vec<_>>()
        )),
        _ => Reply::Malformed,
    }
}
