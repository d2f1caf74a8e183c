//! Which headers go out and which come in: what is not a guest's to set is refused, what is not for a guest to see is left out.

use capability::Grant;
use capability::origin::Origin;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::clamps::{HEADERS_MAX, REQUEST_HEADER_BYTES_MAX};
use crate::request::{InvalidRequest, RequestError};

/// Set by the host or by nobody: routing, framing, credentials; and what makes a server take a request for another one than it
/// was checked as.
const NOT_A_GUESTS: &[&str] = &[
    "authorization",
    "connection",
    "cookie",
    "cookie2",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "api-key",
    "x-api-key",
    "x-auth-key",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// As [`NOT_A_GUESTS`], by how they begin.
const NOT_A_GUESTS_BEGINNINGS: &[&str] = &["proxy-", "x-forwarded", "sec-websocket-"];

/// As [`NOT_A_GUESTS`], by how they end: what services call the header that carries their key.
const NOT_A_GUESTS_ENDINGS: &[&str] = &[
    "token",
    "secret",
    "signature",
    "apikey",
    "api-key",
    "access-key",
    "auth-key",
    "subscription-key",
];

/// For the connection, the host's session with the server, or a way around the door.
const NOT_FOR_A_GUEST: &[&str] = &[
    "alt-svc",
    "authentication-info",
    "authorization",
    "connection",
    "keep-alive",
    "set-cookie",
    "set-cookie2",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// With a secret, neither: pieces of an answer that repeats it would hold pieces of it.
const NOT_WITH_A_SECRET: &[HeaderName] = &[header::RANGE, header::IF_RANGE];

/// What a trailer may not say after the fact, beside all that.
const NOT_IN_TRAILERS: &[&str] = &[
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "host",
    "location",
];

/// The headers of a request, as far as the guest wrote them.
///
/// # Errors
/// The first one that may not be sent.
pub(crate) fn outgoing(
    written: &[(String, Vec<u8>)],
    body_bytes: usize,
    grant: &Grant,
) -> Result<HeaderMap, RequestError> {
    let bytes: usize = written.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
    if written.len() > HEADERS_MAX || bytes > REQUEST_HEADER_BYTES_MAX {
        return Err(RequestError::TooLarge);
    }
    let mut headers = HeaderMap::with_capacity(written.len() + 4);
    let mut lengths = 0;
    for (name, value) in written {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| InvalidRequest::Header)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| InvalidRequest::Header)?;
        let is_target = grant
            .credentials()
            .any(|one| alike(&one.header, name.as_str()));
        if is_target || is_not_a_guests(name.as_str()) {
            return Err(InvalidRequest::HeaderForbidden.into());
        }
        match name {
            // Libraries of guests set it; only the one true value is no lie, and that one is set below anyway.
            header::CONTENT_LENGTH => {
                lengths += 1;
                if lengths > 1 || value.as_bytes() != body_bytes.to_string().as_bytes() {
                    return Err(InvalidRequest::ContentLength.into());
                }
            }
            // Nobody could look for a secret in a compressed answer, nor bound what becomes of it.
            header::ACCEPT_ENCODING => {}
            name => drop(headers.append(name, value)),
        }
    }
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    headers
        .entry(header::USER_AGENT)
        .or_insert(HeaderValue::from_static(concat!(
            "moat/",
            env!("CARGO_PKG_VERSION")
        )));
    Ok(headers)
}

/// Whether a request may be sent with a secret.
///
/// # Errors
/// [`InvalidRequest::HeaderForbidden`].
pub(crate) fn fit_for_a_secret(headers: &HeaderMap) -> Result<(), InvalidRequest> {
    match NOT_WITH_A_SECRET
        .iter()
        .any(|name| headers.contains_key(name))
    {
        true => Err(InvalidRequest::HeaderForbidden),
        false => Ok(()),
    }
}

/// Servers that hand headers on as variables take `_` and `-` for the same.
fn alike(one: &str, other: &str) -> bool {
    let folded = |byte: u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    one.bytes().map(folded).eq(other.bytes().map(folded))
}

fn is_not_a_guests(written: &str) -> bool {
    let name = written.replace('_', "-");
    NOT_A_GUESTS.contains(&name.as_str())
        || NOT_A_GUESTS_BEGINNINGS
            .iter()
            .any(|beginning| name.starts_with(beginning))
        || NOT_A_GUESTS_ENDINGS
            .iter()
            .any(|ending| name.ends_with(ending))
        // Framing in disguise: `content_length`.
        || (name == "content-length" && name != written)
}

/// The headers of an answer that a guest may see.
pub(crate) fn incoming(received: &HeaderMap, from: &Origin) -> Vec<(String, Vec<u8>)> {
    let listed: Vec<String> = received
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    received
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            !NOT_FOR_A_GUEST.contains(&name)
                && !name.starts_with("proxy-")
                && !listed.iter().any(|one| one == name)
        })
        .filter_map(|(name, value)| {
            let value = match *name {
                header::LOCATION => without_user(value.as_bytes(), from)?,
                _ => value.as_bytes().to_vec(),
            };
            Some((name.as_str().to_owned(), value))
        })
        .collect()
}

/// The trailers of an answer that a guest may see.
pub(crate) fn incoming_trailers(received: &HeaderMap, from: &Origin) -> Vec<(String, Vec<u8>)> {
    let mut trailers = incoming(received, from);
    trailers.retain(|(name, _)| !NOT_IN_TRAILERS.contains(&name.as_str()));
    trailers
}

/// A redirect's target without a user's name and password; `None` when nobody could say what it is.
fn without_user(location: &[u8], from: &Origin) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(location).ok()?;
    if !text.contains('@') {
        return Some(location.to_vec());
    }
    let mut url = Url::parse(&format!("{from}/")).ok()?.join(text).ok()?;
    if url.username().is_empty() && url.password().is_none() {
        return Some(location.to_vec());
    }
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(url.as_str().as_bytes().to_vec())
}
