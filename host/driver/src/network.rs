//! One skill call's requests: the sandbox's records on one side, the outbound door's on the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capability::header::alike;
use capability::{Denial, Grant, Origin};
use egress::{InvalidRequest, Outbound, ReplyBody, RequestError, Use, Visit};
use sandbox::message::http::{Field, Head, HttpError, Piece, Request};

/// The network as one call sees it: its own budget, its own connections, nothing of another call's.
pub struct StepNetwork {
    visit: Arc<Visit>,
    open: Mutex<Open>,
}

/// Why there is no answer, or no more of it.
pub(crate) struct Unanswered {
    /// For the guest.
    pub(crate) case: HttpError,
    /// For the record.
    pub(crate) refused: Option<Denial>,
}

impl Unanswered {
    fn of(error: &RequestError, origin: &Origin) -> Unanswered {
        Unanswered {
            case: case(error),
            refused: error.refused(origin),
        }
    }
}

/// Answers that are not read to their end.
#[derive(Default)]
struct Open {
    last: u64,
    bodies: BTreeMap<u64, (Origin, ReplyBody)>,
}

impl StepNetwork {
    /// For one call under this grant.
    pub fn new(outbound: &Outbound, grant: Arc<Grant>) -> StepNetwork {
        StepNetwork {
            visit: Arc::new(outbound.visit(grant)),
            open: Mutex::default(),
        }
    }

    /// The call's use of the door, for the commands that it runs.
    pub(crate) fn visit(&self) -> Arc<Visit> {
        Arc::clone(&self.visit)
    }

    /// What was used so far, for the audit trail.
    pub fn used(&self) -> Vec<Use> {
        self.visit.used()
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// What the guest may know, and what is to be recorded as refused.
    pub(crate) async fn request(
        &self,
        mut request: Request,
        key: impl FnOnce() -> String,
    ) -> Result<Head, Unanswered> {
        let origin = request.origin.clone();
        self.put_key(&mut request, key);
        let timeouts = egress::Timeouts {
            connect: request.timeouts.connect,
            first_byte: request.timeouts.first_byte,
            between_bytes: request.timeouts.between_bytes,
        };
        let sent = egress::Request {
            method: request.method,
            origin: request.origin,
            path_and_query: request.path_and_query,
            headers: pairs(request.headers),
            body: request.body,
            timeouts,
        };
        let reply = self.visit.send(sent).await.map_err(|error| {
            // For the author: the guest is told the case alone.
            tracing::warn!(%origin, %error, "a request of a skill has no answer");
            Unanswered::of(&error, &origin)
        })?;
        let mut open = self.open();
        open.last += 1;
        let id = open.last;
        open.bodies.insert(id, (origin, reply.body));
        Ok(Head {
            id,
            status: reply.status,
            headers: fields(reply.headers),
        })
    }

    /// Puts a key where the other side takes one. It is the host's: what a guest wrote there goes.
    fn put_key(&self, request: &mut Request, key: impl FnOnce() -> String) {
        let path = request.path_and_query.split('?').next().unwrap_or("/");
        let grant = self.visit.grant();
        let reach = grant.may_request(&request.origin, &request.method, path);
        if let Some(header) = reach.ok().and_then(|reach| reach.idempotency) {
            request.headers.retain(|field| !alike(&field.name, &header));
            request.headers.push(Field {
                name: header,
                value: key().into_bytes(),
            });
        }
    }

    /// Waits for the next piece of a body. Whoever gives up waiting gives up the body.
    ///
    /// # Errors
    /// As [`StepNetwork::request`].
    pub(crate) async fn read_body(&self, id: u64) -> Result<Piece, Unanswered> {
        let body = self.open().bodies.remove(&id);
        let (origin, mut body) = body.ok_or(Unanswered {
            case: HttpError::Invalid,
            refused: None,
        })?;
        match body.chunk().await {
            Ok(Some(bytes)) => {
                self.open().bodies.insert(id, (origin, body));
                Ok(Piece::Bytes(bytes.into()))
            }
            Ok(None) => Ok(Piece::End(fields(body.trailers().to_vec()))),
            Err(error) => {
                tracing::warn!(%origin, %error, "an answer to a skill ends before its end");
                Err(Unanswered::of(&error, &origin))
            }
        }
    }

    /// Gives up a body, and its connection with it.
    pub(crate) fn close_body(&self, id: u64) {
        self.open().bodies.remove(&id);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pairs(fields: Vec<Field>) -> Vec<(String, Vec<u8>)> {
    let pair = |field: Field| (field.name, field.value);
    fields.into_iter().map(pair).collect()
}

fn fields(pairs: Vec<(String, Vec<u8>)>) -> Vec<Field> {
    let field = |(name, value)| Field { name, value };
    pairs.into_iter().map(field).collect()
}

/// What a guest may know of an error.
fn case(error: &RequestError) -> HttpError {
    match error {
        RequestError::Denied(_) => HttpError::Denied,
        RequestError::Invalid(why) => match why {
            InvalidRequest::Method | InvalidRequest::Header | InvalidRequest::ContentLength => {
                HttpError::Invalid
            }
            InvalidRequest::Path => HttpError::UriInvalid,
            InvalidRequest::HeaderForbidden
            | InvalidRequest::HoldsSecret
            | InvalidRequest::PlainHttp => HttpError::Denied,
        },
        RequestError::AddressRefused => HttpError::AddressRefused,
        RequestError::NoSuchName => HttpError::NoSuchName,
        RequestError::Unreachable => HttpError::Unreachable,
        RequestError::Tls => HttpError::Tls,
        RequestError::TimedOut => HttpError::TimedOut,
        RequestError::TooLarge => HttpError::HeadTooLarge,
        RequestError::OutOfBudget => HttpError::OutOfBudget,
        RequestError::BrokeOff => HttpError::BrokeOff,
        RequestError::SecretEchoed | RequestError::Encoded => HttpError::Withheld,
        RequestError::CredentialUnavailable { .. } => HttpError::NotConfigured,
    }
}
