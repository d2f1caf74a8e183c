//! `moat:host/release`: releases of the merged tree.

use serde_json::Value;

use crate::broker::{Again, Reply, Turn, Unanswered, only, result};
use crate::message::release::ReleaseError;

pub(crate) async fn answer(
    turn: &mut Turn<'_>,
    function: &str,
    args: Vec<Value>,
) -> Result<Reply, Unanswered> {
    if let Err(denial) = turn.grant.may_release() {
        let error = result::<(), _>(Err(ReleaseError::Denied));
        return Ok(Reply::Denied(error, denial));
    }
    // Each of them looks first, and does nothing where it is done.
    let again = match function {
        "versions" | "probe" => Again::Freely,
        "stage" | "activate" | "deactivate" => Again::Safely,
        _ => return Ok(Reply::Malformed),
    };
    turn.about_to(again, String::new).await?;
    let services = turn.services;
    Ok(Reply::Done(match function {
        "versions" => result(services.versions().await),
        "stage" => result(services.stage().await),
        "activate" => match only(args) {
            Some(name) => result(services.activate(name).await),
            None => return Ok(Reply::Malformed),
        },
        "deactivate" => result(services.deactivate().await),
        _ => result(services.probe().await),
    }))
}
