//! Which headers go out and which come in: what is not a guest's to set is refused, what is not for a guest to see is left out.

use capability::Grant;
use capability::header::{Header, Size, alike};
use capability::origin::Origin;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::request::{InvalidRequest, RequestError};

/// The headers of a request, as far as the guest wrote them.
///
/// # Errors
/// The first one that may not be sent.
pub(crate) fn outgoing(
    written: &[(String, Vec<u8>)],
    body_bytes: usize,
    grant: &Grant,
) -> Result<HeaderMap, RequestError> {
    let size = Size::of(
        written
            .iter()
            .map(|(name, value)| (name.len(), value.len())),
    );
    if !size.fits_a_request() {
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
        if is_target || !may_be_asked(name.as_str()) {
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
    let mut names = headers.keys().map(|name| Header::of(name.as_str()));
    match names.all(Header::may_go_with_a_secret) {
        true => Ok(()),
        false => Err(InvalidRequest::HeaderForbidden),
    }
}

/// Framing in disguise, such as `content_length`, is nobody's to write.
fn may_be_asked(name: &str) -> bool {
    let disguised = alike(name, "content-length") && name != "content-length";
    Header::of(name).may_be_asked() && !disguised
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
            !Header::of(name).is_hosts() && !listed.iter().any(|one| one == name)
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
    trailers.retain(|(name, _)| Header::of(name).may_trail());
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
