//! The guests' door: one order of checks for every request, whoever asks.
//!
//! grant → headers → secrets in the request → budget → address → connection → credential → answer. Each step refuses by itself; a
//! name is looked up only for what the grant holds, and a secret is put in last.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use capability::Grant;
use capability::header::PATH_BYTES_MAX;
use capability::origin::{HostName, Scheme};
use http::Method;
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::clamps::{AT_ONE_TIME, Clamps, SECRET, within};
use crate::connection::{Connection, Failed, Outgoing, Pool, Purpose};
use crate::credentials::{Carried, Watched, carried};
use crate::dial::{Scope, dial};
use crate::error::EgressError;
use crate::headers;
use crate::reply::{Reply, Source, reply};
use crate::request::{InvalidRequest, Request, RequestError, Timeouts};
use crate::resolve::Resolver;
use crate::secrets::Secrets;
use crate::used::{Ledger, Traffic, Use};

/// What a machine's door is made of.
pub struct Setup {
    /// Looks names up.
    pub resolver: Arc<dyn Resolver>,
    /// A PEM file's text with certificate authorities to trust beside the public ones.
    pub authorities: Option<Vec<u8>>,
    /// The machine owner's secrets.
    pub secrets: Arc<dyn Secrets>,
    /// The most that is waited.
    pub clamps: Clamps,
}

/// The door of a machine; [`Outbound::visit`] opens it for one skill call.
#[derive(Clone)]
pub struct Outbound(Arc<Inner>);

struct Inner {
    resolver: Arc<dyn Resolver>,
    tls: Arc<ClientConfig>,
    secrets: Arc<dyn Secrets>,
    clamps: Clamps,
    /// Every secret that was given to anybody on this machine: no guest's request may hold one.
    live: Watched,
}

/// One skill call's use of the door: its grant, its budget, its connections. Nothing of it is shared with another visit.
pub struct Visit {
    outbound: Arc<Inner>,
    grant: Arc<Grant>,
    ledger: Arc<Ledger>,
    pool: Arc<Pool>,
    at_one_time: Arc<Semaphore>,
    /// Secrets that went out in this visit: no answer may hold one.
    injected: Watched,
    held: Option<StillHeld>,
}

/// Says whether something may still go out in the name of whoever opened the visit: asked right before each request is sent.
pub type StillHeld = Arc<dyn Fn() -> bool + Send + Sync>;

impl Outbound {
    /// Makes the door.
    ///
    /// # Errors
    /// [`EgressError::Setup`] when the certificate authorities are none.
    pub fn new(setup: Setup) -> Result<Outbound, EgressError> {
        let mut tls = crate::tls::config(setup.authorities.as_deref())?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A ticket would tell a server that two visits come from one machine.
        tls.resumption = rustls::client::Resumption::disabled();
        Ok(Outbound(Arc::new(Inner {
            resolver: setup.resolver,
            tls: Arc::new(tls),
            secrets: setup.secrets,
            clamps: setup.clamps,
            live: Watched::nothing(),
        })))
    }

    /// Opens the door for one skill call.
    pub fn visit(&self, grant: Arc<Grant>) -> Visit {
        Visit {
            outbound: Arc::clone(&self.0),
            ledger: Arc::new(Ledger::new(grant.limits())),
            grant,
            pool: Arc::default(),
            at_one_time: Arc::new(Semaphore::new(AT_ONE_TIME)),
            injected: Watched::nothing(),
            held: None,
        }
    }
}

impl Visit {
    /// Has this asked before each request: a process that stood still may have lost what it sends for.
    pub fn while_held(mut self, held: StillHeld) -> Visit {
        self.held = Some(held);
        self
    }

    /// Sends a request and waits until its answer begins. Redirects are answers: they are not followed.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn send(&self, request: Request) -> Result<Reply, RequestError> {
        let until = Instant::now() + self.outbound.clamps.whole;
        let timeouts = request.timeouts;
        let method = method(&request.method)?;
        let path = path(&request.path_and_query)?;
        let reach = self
            .grant
            .may_request(&request.origin, &request.method, path.path())?;
        self.refuse_plain(&request)?;
        let headers = headers::outgoing(&request.headers, request.body.len(), &self.grant)?;
        let secrets = &*self.outbound.secrets;
        let carried = carried(secrets, &reach.credentials, &request.origin, SECRET).await?;
        self.refuse_secrets(&request)?;
        if !carried.is_empty() {
            headers::fit_for_a_secret(&headers)?;
        }
        let credentials: Vec<String> = carried.iter().map(|one| one.name().to_owned()).collect();
        let line = self.ledger.begin(
            &request.origin,
            &request.method,
            path.path(),
            &credentials,
            request.size_bytes(),
        )?;
        let permit = timeout_at(until, Arc::clone(&self.at_one_time).acquire_owned())
            .await
            .map_err(|_| RequestError::TimedOut)?
            .map_err(|_| RequestError::TimedOut)?;
        let purpose = Purpose {
            origin: request.origin.clone(),
            credentials,
            scope: match reach.private {
                true => Scope::Private,
                false => Scope::Public,
            },
        };
        let outgoing = Outgoing {
            method,
            origin: request.origin,
            path,
            headers,
            body: Bytes::from(request.body),
        };
        let needles = self.injected.with(&carried);
        let (answer, connection) = self
            .exchange(&purpose, outgoing, &carried, timeouts, until)
            .await?;
        if answer.status().as_u16() == 401 {
            carried.iter().for_each(|one| secrets.refused(one.name()));
        }
        reply(
            answer,
            Source {
                connection: Some(connection),
                pool: Arc::clone(&self.pool),
                purpose,
                ledger: Arc::clone(&self.ledger),
                line,
                needles,
                between_bytes: within(timeouts.between_bytes, self.outbound.clamps.between_bytes),
                until,
                permit: Some(permit),
            },
        )
    }

    /// What may be asked for.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// What was used so far, for the audit trail.
    pub fn used(&self) -> Vec<Use> {
        self.ledger.uses()
    }

    /// What is used of the budget.
    pub fn traffic(&self) -> Traffic {
        self.ledger.traffic()
    }

    /// Takes out of the budget what was used of it before this visit was opened, by the same call.
    pub fn used_before(&self, traffic: Traffic) {
        self.ledger.amend(|all| all.plus(traffic));
    }

    /// Puts it back: it is used anew.
    pub fn give_back(&self, traffic: Traffic) {
        self.ledger.amend(|all| all.less(traffic));
    }

    /// A host that a credential is for is not spoken to in the clear: what it sets there could be read, and what it answers made up.
    fn refuse_plain(&self, request: &Request) -> Result<(), RequestError> {
        let host = request.origin.host();
        let credentialed = self
            .grant
            .credentials()
            .any(|one| one.origin.host() == host);
        match request.origin.scheme() {
            Scheme::Http if credentialed => Err(InvalidRequest::PlainHttp.into()),
            Scheme::Http | Scheme::Https => Ok(()),
        }
    }

    /// Looks for every secret that was given out, in all that the guest wrote; before one is put in.
    fn refuse_secrets(&self, request: &Request) -> Result<(), RequestError> {
        let needles = self.outbound.live.exactly(self.outbound.secrets.known());
        if needles.is_empty() {
            return Ok(());
        }
        let holds = |text: &[u8]| needles.are_in(text);
        let host = match request.origin.host() {
            HostName::Name(name) => holds(name.as_bytes()),
            HostName::V4(_) | HostName::V6(_) => false,
        };
        let headers = &mut request.headers.iter();
        if host
            || holds(request.path_and_query.as_bytes())
            || headers.any(|(name, value)| holds(name.as_bytes()) || holds(value))
            || holds(&request.body)
        {
            return Err(InvalidRequest::HoldsSecret.into());
        }
        Ok(())
    }

    fn refuse_unheld(&self) -> Result<(), RequestError> {
        match &self.held {
            Some(held) if !held() => Err(RequestError::NotHeld),
            _ => Ok(()),
        }
    }

    /// Asks over a connection that is there, or a new one when there is none or it was closed meanwhile.
    async fn exchange(
        &self,
        purpose: &Purpose,
        mut outgoing: Outgoing,
        carried: &[Carried],
        timeouts: Timeouts,
        until: Instant,
    ) -> Result<(http::Response<Incoming>, Connection), RequestError> {
        let clamps = self.outbound.clamps;
        let kept = self.pool.take(purpose);
        let is_kept = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect(purpose, timeouts, until).await?,
        };
        for one in carried {
            one.inject(&mut outgoing.headers)?;
        }
        let wait = within(timeouts.first_byte, clamps.first_byte);
        self.refuse_unheld()?;
        let mut answer = ask(&mut connection, outgoing.clone(), wait, until).await;
        if is_kept && matches!(answer, Err(Failed::Unsent)) {
            connection = self.connect(purpose, timeouts, until).await?;
            self.refuse_unheld()?;
            answer = ask(&mut connection, outgoing, wait, until).await;
        }
        match answer {
            Ok(answer) => Ok((answer, connection)),
            Err(Failed::Unsent) => Err(RequestError::BrokeOff),
            Err(Failed::Sent(error)) => Err(error),
        }
    }

    async fn connect(
        &self,
        purpose: &Purpose,
        timeouts: Timeouts,
        until: Instant,
    ) -> Result<Connection, RequestError> {
        let outbound = &self.outbound;
        self.ledger.look_up(purpose.origin.host())?;
        let wait = within(timeouts.connect, outbound.clamps.connect);
        let until = until.min(Instant::now() + wait);
        let stream = dial(
            &*outbound.resolver,
            &outbound.tls,
            &purpose.origin,
            purpose.scope,
            until,
        )
        .await?;
        let connection = timeout_at(until, Connection::open(stream))
            .await
            .map_err(|_| RequestError::TimedOut)??;
        self.pool.offer(purpose, &connection);
        Ok(connection)
    }
}

async fn ask(
    connection: &mut Connection,
    outgoing: Outgoing,
    wait: std::time::Duration,
    until: Instant,
) -> Result<http::Response<Incoming>, Failed> {
    timeout_at(until.min(Instant::now() + wait), connection.ask(outgoing))
        .await
        .unwrap_or(Err(Failed::Sent(RequestError::TimedOut)))
}

/// A method is sent as it was checked: in upper case, and none that is for proxies.
fn method(text: &str) -> Result<Method, InvalidRequest> {
    let plain = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    match text {
        "CONNECT" | "TRACE" | "TRACK" | "PRI" => Err(InvalidRequest::Method),
        _ if !plain => Err(InvalidRequest::Method),
        _ => Method::from_bytes(text.as_bytes()).map_err(|_| InvalidRequest::Method),
    }
}

/// A path is sent as it was checked: byte for byte.
fn path(text: &str) -> Result<PathAndQuery, RequestError> {
    if text.len() > PATH_BYTES_MAX {
        return Err(RequestError::TooLarge);
    }
    let plain = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    PathAndQuery::try_from(text)
        .ok()
        .filter(|path| plain && path.as_str() == text)
        .ok_or(InvalidRequest::Path.into())
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbound")
    }
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Visit")
    }
}
