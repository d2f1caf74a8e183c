//! `moat:host/release`: releases of the merged tree.

use capability::Grant;
use serde_json::Value;

use crate::broker::{Reply, result};
use crate::message::release::ReleaseError;
use crate::services::Services;

pub(crate) async fn answer(
    grant: &Grant,
    services: &dyn Services,
    function: &str,
    args: Vec<Value>,
) -> Reply {
    if let Err(denial) = grant.may_release() {
        return Reply::Denied(result::<(), _>(Err(ReleaseError::Denied)), denial);
    }
    Reply::Done(match function {
        "versions" => result(services.versions().await),
        "stage" => result(services.stage().await),
        "activate" => match crate::broker::only(args) {
            Some(name) => result(services.activate(name).await),
            None => return Reply::Malformed,
        },
        "deactivate" => result(services.deactivate().await),
        "probe" => result(services.probe().await),
        _ => return Reply::Malformed,
    })
}
