//! A guest's requests: collected here, where there is no network, and sent by the broker, which asks the grant.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use capability::header::Header;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wasmtime_wasi_http::{
    Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView,
    WasiHttpHooks, WasiHttpView,
};

use crate::message::HostCall;
use crate::message::http::{Asked, BODY_BYTES_MAX, Field, Head, HttpError, INTERFACE, Piece};
use crate::worker::link::Guest;
use crate::worker::{Account, Broker};

/// Headers of one message as the engine counts them, with what each costs in memory. The broker takes less; beyond this a guest is ended.
const FIELD_BYTES_MAX: usize = 64 << 10;

/// What a guest may write to a body in one go. Two of them wait in the worker for each request that is not sent yet.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// What a store holds for requests.
pub(crate) struct Http {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

impl Http {
    /// For one call, which may send so many bytes of bodies.
    pub(crate) fn new(broker: Broker, account: Account, sent_bytes: u64) -> Http {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELD_BYTES_MAX);
        let call = Arc::new(Call {
            broker,
            account,
            dropped: Mutex::default(),
            left_bytes: AtomicU64::new(sent_bytes),
        });
        Http {
            ctx,
            hooks: Hooks(call),
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.http.hooks,
            table: &mut self.table,
            ctx: &mut self.http.ctx,
        }
    }
}

struct Hooks(Arc<Call>);

type Sent = Result<(Response<WasiBody>, Finished), Error>;
type Finished = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    // Not `is_forbidden_header`, which does not see trailers.
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name| Header::of(name.as_str()).is_hosts())
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _answered: Finished,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let call = self.0.clone();
        let lane = call.account.open_lane();
        Box::new(async move {
            let asked = collect(&call, request, options.unwrap_or_default()).await?;
            let answer = call.handle(lane, asked)?;
            let finished: Finished = Box::new(std::future::ready(Ok(())));
            Ok((answer.map(|body| body.boxed_unsync()), finished))
        })
    }
}

/// Reads a request to its end: the broker sends whole ones only.
async fn collect(
    call: &Call,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Asked, Error> {
    let (parts, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                call.take(bytes.len(), data.len())?;
                bytes.extend_from_slice(&data);
            }
            // Trailers are not sent on, and must not be lost in silence.
            Err(frame) if frame.trailers_ref().is_some_and(|map| !map.is_empty()) => {
                return Err(Error::HttpRequestTrailerSectionSize(Some(0)));
            }
            Err(_) => {}
        }
    }
    let mut headers = parts.headers;
    if let Some(told) = headers.remove(http::header::CONTENT_LENGTH)
        && told.to_str().ok().and_then(|told| told.parse().ok()) != Some(bytes.len())
    {
        return Err(Error::HttpRequestBodySize(Some(bytes.len() as u64)));
    }
    let uri = parts.uri;
    let ms = |wait: Option<Duration>| {
        wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    };
    Ok(Asked {
        method: parts.method.to_string(),
        scheme: uri.scheme_str().unwrap_or_default().to_owned(),
        authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
        path_with_query: uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        headers: headers
            .iter()
            .map(|(name, value)| Field {
                name: name.as_str().to_owned(),
                value: value.as_bytes().to_owned(),
            })
            .collect(),
        body: bytes,
        connect_timeout_ms: ms(options.connect_timeout),
        first_byte_timeout_ms: ms(options.first_byte_timeout),
        between_bytes_timeout_ms: ms(options.between_bytes_timeout),
    })
}

/// What the requests and bodies of one call share.
struct Call {
    broker: Broker,
    account: Account,
    /// Bodies that nobody will read, to be told with whatever is asked next.
    dropped: Mutex<Vec<u64>>,
    left_bytes: AtomicU64,
}

impl Call {
    /// Takes from what the call may send, and from what one request may.
    fn take(&self, had: usize, more: usize) -> Result<(), Error> {
        let (had, more) = (had as u64, more as u64);
        let left = |left: u64| left.checked_sub(more);
        let taken = self
            .left_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        if taken.is_err() || had + more > BODY_BYTES_MAX {
            return Err(Error::HttpRequestBodySize(None));
        }
        Ok(())
    }

    fn handle(self: &Arc<Call>, lane: u32, asked: Asked) -> Result<Response<Incoming>, Error> {
        let asked = serde_json::to_value(asked).map_err(|_| Error::InternalError(None))?;
        let head: Head = read(self.ask(lane, "handle", asked)?)?;
        // Before anything can fail: what is not taken from here is dropped, and so given up.
        let mut response = Response::new(Incoming {
            call: self.clone(),
            lane: Some(lane),
        });
        let status = http::StatusCode::from_u16(head.status);
        *response.status_mut() = status.map_err(|_| Error::HttpProtocolError)?;
        *response.headers_mut() = header_map(head.headers);
        Ok(response)
    }

    /// Asks the broker, and waits on the guest's own thread, which has nothing else to do: see [`Tasks`](crate::worker::waits::Tasks).
    fn ask(&self, lane: u32, function: &'static str, what: Value) -> Result<Value, Error> {
        let dropped = std::mem::take(&mut *self.dropped());
        let asked = HostCall {
            lane,
            ..HostCall::new(INTERFACE, function, vec![what, json!(dropped)])
        };
        let answer = self.broker.ask(&self.account, asked);
        answer.map_err(|_| Error::InternalError(None))
    }

    fn dropped(&self) -> MutexGuard<'_, Vec<u64>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the broker's WIT result.
fn read<T: DeserializeOwned>(mut answer: Value) -> Result<T, Error> {
    if let Some(value) = answer.get_mut("ok") {
        return serde_json::from_value(value.take()).map_err(|_| Error::InternalError(None));
    }
    let error: Result<HttpError, _> = serde_json::from_value(answer["err"].take());
    Err(error.map_or(Error::InternalError(None), told))
}

/// The body of an answer, read piece by piece as the guest asks for it.
struct Incoming {
    call: Arc<Call>,
    /// That of its request, by which it is read; none once it has ended.
    lane: Option<u32>,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(lane) = self.lane else {
            return Poll::Ready(None);
        };
        let piece = self.call.ask(lane, "read-body", json!(lane)).and_then(read);
        if !matches!(piece, Ok(Piece::Bytes(_))) {
            self.lane = None;
        }
        Poll::Ready(match piece {
            Ok(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes.into()))),
            Ok(Piece::End(trailers)) if trailers.is_empty() => None,
            Ok(Piece::End(trailers)) => Some(Ok(Frame::trailers(header_map(trailers)))),
            Err(error) => Some(Err(error)),
        })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(lane) = self.lane {
            self.call.dropped().push(u64::from(lane));
        }
    }
}

/// What of these is a header; the broker has bounded how many there are.
fn header_map(fields: Vec<Field>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&field.value)) {
            let _ = map.try_append(name, value);
        }
    }
    map
}

/// The case of WASI that says the same, without words.
fn told(error: HttpError) -> Error {
    match error {
        HttpError::Denied => Error::HttpRequestDenied,
        HttpError::UriInvalid => Error::HttpRequestUriInvalid,
        HttpError::UriTooLong => Error::HttpRequestUriTooLong,
        HttpError::HeadersTooLarge => Error::HttpRequestHeaderSectionSize(None),
        HttpError::BodyTooLarge => Error::HttpRequestBodySize(None),
        HttpError::OutOfBudget => Error::ConnectionLimitReached,
        HttpError::AddressRefused => Error::DestinationIpProhibited,
        HttpError::NoSuchName => Error::DnsError {
            rcode: None,
            info_code: None,
        },
        HttpError::Unreachable => Error::DestinationUnavailable,
        HttpError::Tls => Error::TlsProtocolError,
        HttpError::TimedOut => Error::HttpResponseTimeout,
        HttpError::HeadTooLarge => Error::HttpResponseHeaderSectionSize(None),
        HttpError::TooLarge => Error::HttpResponseBodySize(None),
        HttpError::BrokeOff => Error::ConnectionTerminated,
        HttpError::Withheld => Error::HttpResponseIncomplete,
        HttpError::NotConfigured => Error::ConfigurationError,
        HttpError::Invalid => Error::HttpProtocolError,
    }
}
