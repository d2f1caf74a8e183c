//! `[deploy]`: what to start, and how its health is told.

use capability::manifest::is_plain_name;
use capability::{ConfigError, Source, quantity};
use toml::Spanned;
use url::{Host, Url};

use crate::file::Deploy;
use crate::raw::RawDeploy;

pub(crate) fn deploy(raw: Spanned<RawDeploy>, source: Source<'_>) -> Result<Deploy, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let refuse = |message: String| source.error(span.clone(), message, "correct [deploy]");
    if !raw
        .start
        .first()
        .is_some_and(|program| is_plain_name(program))
    {
        return Err(refuse("`start` begins with a program's plain name".into()));
    }
    let health = Url::parse(&raw.health).map_err(|e| refuse(format!("`health` is no URL: {e}")))?;
    let loopback = match health.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    };
    if !loopback
        || health.scheme() != "http"
        || !health.username().is_empty()
        || health.password().is_some()
    {
        return Err(refuse(
            "`health` is an http address of 127.0.0.1 or [::1]".into(),
        ));
    }
    let patience_ms = quantity::millis(&raw.patience).map_err(|e| refuse(e.to_string()))?;
    Ok(Deploy {
        start: raw.start,
        health,
        expect_status: raw.expect_status.unwrap_or(200),
        patience_ms,
        keep: raw.keep,
    })
}
