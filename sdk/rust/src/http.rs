//! Requests to the hosts that `skill.toml` declares under `[[network]]`, over `wasi:http`.
//!
//! ```ignore
//! let event = moat_sdk::http::get("https://sentry.example.com/api/0/events/7/")?.text()?;
//! ```
//!
//! Credentials are the host's to add: a skill neither sees nor sends them. Redirects are not followed: the answer is given as it is, and where it
//! points to may be asked for like anything else. An answer with an error status is an answer.

use std::fmt;
use std::time::Duration;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// Asks for a URL.
pub fn get(url: &str) -> Result<Response, Error> {
    Request::new("GET", url).send()
}

/// Sends a body to a URL.
pub fn post(url: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Result<Response, Error> {
    let request = Request::new("POST", url).header("content-type", content_type);
    request.body(body).send()
}

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    timeout: Option<Duration>,
}

impl Request {
    /// A request without headers and body. `url` is absolute: `https://host/path?query`.
    pub fn new(method: &str, url: &str) -> Request {
        Request {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: None,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// The longest wait for each part of the answer: connection, first byte, next bytes. Without it, the host's own.
    pub fn timeout(mut self, timeout: Duration) -> Request {
        self.timeout = Some(timeout);
        self
    }

    /// Sends it and waits for the answer's head.
    pub fn send(self) -> Result<Response, Error> {
        let fields = Fields::from_list(&self.headers).map_err(|_| Error::InvalidHeader)?;
        let request = OutgoingRequest::new(fields);
        let (scheme, authority, path) = split(&self.url).ok_or(Error::InvalidUrl)?;
        let set = request
            .set_scheme(Some(&scheme))
            .and_then(|()| request.set_authority(Some(authority)))
            .and_then(|()| request.set_path_with_query(Some(&path)));
        set.map_err(|()| Error::InvalidUrl)?;
        let method = request.set_method(&method(&self.method));
        method.map_err(|()| Error::Denied)?;
        let body = if self.body.is_empty() {
            None
        } else {
            Some(request.body().map_err(|()| Error::InvalidHeader)?)
        };
        let answer = handle(request, self.timeout.map(options))?;
        if let Some(body) = body {
            // What stops the writing is told by the answer.
            write(body, &self.body);
        }
        answer.subscribe().block();
        let response = answer.get().ok_or(Error::Failed)?;
        let response = response.map_err(|()| Error::Failed)??;
        let headers = response.headers().entries();
        let body = response.consume().map_err(|()| Error::Failed)?;
        let stream = body.stream().map_err(|()| Error::Failed)?;
        Ok(Response {
            status: response.status(),
            headers,
            stream,
            _body: body,
        })
    }
}

/// An answer. Its body is read when it is asked for.
#[derive(Debug)]
pub struct Response {
    /// Three digits.
    pub status: u16,
    /// In order; names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    // Before the body, of which it is a part: fields are dropped in order.
    stream: InputStream,
    _body: IncomingBody,
}

impl Response {
    /// Whether the status is one of success (200 to 299).
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header of a name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |one: &&(String, Vec<u8>)| one.0.eq_ignore_ascii_case(name);
        let (_, value) = self.headers.iter().find(named)?;
        std::str::from_utf8(value).ok()
    }

    /// Waits for the next bytes of the body; none at its end.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            match self.stream.blocking_read(CHUNK_BYTES) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(Some(bytes)),
                Err(StreamError::Closed) => return Ok(None),
                Err(StreamError::LastOperationFailed(error)) => {
                    let code = wasip2::http::types::http_error_code(&error);
                    return Err(code.map_or(Error::BrokeOff, Error::from));
                }
            }
        }
    }

    /// Reads the body to its end.
    pub fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(bytes) = self.chunk()? {
            all.extend(bytes);
        }
        Ok(all)
    }

    /// Reads the body to its end, as text; what is no UTF-8 is replaced.
    pub fn text(self) -> Result<String, Error> {
        let bytes = self.bytes()?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Why there is no answer, or no more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Not granted; moat tells the line that would allow it, to you and not to the skill.
    Denied,
    /// The URL is not absolute, too long, or can be read in more than one way.
    InvalidUrl,
    /// A header has no valid form, is the host's to write, or there are too many.
    InvalidHeader,
    /// A limit of the call is used up: requests, answers open at one time, or bytes.
    OutOfBudget,
    /// The name leads to an address that is not granted.
    AddressRefused,
    /// The name leads nowhere.
    NoSuchName,
    /// Nobody answers there.
    Unreachable,
    /// No trustworthy TLS.
    Tls,
    /// It took too long.
    TimedOut,
    /// The answer broke off, or was withheld.
    BrokeOff,
    /// A credential that is granted is not at hand on this machine.
    NotConfigured,
    /// It failed in another way.
    Failed,
}

impl Error {
    /// Whether the same request may succeed later.
    pub fn may_pass(self) -> bool {
        matches!(
            self,
            Error::NoSuchName | Error::Unreachable | Error::TimedOut | Error::BrokeOff
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Denied => "the request is not granted",
            Error::InvalidUrl => "the URL is not valid",
            Error::InvalidHeader => "a header is not valid",
            Error::OutOfBudget => "the call has no requests or bytes left",
            Error::AddressRefused => "the host's address is not granted",
            Error::NoSuchName => "there is no such host",
            Error::Unreachable => "the host does not answer",
            Error::Tls => "the host cannot be trusted",
            Error::TimedOut => "the host took too long",
            Error::BrokeOff => "the answer broke off",
            Error::NotConfigured => "a credential is not at hand",
            Error::Failed => "the request failed",
        })
    }
}

impl std::error::Error for Error {}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Error {
        match code {
            ErrorCode::HttpRequestDenied | ErrorCode::HttpRequestMethodInvalid => Error::Denied,
            ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestUriTooLong => {
                Error::InvalidUrl
            }
            ErrorCode::HttpRequestHeaderSectionSize(_) | ErrorCode::HttpRequestHeaderSize(_) => {
                Error::InvalidHeader
            }
            ErrorCode::ConnectionLimitReached
            | ErrorCode::HttpRequestBodySize(_)
            | ErrorCode::HttpResponseBodySize(_) => Error::OutOfBudget,
            ErrorCode::DestinationIpProhibited => Error::AddressRefused,
            ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => Error::NoSuchName,
            ErrorCode::DestinationUnavailable | ErrorCode::ConnectionRefused => Error::Unreachable,
            ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError => Error::Tls,
            ErrorCode::HttpResponseTimeout
            | ErrorCode::ConnectionTimeout
            | ErrorCode::DnsTimeout => Error::TimedOut,
            ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete => Error::BrokeOff,
            ErrorCode::ConfigurationError => Error::NotConfigured,
            _ => Error::Failed,
        }
    }
}

/// What is asked for in one go; less may come.
const CHUNK_BYTES: u64 = 64 << 10;

/// What WASI lets a guest write without asking first.
const WRITE_BYTES: usize = 4096;

/// Scheme, authority and path with query of an absolute URL; what follows `#` is not sent.
fn split(url: &str) -> Option<(Scheme, &str, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = match scheme {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return None,
    };
    let rest = rest.split('#').next().unwrap_or(rest);
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    Some((scheme, authority, path))
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn options(timeout: Duration) -> RequestOptions {
    let options = RequestOptions::new();
    let nanos = Some(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    // Refused only by hosts without such timeouts.
    let _ = options.set_connect_timeout(nanos);
    let _ = options.set_first_byte_timeout(nanos);
    let _ = options.set_between_bytes_timeout(nanos);
    options
}

fn write(body: OutgoingBody, bytes: &[u8]) {
    let Ok(stream) = body.write() else { return };
    let all = |stream: &OutputStream| {
        let mut pieces = bytes.chunks(WRITE_BYTES);
        pieces.try_for_each(|piece| stream.blocking_write_and_flush(piece))
    };
    let written = all(&stream);
    drop(stream);
    if written.is_ok() {
        let _ = OutgoingBody::finish(body, None);
    }
}
