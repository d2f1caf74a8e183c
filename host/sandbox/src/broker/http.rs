//! `wasi:http/outgoing-handler`: requests that the grant allows, and the bodies of their answers.

use std::collections::BTreeSet;
use std::time::Duration;

use capability::Grant;
use capability::header::{Header, PATH_BYTES_MAX, Size};
use capability::origin::Origin;
use serde_json::Value;

use crate::broker::{Reply, result};
use crate::message::http::{
    Asked, BODY_BYTES_MAX, Field, Head, HttpError, Piece, Request, Timeouts,
};
use crate::services::Services;

/// Answers of one call whose bodies are open: each holds a connection of the host. As many as the door gives one call at a time: a guest that
/// waited there for one more could not read the others meanwhile.
const BODIES_MAX: usize = 8;

/// The open bodies of one call, by the ids that the services gave them.
#[derive(Default)]
pub(crate) struct Bodies(BTreeSet<u64>);

impl Bodies {
    /// Gives up those that the worker dropped; it cannot know which have ended by themselves.
    fn close(&mut self, services: &dyn Services, ids: &[u64]) {
        for id in ids {
            if self.0.remove(id) {
                services.close_body(*id);
            }
        }
    }

    /// Gives up all of them: the call has ended.
    pub(crate) fn close_all(&mut self, services: &dyn Services) {
        for id in std::mem::take(&mut self.0) {
            services.close_body(id);
        }
    }
}

pub(crate) async fn answer(
    bodies: &mut Bodies,
    grant: &Grant,
    services: &dyn Services,
    function: &str,
    args: Vec<Value>,
) -> Reply {
    let args = Value::Array(args);
    match function {
        "handle" => match serde_json::from_value::<(Asked, Vec<u64>)>(args) {
            Ok((asked, dropped)) if is_honest(&asked, grant) => {
                bodies.close(services, &dropped);
                handle(bodies, grant, services, asked).await
            }
            _ => Reply::Malformed,
        },
        "read-body" => match serde_json::from_value::<(u64, Vec<u64>)>(args) {
            // What was dropped is read no more.
            Ok((id, dropped)) if bodies.0.contains(&id) && !dropped.contains(&id) => {
                bodies.close(services, &dropped);
                Reply::Done(result(read_body(bodies, services, id).await))
            }
            _ => Reply::Malformed,
        },
        _ => Reply::Malformed,
    }
}

/// Whether a worker that is still ours could have sent this: it has checked headers and body already.
fn is_honest(asked: &Asked, grant: &Grant) -> bool {
    let fits = |field: &Field| {
        is_name(&field.name)
            && !Header::of(&field.name).is_hosts()
            && field.name != "content-length"
            && field.value.iter().copied().all(is_value_byte)
    };
    let body_max = grant.limits().sent_bytes.min(BODY_BYTES_MAX);
    asked.body.len() as u64 <= body_max && asked.headers.iter().all(fits)
}

async fn handle(
    bodies: &mut Bodies,
    grant: &Grant,
    services: &dyn Services,
    asked: Asked,
) -> Reply {
    let failed = |error| result::<Head, _>(Err(error));
    let request = match well_formed(asked, grant) {
        Ok(request) => request,
        Err(error) => return Reply::Done(failed(error)),
    };
    let path = request.path_and_query.split('?').next().unwrap_or("/");
    if let Err(denial) = grant.may_request(&request.origin, &request.method, path) {
        return Reply::Denied(failed(HttpError::Denied), denial);
    }
    if bodies.0.len() >= BODIES_MAX {
        return Reply::Done(failed(HttpError::OutOfBudget));
    }
    let head = services.request(request).await;
    Reply::Done(result(head.and_then(|mut head| {
        bodies.0.insert(head.id);
        let whole = for_guest(&mut head.headers);
        if !whole {
            bodies.close(services, &[head.id]);
        }
        whole.then_some(head).ok_or(HttpError::HeadTooLarge)
    })))
}

/// Reads a request, or says what of it cannot be read in one way only.
fn well_formed(asked: Asked, grant: &Grant) -> Result<Request, HttpError> {
    let mut path_and_query = asked.path_with_query;
    if path_and_query.len() > PATH_BYTES_MAX {
        return Err(HttpError::UriTooLong);
    }
    if path_and_query.is_empty() || path_and_query.starts_with('?') {
        path_and_query.insert(0, '/');
    }
    let printable = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !path_and_query.starts_with('/') || !path_and_query.bytes().all(printable) {
        return Err(HttpError::UriInvalid);
    }
    let origin = Origin::parse(&asked.scheme, &asked.authority);
    if !size(&asked.headers).fits_a_request() {
        return Err(HttpError::HeadersTooLarge);
    }
    // No wait is longer than the call, and none is so short that it could be taken for none.
    let clamp = |ms: Option<u64>| {
        ms.map(|ms| Duration::from_millis(ms.clamp(1, grant.limits().wall_ms.max(1))))
    };
    Ok(Request {
        method: asked.method,
        origin: origin.map_err(|_| HttpError::UriInvalid)?,
        path_and_query,
        headers: asked.headers,
        body: asked.body,
        timeouts: Timeouts {
            connect: clamp(asked.connect_timeout_ms),
            first_byte: clamp(asked.first_byte_timeout_ms),
            between_bytes: clamp(asked.between_bytes_timeout_ms),
        },
    })
}

async fn read_body(
    bodies: &mut Bodies,
    services: &dyn Services,
    id: u64,
) -> Result<Piece, HttpError> {
    let mut piece = services.read_body(id).await;
    if !matches!(piece, Ok(Piece::Bytes(_))) {
        bodies.close(services, &[id]);
    }
    if let Ok(Piece::End(trailers)) = &mut piece
        && !for_guest(trailers)
    {
        return Err(HttpError::HeadTooLarge);
    }
    piece
}

/// Takes out what is kept from guests; says whether the rest may be passed on.
fn for_guest(fields: &mut Vec<Field>) -> bool {
    fields.retain(|field| !Header::of(&field.name).is_hosts());
    size(fields).fits_an_answer()
}

fn size(fields: &[Field]) -> Size {
    let lengths = |field: &Field| (field.name.len(), field.value.len());
    Size::of(fields.iter().map(lengths))
}

fn is_name(name: &str) -> bool {
    let token = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    };
    !name.is_empty() && name.bytes().all(token)
}

fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
