//! A request's target outside of TLS: `host:port` of a `CONNECT`, or `http://…`. It names one host, or none.

use capability::origin::Origin;

use crate::proxy::refusal::{MALFORMED, Refusal};

/// `host:port`, the port always there.
pub(crate) fn authority(target: &str) -> Result<Origin, Refusal> {
    let has_port = target.rsplit_once(':').is_some_and(|(host, _)| {
        !host.is_empty() && (!host.starts_with('[') || host.ends_with(']'))
    });
    Origin::parse("https", target)
        .ok()
        .filter(|_| has_port)
        .ok_or(MALFORMED)
}

/// `http://host[:port]/path?query`. With https there is CONNECT.
pub(crate) fn absolute(target: &str) -> Result<(Origin, String), Refusal> {
    let rest = target.strip_prefix("http://").ok_or(MALFORMED)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = match path.as_bytes().first() {
        None => "/".to_owned(),
        Some(b'/') => path.to_owned(),
        Some(_) => format!("/{path}"),
    };
    let origin = Origin::parse("http", authority).map_err(|_| MALFORMED)?;
    Ok((origin, path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn a_target_names_one_host_or_none() {
        for (target, origin) in [
            ("a.example:443", "https://a.example"),
            ("A.EXAMPLE.:8443", "https://a.example:8443"),
            ("[::1]:443", "https://[::1]"),
        ] {
            assert_eq!(authority(target).unwrap().to_string(), origin);
        }
        for target in [
            "a.example",
            "[::1]",
            "a.example:",
            ":443",
            "x@a.example:443",
            "https://a.example:443",
            "a.example:443/",
            "a.example:443:443",
            "a.example:0443",
            "a.example%00:443",
            "127.1:443",
            "*",
            "/",
        ] {
            assert!(authority(target).is_err(), "{target}");
        }
        for (target, origin, path) in [
            ("http://a.example", "http://a.example", "/"),
            ("http://a.example?q", "http://a.example", "/?q"),
            ("http://a.example:8080/p?q", "http://a.example:8080", "/p?q"),
        ] {
            let (found, rest) = absolute(target).unwrap();
            assert_eq!((found.to_string().as_str(), rest.as_str()), (origin, path));
        }
        for target in [
            "https://a.example/",
            "HTTP://a.example/",
            "ftp://a.example/",
            "//a.example/",
            "/p",
            "http:///p",
            "http://x@a.example/",
            "http://a.example\\@b.example/",
            "http://0x7f.1/",
            "*",
        ] {
            assert!(absolute(target).is_err(), "{target}");
        }
    }
}
