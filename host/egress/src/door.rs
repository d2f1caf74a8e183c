//! Calls to one configured service: its origin, its credential, its connections; nothing of them is shared with another.
//!
//! What a service answers to a [`Door::post`] is for prompts and logs: the credential is taken out of it, in every spelling that guests' answers
//! are looked through for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{HeaderName, HeaderValue};

use crate::endpoint::Endpoint;
use crate::error::EgressError;
use crate::scrub::{Needles, Scrubber};
use crate::secret::Secret;

/// A host that does not take a connection by then is down.
const CONNECT: Duration = Duration::from_secs(10);

/// Services that stream say something (an event or a ping) far more often.
const SILENCE: Duration = Duration::from_secs(180);

/// A slow model on a small machine writes its longest answer in less; a service that drips for ever is broken.
const WHOLE: Duration = Duration::from_secs(3600);

/// The longest answer of a model has some hundred kilobytes.
const BODY_BYTES_MAX: usize = 64 << 20;

/// A credential and the header that carries it.
#[derive(Debug)]
pub struct Credential {
    name: HeaderName,
    value: HeaderValue,
    needles: Arc<Needles>,
}

impl Credential {
    /// Puts a secret into a header: `format` has `{}` where the secret stands, such as `Bearer {}`.
    ///
    /// # Errors
    /// [`EgressError::Setup`] when the header's name or format is none.
    pub fn new(header: &str, format: &str, secret: &Secret) -> Result<Credential, EgressError> {
        let setup = |why: &str| EgressError::Setup { why: why.into() };
        let name = HeaderName::from_bytes(header.as_bytes())
            .map_err(|_| setup("the credential's header has no valid name"))?;
        let value = secret.header(format).map_err(setup)?;
        Ok(Credential {
            name,
            value,
            needles: Arc::new(Needles::new([secret])),
        })
    }
}

/// The way to one service.
#[derive(Debug)]
pub struct Door {
    client: reqwest::Client,
    endpoint: Endpoint,
    credential: Option<Credential>,
    limits: Limits,
}

/// The beginning of an answer, with the rest to come.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// What the service asks to wait before the next call, if it says so in seconds.
    pub retry_after: Option<Duration>,
    /// The rest.
    pub body: Body,
}

/// An answer's body as it arrives.
#[derive(Debug)]
pub struct Body {
    response: reqwest::Response,
    scrubber: Scrubber,
    ended: bool,
    taken: usize,
    limits: Limits,
    until: Instant,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    silence: Duration,
    whole: Duration,
}

const LIMITS: Limits = Limits {
    silence: SILENCE,
    whole: WHOLE,
};

impl Door {
    /// Opens the way. `authorities` is a PEM file's text with certificate authorities to trust beside the public ones.
    ///
    /// # Errors
    /// [`EgressError::Setup`].
    pub fn open(
        endpoint: Endpoint,
        credential: Option<Credential>,
        authorities: Option<&[u8]>,
    ) -> Result<Door, EgressError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(crate::tls::config(authorities)?)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT)
            .user_agent(concat!("moat/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| EgressError::Setup {
                why: error.without_url().to_string(),
            })?;
        Ok(Door {
            client,
            endpoint,
            credential,
            limits: LIMITS,
        })
    }

    /// Posts JSON to a path below the endpoint. Headers and path are the program's own.
    ///
    /// # Errors
    /// [`EgressError`] when no answer begins; an answer of any status is an answer.
    pub async fn post(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
    ) -> Result<Response, EgressError> {
        let request = self
            .client
            .post(self.endpoint.join(path))
            .header("content-type", "application/json")
            .body(body);
        self.send(request, headers, self.needles()).await
    }

    /// Gets a path below the endpoint. Headers and path are the program's own, or its owner's. The answer is as it came: a store's answer is a
    /// secret itself, which is shown to nobody and copied nowhere.
    ///
    /// # Errors
    /// [`EgressError`] when no answer begins; an answer of any status is an answer.
    pub(crate) async fn get(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Response, EgressError> {
        let request = self.client.get(self.endpoint.join(path));
        self.send(request, headers, Needles::nothing()).await
    }

    async fn send(
        &self,
        mut request: reqwest::RequestBuilder,
        headers: &[(&'static str, &str)],
        needles: Arc<Needles>,
    ) -> Result<Response, EgressError> {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(credential) = &self.credential {
            request = request.header(&credential.name, &credential.value);
        }
        let until = Instant::now() + self.limits.whole;
        let response = within(self.limits.silence, request.send())
            .await?
            .map_err(unanswered)?;
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse::<u32>().ok())
            .map(|seconds| Duration::from_secs(u64::from(seconds)));
        Ok(Response {
            status: response.status().as_u16(),
            retry_after,
            body: Body {
                response,
                scrubber: Scrubber::new(needles),
                ended: false,
                taken: 0,
                limits: self.limits,
                until,
            },
        })
    }

    /// Takes this door's secret out of a text that was put together from what came back: in pieces, it passed.
    pub fn scrub(&self, text: &str) -> String {
        self.needles().scrub(text)
    }

    fn needles(&self) -> Arc<Needles> {
        let credential = self.credential.as_ref();
        credential.map_or_else(Needles::nothing, |one| Arc::clone(&one.needles))
    }
}

impl Body {
    /// The next bytes, never none; `None` at the end.
    ///
    /// # Errors
    /// [`EgressError::TimedOut`], [`EgressError::Endless`], [`EgressError::BrokeOff`], [`EgressError::TooLarge`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, EgressError> {
        while !self.ended {
            let bytes = match self.received().await? {
                Some(bytes) => self.scrubber.replace(bytes),
                None => {
                    self.ended = true;
                    self.scrubber.finish()
                }
            };
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The next bytes as they came.
    async fn received(&mut self) -> Result<Option<Bytes>, EgressError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(EgressError::Endless {
                seconds: self.limits.whole.as_secs(),
            });
        }
        let chunk = within(self.limits.silence, self.response.chunk())
            .await?
            .map_err(|error| EgressError::BrokeOff {
                why: root_cause(&error.without_url()),
            })?;
        if let Some(bytes) = &chunk {
            self.taken = self.taken.saturating_add(bytes.len());
            if self.taken > BODY_BYTES_MAX {
                return Err(EgressError::TooLarge {
                    bytes_max: BODY_BYTES_MAX,
                });
            }
        }
        Ok(chunk)
    }

    /// The first `bytes_max` bytes of what is left, as text; what cannot be read is left out.
    pub async fn beginning(mut self, bytes_max: usize) -> String {
        let mut bytes = Vec::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            bytes.extend_from_slice(&chunk);
            if bytes.len() >= bytes_max {
                bytes.truncate(bytes_max);
                break;
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, EgressError> {
    tokio::time::timeout(limit, future)
        .await
        .map_err(|_| EgressError::TimedOut {
            seconds: limit.as_secs(),
        })
}

/// Who was never connected to has seen nothing of the request; others may have.
fn unanswered(error: reqwest::Error) -> EgressError {
    let connected = !error.is_connect() && !error.is_builder();
    let why = root_cause(&error.without_url());
    match connected {
        true => EgressError::BrokeOff { why },
        false => EgressError::Unreachable { why },
    }
}

/// The innermost cause says what happened; the outer ones only where.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::endpoint::PlainHttp;

    /// A door to a service that begins its answer as `head` has it and then writes a byte every few milliseconds.
    fn dripping(head: &'static [u8], limits: Limits) -> Door {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(head);
            while !head.is_empty() && stream.write_all(b":").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}"), PlainHttp::Refused);
        let mut door = Door::open(endpoint.unwrap(), None, None).unwrap();
        door.limits = limits;
        door
    }

    #[tokio::test]
    async fn an_answer_that_drips_for_ever_ends() {
        let limits = Limits {
            silence: Duration::from_secs(60),
            whole: Duration::from_millis(300),
        };
        let door = dripping(b"HTTP/1.1 200 OK\r\n\r\n", limits);
        let mut body = door.post("x", &[], vec![]).await.unwrap().body;
        let error = loop {
            match body.chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => unreachable!("it never ends"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, EgressError::Endless { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_service_that_took_the_request_is_not_unreachable() {
        let door = dripping(b"", LIMITS);
        let error = door.post("x", &[], vec![]).await.unwrap_err();
        assert!(matches!(error, EgressError::BrokeOff { .. }), "{error}");
        let error = door.post("x", &[], vec![]).await.unwrap_err();
        assert!(matches!(error, EgressError::Unreachable { .. }), "{error}");
    }
}
