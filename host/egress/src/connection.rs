//! Connections of one visit: made, asked, kept while they can be used again, and never handed to another visit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use capability::header::{ANSWER_BYTES_MAX, FIELDS_MAX};
use capability::origin::Origin;
use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;

use crate::dial::{Scope, Stream};
use crate::request::{InvalidRequest, RequestError};

/// What a server may send of one answer before anybody reads it; of all answers of a connection twice as much.
const WINDOW_BYTES: u32 = 256 << 10;

/// What a connection is for. Requests that differ in any of it share none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Purpose {
    pub(crate) origin: Origin,
    pub(crate) credentials: Vec<String>,
    pub(crate) scope: Scope,
}

/// A request as it is sent, but for what depends on the connection.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) origin: Origin,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What became of a request without an answer.
pub(crate) enum Failed {
    /// The connection was closed before any of it was sent.
    Unsent,
    /// It may have been seen.
    Sent(RequestError),
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// The task that moves a connection's bytes; it ends with the last who uses the connection.
struct Moving(JoinHandle<()>);

impl Drop for Moving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection, or one user's share of it.
pub(crate) struct Connection {
    sender: Sender,
    moving: Arc<Moving>,
}

impl Connection {
    /// Agrees on HTTP over a connection that stands.
    ///
    /// # Errors
    /// [`RequestError::BrokeOff`].
    pub(crate) async fn open(stream: Stream) -> Result<Connection, RequestError> {
        match stream {
            Stream::Plain(stream) => one(TokioIo::new(stream)).await,
            Stream::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                two(TokioIo::new(*stream)).await
            }
            Stream::Tls(stream) => one(TokioIo::new(*stream)).await,
        }
    }

    /// Sends a request and waits until its answer begins.
    ///
    /// # Errors
    /// [`Failed`].
    pub(crate) async fn ask(&mut self, request: Outgoing) -> Result<Response<Incoming>, Failed> {
        let answer = match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await.map_err(|_| Failed::Unsent)?;
                let request = request.for_one().map_err(Failed::Sent)?;
                sender.try_send_request(request).await
            }
            Sender::Two(sender) => {
                sender.ready().await.map_err(|_| Failed::Unsent)?;
                let request = request.for_two().map_err(Failed::Sent)?;
                sender.try_send_request(request).await
            }
        };
        answer.map_err(failed)
    }

    /// Another user's share, where a connection can have several.
    fn share(&self) -> Option<Connection> {
        match &self.sender {
            Sender::One(_) => None,
            Sender::Two(sender) => Some(Connection {
                sender: Sender::Two(sender.clone()),
                moving: Arc::clone(&self.moving),
            }),
        }
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        }
    }
}

async fn one<S>(stream: TokioIo<S>) -> Result<Connection, RequestError>
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_headers(FIELDS_MAX)
        .max_buf_size(ANSWER_BYTES_MAX)
        .handshake(stream)
        .await
        .map_err(|_| RequestError::BrokeOff)?;
    Ok(Connection {
        sender: Sender::One(sender),
        moving: moved(connection),
    })
}

async fn two<S>(stream: TokioIo<S>) -> Result<Connection, RequestError>
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let list_bytes = u32::try_from(ANSWER_BYTES_MAX).unwrap_or(u32::MAX);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(list_bytes)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .handshake(stream)
        .await
        .map_err(|_| RequestError::BrokeOff)?;
    Ok(Connection {
        sender: Sender::Two(sender),
        moving: moved(connection),
    })
}

/// What goes wrong with a connection is told to whoever waits for an answer.
fn moved<E>(connection: impl Future<Output = Result<(), E>> + Send + 'static) -> Arc<Moving> {
    Arc::new(Moving(tokio::spawn(async {
        let _ = connection.await;
    })))
}

fn failed<T>(error: TrySendError<T>) -> Failed {
    if error.message().is_some() {
        return Failed::Unsent;
    }
    Failed::Sent(RequestError::BrokeOff)
}

impl Outgoing {
    /// HTTP/1.1: the path alone in the first line, and the one `Host`.
    fn for_one(mut self) -> Result<http::Request<Full<Bytes>>, RequestError> {
        let host =
            HeaderValue::from_str(&self.origin.authority()).map_err(|_| InvalidRequest::Header)?;
        self.headers.insert(HOST, host);
        let uri = Uri::from(self.path.clone());
        self.with(uri)
    }

    /// HTTP/2: scheme, authority and path, and no `Host` beside them.
    fn for_two(self) -> Result<http::Request<Full<Bytes>>, RequestError> {
        let uri = Uri::builder()
            .scheme(self.origin.scheme().as_str())
            .authority(self.origin.authority())
            .path_and_query(self.path.clone())
            .build()
            .map_err(|_| InvalidRequest::Path)?;
        self.with(uri)
    }

    fn with(self, uri: Uri) -> Result<http::Request<Full<Bytes>>, RequestError> {
        let mut request = http::Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}

/// Connections that can be used again.
#[derive(Default)]
pub(crate) struct Pool(Mutex<HashMap<Purpose, Vec<Connection>>>);

impl Pool {
    /// One that still stands, as far as anybody knows.
    pub(crate) fn take(&self, purpose: &Purpose) -> Option<Connection> {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pool.get_mut(purpose)?;
        kept.retain(|connection| !connection.is_closed());
        match kept.last()?.share() {
            Some(share) => Some(share),
            None => kept.pop(),
        }
    }

    /// Keeps a connection that was just made, if others can use it at the same time.
    pub(crate) fn offer(&self, purpose: &Purpose, connection: &Connection) {
        if let Some(share) = connection.share() {
            self.keep(purpose, share);
        }
    }

    /// Keeps a connection whose answer was read to its end.
    pub(crate) fn put_back(&self, purpose: &Purpose, connection: Connection) {
        if connection.share().is_none() && !connection.is_closed() {
            self.keep(purpose, connection);
        }
    }

    fn keep(&self, purpose: &Purpose, connection: Connection) {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pool.entry(purpose.clone()).or_default().push(connection);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[tokio::test]
    async fn a_request_on_a_closed_connection_is_known_not_to_have_left() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut connection = Connection::open(Stream::Plain(stream)).await.unwrap();
        drop(listener.accept().await.unwrap());
        while !connection.is_closed() {
            tokio::task::yield_now().await;
        }
        let request = Outgoing {
            method: Method::POST,
            origin: Origin::parse("http", "api.test").unwrap(),
            path: PathAndQuery::from_static("/"),
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"once"),
        };
        let answer = connection.ask(request).await;
        assert!(matches!(answer, Err(Failed::Unsent)));
    }
}
