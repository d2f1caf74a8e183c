//! One skill call's requests: the sandbox's records on one side, the outbound door's on the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capability::header::alike;
use capability::{Denial, Grant, Origin};
use egress::{InvalidRequest, Outbound, ReplyBody, RequestError, StillHeld, Use, Visit};
use sandbox::message::http::{Field, Head, HttpError, Piece, Request};

use crate::keys::Keys;
use crate::lease::Held;

/// The network as one call sees it: its own budget, its own connections, nothing of another call's.
pub struct StepNetwork {
    visit: Arc<Visit>,
    open: Mutex<Open>,
    /// What requests took whose answers are given from the record, by their numbers.
    before: Mutex<BTreeMap<u64, egress::Traffic>>,
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
        StepNetwork::of(outbound.visit(grant))
    }

    /// For one call of a run: nothing more goes out once the run is another moat's.
    pub(crate) fn of_run(outbound: &Outbound, grant: Arc<Grant>, held: Arc<Held>) -> StepNetwork {
        let held: StillHeld = Arc::new(move || held.holds().is_ok());
        StepNetwork::of(outbound.visit(grant).while_held(held))
    }

    fn of(visit: Visit) -> StepNetwork {
        StepNetwork {
            visit: Arc::new(visit),
            open: Mutex::default(),
            before: Mutex::default(),
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

    /// What is used of the call's budget.
    pub(crate) fn traffic(&self) -> egress::Traffic {
        self.visit.traffic()
    }

    /// What was used since then.
    pub(crate) fn since(&self, before: egress::Traffic) -> sandbox::Traffic {
        let egress::Traffic {
            requests,
            sent,
            received,
        } = self.visit.traffic().less(before);
        sandbox::Traffic {
            requests,
            sent,
            received,
        }
    }

    /// Takes what a command used out of the call's budget, though it is not run once more.
    pub(crate) fn used_before(&self, traffic: sandbox::Traffic) {
        let sandbox::Traffic {
            requests,
            sent,
            received,
        } = traffic;
        self.visit.used_before(egress::Traffic {
            requests,
            sent,
            received,
        });
    }

    /// The same for a request.
    pub(crate) fn requested_before(&self, mut request: Request, number: u64, received: u64) {
        // As long as any.
        self.put_key(&mut request, || Keys::of_call().key(number, 1));
        let traffic = egress::Traffic {
            requests: 1,
            sent: sent(request).size_bytes(),
            received,
        };
        self.visit.used_before(traffic);
        lock(&self.before).insert(number, traffic);
    }

    /// The same for more of its answer.
    pub(crate) fn received_before(&self, number: u64, bytes: u64) {
        let more = egress::Traffic {
            received: bytes,
            ..egress::Traffic::default()
        };
        self.visit.used_before(more);
        let mut before = lock(&self.before);
        let one = before.entry(number).or_default();
        *one = one.plus(more);
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// What the guest may know, and what is to be recorded as refused.
    pub(crate) async fn request(
        &self,
        mut request: Request,
        number: u64,
        key: impl FnOnce() -> String,
    ) -> Result<Head, Unanswered> {
        let origin = request.origin.clone();
        self.put_key(&mut request, key);
        // Made once more, for the rest of its answer: it takes the place of the first.
        let before = lock(&self.before).remove(&number);
        self.visit.give_back(before.unwrap_or_default());
        let reply = self.visit.send(sent(request)).await.map_err(|error| {
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
        lock(&self.open)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request as the door takes it.
fn sent(request: Request) -> egress::Request {
    egress::Request {
        method: request.method,
        origin: request.origin,
        path_and_query: request.path_and_query,
        headers: pairs(request.headers),
        body: request.body,
        timeouts: egress::Timeouts {
            connect: request.timeouts.connect,
            first_byte: request.timeouts.first_byte,
            between_bytes: request.timeouts.between_bytes,
        },
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
        RequestError::BrokeOff | RequestError::NotHeld => HttpError::BrokeOff,
        RequestError::SecretEchoed | RequestError::Encoded => HttpError::Withheld,
        RequestError::CredentialUnavailable { .. } => HttpError::NotConfigured,
    }
}
