//! `wasi:http/outgoing-handler`: requests that the grant allows, and the bodies of their answers.

use std::time::Duration;

use capability::header::{Header, PATH_BYTES_MAX, Size};
use capability::origin::Origin;
use capability::{Grant, Reach};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::broker::bodies::{Bodies, Next};
use crate::broker::{Again, Go, Reply, Turn, Unanswered, result};
use crate::message::http::{
    Asked, BODY_BYTES_MAX, Field, Head, HttpError, Piece, Request, Timeouts,
};
use crate::recording::Answered;
use crate::services::Services;

/// Answers of one call whose bodies are open: each holds a connection of the host. As many as the door gives one call at a time: a guest that
/// waited there for one more could not read the others meanwhile.
const BODIES_MAX: usize = 8;

/// What is read of an answer before its head is given, where the request cannot be made again: so much is not lost with the connection.
const AHEAD_BYTES_MAX: usize = 1 << 20;

pub(crate) async fn answer(
    bodies: &mut Bodies,
    turn: &mut Turn<'_>,
    function: &str,
    args: Vec<Value>,
) -> Result<Reply, Unanswered> {
    let args = Value::Array(args);
    let services = turn.services;
    match function {
        "handle" => match serde_json::from_value::<(Asked, Vec<u64>)>(args) {
            // A body has the number of its lane: there is one in a lane.
            Ok((asked, dropped))
                if is_honest(&asked, turn.grant) && !bodies.holds(u64::from(turn.lane())) =>
            {
                bodies.close(services, &dropped);
                handle(bodies, turn, asked).await
            }
            _ => Ok(Reply::Malformed),
        },
        "read-body" => match serde_json::from_value::<(u64, Vec<u64>)>(args) {
            // What was dropped is read no more.
            Ok((id, dropped)) if bodies.holds(id) && !dropped.contains(&id) => {
                bodies.close(services, &dropped);
                Ok(Reply::Done(result(read_body(bodies, services, id).await)))
            }
            _ => Ok(Reply::Malformed),
        },
        _ => Ok(Reply::Malformed),
    }
}

/// Follows what is answered from the record: which bodies are open, and how far they are read.
pub(crate) fn again(
    bodies: &mut Bodies,
    grant: &Grant,
    services: &dyn Services,
    answered: &Answered,
    args: &[Value],
) {
    let [asked, dropped] = args else {
        return;
    };
    let dropped: Vec<u64> = serde_json::from_value(dropped.clone()).unwrap_or_default();
    bodies.close(services, &dropped);
    let answer = answered.answer.clone();
    if answered.question.function == "handle" {
        let request = serde_json::from_value::<Asked>(asked.clone()).ok();
        let request = request.and_then(|asked| well_formed(asked, grant).ok());
        if let (Some(request), Some(head)) = (request, told::<Head>(answer)) {
            handled(bodies, grant, services, answered, request, head);
        }
    } else if let (Ok(id), Some(piece)) = (serde_json::from_value(asked.clone()), told(answer))
        && let Some((number, bytes)) = bodies.given(id, &piece)
    {
        services.received_before(number, bytes);
    }
}

/// Follows a request that was made, as far as that is known.
fn handled(
    bodies: &mut Bodies,
    grant: &Grant,
    services: &dyn Services,
    answered: &Answered,
    request: Request,
    head: Result<Head, HttpError>,
) {
    let number = answered.question.number;
    let head = match head {
        Ok(head) => head,
        Err(error) if has_left(error) => return services.requested_before(request, number, 0),
        Err(_) => return,
    };
    let fields = |fields: &[Field]| -> usize {
        let length = |field: &Field| field.name.len() + field.value.len();
        fields.iter().map(length).sum()
    };
    let ahead = answered.ahead.iter().map(|piece| match piece {
        Ok(Piece::Bytes(bytes)) => bytes.len(),
        Ok(Piece::End(trailers)) => fields(trailers),
        Err(_) => 0,
    });
    let received = fields(&head.headers) + ahead.sum::<usize>();
    let again = is_repeatable(&request, grant).then(|| request.clone());
    bodies.reopen(&head, answered.ahead.clone(), number, again);
    services.requested_before(request, number, received as u64);
}

/// Reads an answer that was given.
fn told<T: DeserializeOwned>(mut answer: Value) -> Option<Result<T, HttpError>> {
    if let Some(piece) = answer.get_mut("ok") {
        return serde_json::from_value(piece.take()).ok().map(Ok);
    }
    serde_json::from_value(answer["err"].take()).ok().map(Err)
}

/// Whether a request that came to this may have been sent. What is refused before costs nothing.
fn has_left(error: HttpError) -> bool {
    match error {
        HttpError::Denied
        | HttpError::UriInvalid
        | HttpError::UriTooLong
        | HttpError::HeadersTooLarge
        | HttpError::BodyTooLarge
        | HttpError::Invalid
        | HttpError::OutOfBudget
        | HttpError::NotConfigured => false,
        HttpError::AddressRefused
        | HttpError::NoSuchName
        | HttpError::Unreachable
        | HttpError::Tls
        | HttpError::TimedOut
        | HttpError::HeadTooLarge
        | HttpError::TooLarge
        | HttpError::BrokeOff
        | HttpError::Withheld => true,
    }
}

/// Whether a request may be made once more for the rest of its answer.
fn is_repeatable(request: &Request, grant: &Grant) -> bool {
    let path = request.path_and_query.split('?').next().unwrap_or("/");
    let reach = grant.may_request(&request.origin, &request.method, path);
    reach.is_ok_and(|reach| again_of(request, &reach) != Again::Never)
}

/// What may be done about a request that was interrupted.
fn again_of(request: &Request, reach: &Reach) -> Again {
    match request.method.as_str() {
        _ if reach.idempotency.is_some() => Again::Safely,
        "GET" | "HEAD" | "OPTIONS" => Again::Freely,
        "PUT" | "DELETE" => Again::Safely,
        _ => Again::Never,
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
    turn: &mut Turn<'_>,
    asked: Asked,
) -> Result<Reply, Unanswered> {
    let failed = |error| result::<Head, _>(Err(error));
    let (grant, services) = (turn.grant, turn.services);
    let request = match well_formed(asked, grant) {
        Ok(request) => request,
        Err(error) => return Ok(Reply::Done(failed(error))),
    };
    let path = request.path_and_query.split('?').next().unwrap_or("/");
    let reach = match grant.may_request(&request.origin, &request.method, path) {
        Ok(reach) => reach,
        Err(denial) => return Ok(Reply::Denied(failed(HttpError::Denied), denial)),
    };
    if bodies.len() >= BODIES_MAX {
        return Ok(Reply::Done(failed(HttpError::OutOfBudget)));
    }
    let again = again_of(&request, &reach);
    let what = || format!("the request {} {}{path}", request.method, request.origin);
    if turn.about_to(again, what).await? == Go::Happened {
        return Ok(Reply::Done(failed(HttpError::BrokeOff)));
    }
    let mut head = match services.request(request, turn.number()).await {
        Ok(head) => head,
        Err(error) => return Ok(Reply::Done(failed(error))),
    };
    if !for_guest(&mut head.headers) {
        services.close_body(head.id);
        return Ok(Reply::Done(failed(HttpError::HeadTooLarge)));
    }
    let ahead = match again == Again::Never && turn.is_recorded() {
        true => read_ahead(services, head.id).await,
        false => Vec::new(),
    };
    let live = std::mem::replace(&mut head.id, u64::from(turn.lane()));
    bodies.open(head.id, live, ahead.clone());
    turn.read_ahead(ahead);
    Ok(Reply::Done(result::<_, HttpError>(Ok(head))))
}

async fn read_ahead(services: &dyn Services, id: u64) -> Vec<Next> {
    let (mut ahead, mut bytes) = (Vec::new(), 0);
    while bytes < AHEAD_BYTES_MAX {
        let piece = services.read_body(id).await;
        match &piece {
            Ok(Piece::Bytes(more)) => bytes += more.len(),
            _ => bytes = AHEAD_BYTES_MAX,
        }
        ahead.push(piece);
    }
    ahead
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

async fn read_body(bodies: &mut Bodies, services: &dyn Services, id: u64) -> Next {
    let mut piece = bodies.read(services, id).await;
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
