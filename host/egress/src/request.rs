//! What a guest asks for and what it is told when it does not get it.

use std::time::Duration;

use capability::denial::{Capability, Denial};
use capability::origin::{Origin, Scheme};

/// One request, in parts; nothing of it was checked yet but that the origin is one.
#[derive(Debug, Clone)]
pub struct Request {
    /// In upper case.
    pub method: String,
    /// Where to.
    pub origin: Origin,
    /// Begins with `/`.
    pub path_and_query: String,
    /// As the guest wrote them; names may repeat.
    pub headers: Vec<(String, Vec<u8>)>,
    /// All of it; empty for none.
    pub body: Vec<u8>,
    /// How long the guest is ready to wait; never longer than the door is.
    pub timeouts: Timeouts,
}

impl Request {
    /// What of a call's budget it takes.
    pub fn size_bytes(&self) -> u64 {
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        let all = self.method.len() + self.path_and_query.len() + headers + self.body.len();
        u64::try_from(all).unwrap_or(u64::MAX)
    }
}

/// A guest's own patience. What is not said is the door's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeouts {
    /// Until a connection stands, with the look-up of the name and TLS.
    pub connect: Option<Duration>,
    /// From there until the answer begins.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the answer.
    pub between_bytes: Option<Duration>,
}

/// Why there is no answer, or no more of one. It holds no address, no query, and no text of a library or a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The grant does not hold it.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// No request that may be sent to anybody.
    #[error("the request is not valid: {0}")]
    Invalid(#[from] InvalidRequest),
    /// The host is at no address that may be connected to.
    #[error("the host is at an address that is not reached from here")]
    AddressRefused,
    /// No such host.
    #[error("the host's name leads nowhere")]
    NoSuchName,
    /// Nobody takes the connection.
    #[error("the host takes no connection")]
    Unreachable,
    /// The host could not show that it is the one.
    #[error("no trusted TLS connection to the host")]
    Tls,
    /// Something took too long.
    #[error("the host did not answer in time")]
    TimedOut,
    /// A header section that is larger than any should be, on either side.
    #[error("the headers are too large")]
    TooLarge,
    /// The call has used up what it may ask for, send or receive.
    #[error("the call's budget of requests or bytes is used up")]
    OutOfBudget,
    /// Whoever it was to be sent for has lost what it works on to another.
    #[error("what this is sent for was taken over by another moat")]
    NotHeld,
    /// The answer broke off, or is none.
    #[error("the answer broke off or is not HTTP")]
    BrokeOff,
    /// The answer repeats a secret that was sent along.
    #[error("the answer held a secret, and was stopped")]
    SecretEchoed,
    /// The answer is compressed though that was not asked for, so that nobody could see a secret in it.
    #[error("the answer is encoded, which was not asked for")]
    Encoded,
    /// The secret that the request needs cannot be had, or may not go there.
    #[error("the credential {name} is not available for this host")]
    CredentialUnavailable {
        /// Its name in the manifest.
        name: String,
    },
}

impl RequestError {
    /// What is to be recorded as refused: that the grant does not hold, and what the door itself refuses whatever the grant says.
    pub fn refused(&self, origin: &Origin) -> Option<Denial> {
        let line = match self {
            RequestError::Denied(denial) => return Some(denial.clone()),
            RequestError::AddressRefused => format!(
                "policy.toml: [[ceiling]] private = [\"{}{}\"], where the address is one of your own",
                match origin.scheme() {
                    Scheme::Http => "http://",
                    Scheme::Https => "",
                },
                origin.authority()
            ),
            RequestError::Invalid(
                InvalidRequest::HeaderForbidden
                | InvalidRequest::HoldsSecret
                | InvalidRequest::PlainHttp,
            )
            | RequestError::SecretEchoed => "no line allows this".to_owned(),
            _ => return None,
        };
        let what = format!("{origin}: {self}");
        Some(Denial::new(Capability::Network, what, line))
    }
}

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// No method in upper case, or one that is for proxies.
    #[error("its method")]
    Method,
    /// A path that does not begin with `/`, or holds what belongs into none.
    #[error("its path or query")]
    Path,
    /// A header that has no name or value of one.
    #[error("a header's name or value")]
    Header,
    /// A header that is the host's to set: for routing, framing, credentials, or to ask for another method or path.
    #[error("a header that is not a guest's to set")]
    HeaderForbidden,
    /// A content-length that is not the body's.
    #[error("its content-length")]
    ContentLength,
    /// It holds a secret of the machine's owner.
    #[error("it holds a secret")]
    HoldsSecret,
    /// In the clear to a host that a credential is for.
    #[error("plain http to a host that a credential is for")]
    PlainHttp,
}
