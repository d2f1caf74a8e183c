//! What a command is told when it does not get an answer: a status and a fixed text, never a reason with an address or a library's words in it.

use crate::request::{InvalidRequest, RequestError};

/// Why a request goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) text: &'static str,
}

const fn refusal(status: u16, text: &'static str) -> Refusal {
    Refusal { status, text }
}

/// The grant does not hold it.
pub(crate) const DENIED: Refusal = refusal(403, "this request is not granted");
/// Not what HTTP/1.1 is, or what could be read in two ways.
pub(crate) const MALFORMED: Refusal = refusal(400, "this is no request that could be passed on");
/// `CONNECT`, TLS and `Host` name different hosts.
pub(crate) const NOT_ONE_HOST: Refusal =
    refusal(421, "the request is for another host than the connection");
/// A version or protocol that is not spoken here.
pub(crate) const VERSION: Refusal = refusal(505, "this proxy speaks HTTP/1.1");
/// A change of the protocol.
pub(crate) const UPGRADE: Refusal = refusal(501, "no other protocol leads through this proxy");
/// An expectation that nobody has.
pub(crate) const EXPECTATION: Refusal = refusal(417, "no such expectation is met");
/// A header section beyond its bound.
pub(crate) const HEAD_TOO_LARGE: Refusal = refusal(431, "the request's headers are too large");
/// A body beyond what may be sent.
pub(crate) const BODY_TOO_LARGE: Refusal =
    refusal(413, "the request's body is larger than may be sent");

impl From<&RequestError> for Refusal {
    fn from(error: &RequestError) -> Refusal {
        match error {
            RequestError::Denied(_) => DENIED,
            RequestError::Invalid(invalid) => of_invalid(*invalid),
            RequestError::OutOfBudget => refusal(403, "the budget of requests or bytes is used up"),
            RequestError::AddressRefused => refusal(
                403,
                "the host is at an address that is not reached from here",
            ),
            RequestError::NoSuchName => refusal(502, "the host's name leads nowhere"),
            RequestError::Unreachable => refusal(502, "the host takes no connection"),
            RequestError::Tls => refusal(502, "no trusted TLS connection to the host"),
            RequestError::TimedOut => refusal(504, "the host did not answer in time"),
            RequestError::TooLarge => refusal(502, "the headers are too large"),
            RequestError::NotHeld => refusal(502, "the run was taken over by another moat"),
            RequestError::BrokeOff => refusal(502, "the answer broke off or is not HTTP"),
            RequestError::SecretEchoed => refusal(502, "the answer held a secret, and was stopped"),
            RequestError::Encoded => refusal(502, "the answer is encoded, which was not asked for"),
            RequestError::CredentialUnavailable { .. } => {
                refusal(502, "the credential for this host is not available")
            }
        }
    }
}

fn of_invalid(invalid: InvalidRequest) -> Refusal {
    match invalid {
        InvalidRequest::HeaderForbidden => refusal(
            403,
            "the request has a header that is not a command's to set",
        ),
        InvalidRequest::HoldsSecret => refusal(403, "the request holds a secret"),
        InvalidRequest::PlainHttp => refusal(403, "plain http to a host that a credential is for"),
        InvalidRequest::Method
        | InvalidRequest::Path
        | InvalidRequest::Header
        | InvalidRequest::ContentLength => MALFORMED,
    }
}
