//! The checks of `[[network]]` and `[[credentials]]`.

use toml::Spanned;

use super::check::{is_plain_name, sentence};
use super::raw::{RawCredential, RawNetwork};
use super::{CredentialRequest, NetworkRequest};
use crate::config::{ConfigError, Source};
use crate::header::Header;
use crate::network::{HostPattern, InvalidRule, Methods, NetworkRule, PathPrefix};
use crate::origin::{Origin, Scheme};

/// More rules than a reviewer reads are a mistake.
const RULES_MAX: usize = 100;

pub(super) fn network_request(
    raw: Spanned<RawNetwork>,
    source: Source<'_>,
) -> Result<NetworkRequest, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let refuse = |why: String| source.error(span.clone(), why, "correct this [[network]]");
    let invalid = |why: InvalidRule| refuse(why.to_string());
    let scheme = match raw.scheme.as_deref() {
        None => Scheme::Https,
        Some(text) => Scheme::parse(text)
            .ok_or_else(|| refuse("the scheme is neither http nor https".into()))?,
    };
    let host = HostPattern::parse(&raw.host).map_err(invalid)?;
    if raw.methods.is_empty() || raw.paths.as_ref().is_some_and(Vec::is_empty) {
        return Err(refuse(
            "an empty list of methods or paths allows nothing".into(),
        ));
    }
    let methods = raw
        .methods
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>();
    let methods = Methods::These(methods.map_err(invalid)?);
    let paths = match raw.paths {
        None => vec![PathPrefix::root()],
        Some(texts) => texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()
            .map_err(invalid)?,
    };
    if raw.port == Some(0) || paths.len() > RULES_MAX {
        return Err(refuse(format!(
            "a port is a number from 1 to 65535, and there are at most {RULES_MAX} paths"
        )));
    }
    let rules = paths.into_iter().map(|path| NetworkRule {
        scheme,
        host: host.clone(),
        port: Some(raw.port.unwrap_or(scheme.default_port())),
        methods: methods.clone(),
        path,
    });
    let idempotency = raw.idempotency.as_deref();
    Ok(NetworkRequest {
        rules: rules.collect(),
        idempotency: idempotency
            .map(|header| idempotency_header(header, &raw.methods).map_err(refuse))
            .transpose()?,
        reason: sentence(&raw.reason, source, span.clone())?,
    })
}

/// The header of a key that the host makes for each request, where there are requests that need one.
fn idempotency_header(header: &str, methods: &[String]) -> Result<String, String> {
    let header = header.to_ascii_lowercase();
    let known = Header::of(&header);
    if !is_token(&header) || !known.may_be_asked() || !known.may_carry_a_secret() {
        return Err("`idempotency` is no name of a header that can carry a key".into());
    }
    let needs_one = |method: &String| matches!(method.as_str(), "POST" | "PATCH");
    if !methods.iter().any(needs_one) {
        return Err(
            "`idempotency` is for POST and PATCH: other methods may be repeated as they are".into(),
        );
    }
    Ok(header)
}

fn is_token(header: &str) -> bool {
    let of_a_token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (1..=64).contains(&header.len()) && header.bytes().all(of_a_token)
}

pub(super) fn credential_request(
    raw: Spanned<RawCredential>,
    source: Source<'_>,
) -> Result<CredentialRequest, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let refuse = |why: &str| source.error(span.clone(), why, "correct this [[credentials]]");
    if !is_plain_name(&raw.name) {
        return Err(refuse(
            "a secret's name has letters, digits, `-`, `_`, `.` and `+`, at most 64",
        ));
    }
    let host = raw
        .host
        .parse()
        .map_err(|e| refuse(&format!("{e}; a credential is bound to one host")))?;
    let header = raw.header.to_ascii_lowercase();
    if !is_token(&header) || !Header::of(&header).may_carry_a_secret() {
        return Err(refuse(
            "the header is no name of a header that can carry a secret",
        ));
    }
    let visible = raw.format.len() <= 200
        && raw
            .format
            .bytes()
            .all(|b| b == b' ' || b.is_ascii_graphic());
    if raw.format.matches("{}").count() != 1 || !visible {
        return Err(refuse(
            "the format has {} once, where the secret stands, and visible ASCII around it",
        ));
    }
    if raw.port == Some(0) {
        return Err(refuse("a port is a number from 1 to 65535"));
    }
    Ok(CredentialRequest {
        name: raw.name,
        origin: Origin::new(
            Scheme::Https,
            host,
            raw.port.unwrap_or(Scheme::Https.default_port()),
        ),
        header,
        format: raw.format,
        reason: sentence(&raw.reason, source, span.clone())?,
    })
}

/// A credential for a place that the skill cannot reach is a mistake, or a first step to something else.
pub(super) fn bound(
    credential: CredentialRequest,
    network: &[NetworkRequest],
    source: Source<'_>,
) -> Result<CredentialRequest, ConfigError> {
    let reached = network
        .iter()
        .flat_map(|request| &request.rules)
        .any(|rule| rule.reaches(&credential.origin));
    if reached {
        return Ok(credential);
    }
    Err(source.whole(
        format!(
            "[[credentials]] `{}` is for {}, which no [[network]] reaches",
            credential.name, credential.origin
        ),
        "declare the host under [[network]] as well, or take the credential out",
    ))
}

/// Two values for one header would be two requests to two readers.
pub(super) fn distinct(
    credentials: &[CredentialRequest],
    source: Source<'_>,
) -> Result<(), ConfigError> {
    for (at, one) in credentials.iter().enumerate() {
        let twin =
            |other: &&CredentialRequest| other.origin == one.origin && other.header == one.header;
        if let Some(other) = credentials[at + 1..].iter().find(twin) {
            return Err(source.whole(
                format!(
                    "[[credentials]] `{}` and `{}` fill one header of {}",
                    one.name, other.name, one.origin
                ),
                "keep one of the two",
            ));
        }
    }
    Ok(())
}
