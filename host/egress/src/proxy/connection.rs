//! One connection of a command: requests in the clear for http, and `CONNECT`, behind which TLS ends here.

use std::time::Duration;

use capability::Denial;
use capability::denial::Capability;
use capability::origin::{HostName, Origin, Scheme};
use rustls::server::{Acceptor, ClientHello};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::proxy::Inner;
use crate::proxy::answer::{pass_on, refuse};
use crate::proxy::head::{Framing, Head};
use crate::proxy::refusal::{DENIED, MALFORMED, NOT_ONE_HOST, Refusal};
use crate::proxy::target::{absolute, authority};
use crate::proxy::wire::{Unread, Wire};
use crate::request::{Request, Timeouts};

/// Both ends are on one machine.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What becomes of a connection after a request.
enum After {
    More,
    End,
    /// Broken: nothing that is written now would be understood.
    Drop,
    /// `CONNECT`, answered by nobody yet.
    Tunnel(Origin),
}

/// Serves a connection to its end.
pub(crate) async fn serve(inner: &Inner, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(stream);
    match requests(inner, &mut wire, None).await {
        After::Tunnel(origin) => tunnel(inner, wire, origin).await,
        After::More | After::End => wire.end().await,
        After::Drop => {}
    }
}

/// Ends TLS as the host that was asked for, and takes requests for that host alone.
async fn tunnel(inner: &Inner, mut wire: Wire<TcpStream>, origin: Origin) {
    let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
    if wire.write(established).await.is_err() {
        return;
    }
    // Who speaks before the answer has something else in mind than TLS with whom it asked for.
    let Some(stream) = wire.into_stream() else {
        return;
    };
    let shaken = timeout(HANDSHAKE, handshake(inner, stream, &origin)).await;
    let Ok(Some(stream)) = shaken else {
        return;
    };
    let mut wire = Wire::new(stream);
    match requests(inner, &mut wire, Some(&origin)).await {
        After::More | After::End | After::Tunnel(_) => wire.end().await,
        After::Drop => {}
    }
}

async fn handshake(
    inner: &Inner,
    stream: TcpStream,
    origin: &Origin,
) -> Option<TlsStream<TcpStream>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
        .await
        .ok()?;
    if !is_for(&start.client_hello(), origin.host()) {
        inner.deny(not_one_host(origin, "TLS"));
        return None;
    }
    let config = inner.authority.tls_for(origin.host()).ok()?;
    start.into_stream(config).await.ok()
}

/// Names are told in TLS, addresses are not.
fn is_for(hello: &ClientHello<'_>, host: &HostName) -> bool {
    let told = hello.server_name().map(str::parse::<HostName>);
    match (told, host) {
        (Some(Ok(told)), HostName::Name(_)) => told == *host,
        (None, HostName::V4(_) | HostName::V6(_)) => true,
        _ => false,
    }
}

fn not_one_host(origin: &Origin, what: &str) -> Denial {
    Denial::new(
        Capability::Network,
        format!("{what} for another host over a connection to {origin}"),
        "no line: CONNECT, TLS and Host have to name one host",
    )
}

/// Takes requests until there are no more; `of` is the host of a `CONNECT`.
async fn requests<S>(inner: &Inner, wire: &mut Wire<S>, of: Option<&Origin>) -> After
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let head = match wire.head().await {
            Ok(Some(head)) => head,
            Ok(None) | Err(_) => return After::Drop,
        };
        let after = match head.and_then(|head| addressed(inner, head, of)) {
            Ok((head, Addressed::Tunnel(origin))) => match begins(inner, &head, &origin) {
                Ok(()) => After::Tunnel(origin),
                Err(refusal) => tell(wire, refusal).await,
            },
            Ok((head, Addressed::Request(origin, path))) => {
                exchange(inner, wire, head, origin, path).await
            }
            Err(refusal) => tell(wire, refusal).await,
        };
        if !matches!(after, After::More) {
            return after;
        }
    }
}

/// Where a request goes.
enum Addressed {
    Tunnel(Origin),
    Request(Origin, String),
}

/// Reads the request's target, once: a path within TLS, `http://…` or `host:port` outside of it.
fn addressed(inner: &Inner, head: Head, of: Option<&Origin>) -> Result<(Head, Addressed), Refusal> {
    let to = match of {
        Some(origin) if head.target.starts_with('/') => {
            Addressed::Request(origin.clone(), head.target.clone())
        }
        Some(_) => return Err(MALFORMED),
        None if head.method == "CONNECT" => Addressed::Tunnel(authority(&head.target)?),
        None => {
            let (origin, path) = absolute(&head.target)?;
            Addressed::Request(origin, path)
        }
    };
    let (Addressed::Tunnel(origin) | Addressed::Request(origin, _)) = &to;
    // HTTP/1.1 has a Host everywhere; clients that leave it out of CONNECT are known.
    let without = matches!(to, Addressed::Tunnel(_)) && !head.has("host");
    if !without && !head.is_for(origin) {
        inner.deny(not_one_host(origin, "Host"));
        return Err(NOT_ONE_HOST);
    }
    Ok((head, to))
}

/// A connection to a host that no rule is about is not begun. What is asked over it is judged request by request.
fn begins(inner: &Inner, head: &Head, origin: &Origin) -> Result<(), Refusal> {
    if head.framing != Framing::Length(0) {
        return Err(MALFORMED);
    }
    let grant = inner.visit.grant();
    let mut rules = grant.network().filter(|rule| rule.scheme == Scheme::Https);
    if rules.any(|rule| rule.reaches(origin)) {
        return Ok(());
    }
    if let Err(denial) = grant.may_request(origin, "GET", "/") {
        inner.deny(denial);
    }
    Err(DENIED)
}

/// One request and its answer.
async fn exchange<S>(
    inner: &Inner,
    wire: &mut Wire<S>,
    head: Head,
    origin: Origin,
    path_and_query: String,
) -> After
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Asked here as well, so that a body that leads nowhere is not waited for.
    let path = path_and_query.split('?').next().unwrap_or_default();
    if let Err(denial) = inner.visit.grant().may_request(&origin, &head.method, path) {
        inner.deny(denial);
        return tell(wire, DENIED).await;
    }
    let room = match head.framing {
        Framing::Length(length) => u32::try_from(length).unwrap_or(u32::MAX),
        Framing::Chunked => inner.bodies_max,
    };
    let Ok(_room) = inner.bodies.acquire_many(room.min(inner.bodies_max)).await else {
        return After::Drop;
    };
    if head.expects
        && head.framing != Framing::Length(0)
        && room <= inner.bodies_max
        && wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err()
    {
        return After::Drop;
    }
    let body = match wire.body(head.framing, inner.bodies_max).await {
        Ok(body) => body,
        Err(Unread::Refused(refusal)) => return tell(wire, refusal).await,
        Err(Unread::Gone) => return After::Drop,
    };
    let asked = origin.clone();
    let request = Request {
        method: head.method.clone(),
        origin,
        path_and_query,
        headers: head.for_host(),
        body,
        timeouts: Timeouts::default(),
    };
    let reply = match inner.visit.send(request).await {
        Ok(reply) => reply,
        Err(error) => {
            let refusal = Refusal::from(&error);
            if let Some(denial) = error.refused(&asked) {
                inner.deny(denial);
            }
            return tell(wire, refusal).await;
        }
    };
    match pass_on(wire, &head.method, reply, head.last).await {
        Ok(()) if head.last => After::End,
        Ok(()) => After::More,
        Err(_) => After::Drop,
    }
}

async fn tell<S>(wire: &mut Wire<S>, refusal: Refusal) -> After
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match refuse(wire, refusal).await {
        Ok(()) => After::End,
        Err(_) => After::Drop,
    }
}
