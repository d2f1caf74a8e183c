//! Answers: filtered, counted, and looked through for secrets before a guest gets any of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capability::header::Size;
use http::header::{self, HeaderMap};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use crate::connection::{Connection, Pool, Purpose};
use crate::headers::{incoming, incoming_trailers};
use crate::request::RequestError;
use crate::scrub::{Needles, Scrubber};
use crate::used::{Ledger, Line};

/// An answer's beginning.
#[derive(Debug)]
pub struct Reply {
    /// The status, from 200 on.
    pub status: u16,
    /// The headers that are a guest's to see.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The rest.
    pub body: ReplyBody,
}

/// An answer's body as it arrives.
pub struct ReplyBody {
    incoming: Option<Incoming>,
    scrubber: Scrubber,
    source: Source,
    trailers: Vec<(String, Vec<u8>)>,
    /// Set once; nothing more is given after it.
    error: Option<RequestError>,
}

/// Where an answer comes from, and what it is held to.
pub(crate) struct Source {
    pub(crate) connection: Option<Connection>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) purpose: Purpose,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) line: Line,
    pub(crate) needles: Arc<Needles>,
    pub(crate) between_bytes: Duration,
    pub(crate) until: Instant,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// Judges the beginning of an answer.
///
/// # Errors
/// [`RequestError`].
pub(crate) fn reply(
    answer: http::Response<Incoming>,
    source: Source,
) -> Result<Reply, RequestError> {
    let (parts, body) = answer.into_parts();
    let status = parts.status.as_u16();
    source
        .ledger
        .receive(source.line, bounded(&parts.headers)?)?;
    if status < 200 || has_strange_framing(&parts.headers) {
        return Err(RequestError::BrokeOff);
    }
    let is_encoded = parts
        .headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if is_encoded && !source.purpose.credentials.is_empty() {
        return Err(RequestError::Encoded);
    }
    if !source.ledger.has_room_for(body.size_hint().lower()) {
        return Err(RequestError::OutOfBudget);
    }
    let headers = incoming(&parts.headers, &source.purpose.origin);
    without_secrets(&headers, &source.needles)?;
    Ok(Reply {
        status,
        headers,
        body: ReplyBody {
            incoming: Some(body),
            scrubber: Scrubber::new(Arc::clone(&source.needles)),
            source,
            trailers: vec![],
            error: None,
        },
    })
}

impl ReplyBody {
    /// The next bytes, never none; `None` at the end.
    ///
    /// # Errors
    /// [`RequestError`]; the same again when it is asked again.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RequestError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let chunk = self.next().await;
        if let Err(error) = &chunk {
            self.error = Some(error.clone());
            self.incoming = None;
            self.source.connection = None;
            self.source.permit = None;
        }
        chunk
    }

    /// The trailers that are a guest's to see; none before the end.
    pub fn trailers(&self) -> &[(String, Vec<u8>)] {
        &self.trailers
    }

    async fn next(&mut self) -> Result<Option<Bytes>, RequestError> {
        loop {
            let Some(incoming) = &mut self.incoming else {
                return Ok(None);
            };
            let until = self
                .source
                .until
                .min(Instant::now() + self.source.between_bytes);
            let frame = timeout_at(until, incoming.frame())
                .await
                .map_err(|_| RequestError::TimedOut)?;
            let bytes = match frame {
                None => self.end(),
                Some(Ok(frame)) => self.take(frame)?,
                Some(Err(_)) => return Err(RequestError::BrokeOff),
            };
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<Bytes, RequestError> {
        let source = &self.source;
        match frame.into_data() {
            Ok(data) => {
                source.ledger.receive(source.line, data.len())?;
                self.scrubber
                    .pass(data)
                    .map_err(|_| RequestError::SecretEchoed)
            }
            Err(frame) => {
                if let Some(trailers) = frame.trailers_ref() {
                    source.ledger.receive(source.line, bounded(trailers)?)?;
                    let trailers = incoming_trailers(trailers, &source.purpose.origin);
                    without_secrets(&trailers, &source.needles)?;
                    self.trailers = trailers;
                }
                Ok(Bytes::new())
            }
        }
    }

    /// Lets go of everything but the account; the connection can be used again.
    fn end(&mut self) -> Bytes {
        self.incoming = None;
        self.source.permit = None;
        if let Some(connection) = self.source.connection.take() {
            self.source.pool.put_back(&self.source.purpose, connection);
        }
        self.scrubber.finish()
    }
}

/// The bytes of a header section.
fn bounded(headers: &HeaderMap) -> Result<usize, RequestError> {
    let lengths = headers
        .iter()
        .map(|(name, value)| (name.as_str().len(), value.len()));
    let size = Size::of(lengths);
    if !size.fits_an_answer() {
        return Err(RequestError::TooLarge);
    }
    Ok(size.bytes)
}

/// Framing that not everybody reads alike: compressed on the way, or told twice.
fn has_strange_framing(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let strange = codings.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let both = headers.contains_key(header::TRANSFER_ENCODING)
        && headers.contains_key(header::CONTENT_LENGTH);
    strange || both
}

/// A name is as good a place as a value.
fn without_secrets(headers: &[(String, Vec<u8>)], needles: &Needles) -> Result<(), RequestError> {
    let holds = |(name, value): &(String, Vec<u8>)| {
        needles.are_in(name.as_bytes()) || needles.are_in(value)
    };
    if !needles.is_empty() && headers.iter().any(holds) {
        return Err(RequestError::SecretEchoed);
    }
    Ok(())
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyBody")
    }
}
