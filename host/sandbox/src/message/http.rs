//! `wasi:http/outgoing-handler`: requests, heads and pieces of bodies as they cross the socket, and why there is no answer.

use std::time::Duration;

use capability::origin::Origin;
use serde::{Deserialize, Serialize};

/// The interface, as grants and transcripts name it.
pub(crate) const INTERFACE: &str = "wasi:http/outgoing-handler";

/// What one request may carry. A frame holds it as base64, which is a third more.
pub(crate) const BODY_BYTES_MAX: u64 = 16 << 20;

/// One request as a guest made it: nothing of it is believed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) scheme: String,
    pub(crate) authority: String,
    pub(crate) path_with_query: String,
    pub(crate) headers: Vec<Field>,
    #[serde(with = "base64_text")]
    pub(crate) body: Vec<u8>,
    pub(crate) connect_timeout_ms: Option<u64>,
    pub(crate) first_byte_timeout_ms: Option<u64>,
    pub(crate) between_bytes_timeout_ms: Option<u64>,
}

/// A request that the grant allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// As the guest wrote it.
    pub method: String,
    /// Where it goes, parsed once.
    pub origin: Origin,
    /// Begins with `/`; printable ASCII.
    pub path_and_query: String,
    /// Lower-case names; none that frames the message or proves who asks.
    pub headers: Vec<Field>,
    /// All of it.
    pub body: Vec<u8>,
    /// How long the guest would wait, within the call's own time.
    pub timeouts: Timeouts,
}

/// How long to wait for each part of an answer; none where the guest does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// For the connection.
    pub connect: Option<Duration>,
    /// For the answer's head.
    pub first_byte: Option<Duration>,
    /// From one piece of the body to the next.
    pub between_bytes: Option<Duration>,
}

/// A header or trailer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Lower case.
    pub name: String,
    /// Bytes.
    #[serde(with = "base64_text")]
    pub value: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// By which its body is read; never used twice by the same services.
    pub id: u64,
    /// Three digits.
    pub status: u16,
    /// In order.
    pub headers: Vec<Field>,
}

/// What comes next of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// Bytes, as they arrived.
    Bytes(#[serde(with = "base64_text")] Vec<u8>),
    /// The end, with its trailers. There is no more to read.
    End(Vec<Field>),
}

/// Why there is no answer, or no more of it. No text: what a library or a server says is not for a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpError {
    /// Not granted.
    Denied,
    /// The scheme, authority or path has no form that is read in one way only.
    UriInvalid,
    /// The path and query are too long.
    UriTooLong,
    /// The headers are too many or too long.
    HeadersTooLarge,
    /// The body is larger than a call may send.
    BodyTooLarge,
    /// Malformed in another way.
    Invalid,
    /// A limit of the call is used up: requests, bytes, or answers open at one time.
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
    /// The answer's head is too large.
    HeadTooLarge,
    /// The answer is larger than a call may receive.
    TooLarge,
    /// The answer broke off, or is no HTTP.
    BrokeOff,
    /// The answer held what no guest may see.
    Withheld,
    /// A granted credential is not at hand.
    NotConfigured,
}

/// Bytes as base64 text.
mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}
