//! Where a request goes: scheme, host and port, parsed once and strictly; whatever comes later uses the [`Origin`], never the text.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a host is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// Its name in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port where none is given.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    /// Reads the name, in lower case only.
    pub(crate) fn parse(text: &str) -> Option<Scheme> {
        match text {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            _ => None,
        }
    }
}

/// A host in its one canonical form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostName {
    /// A DNS name: lower case, without a trailing dot. Names beyond ASCII are written as A-labels (`xn--…`).
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
}

/// A scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    scheme: Scheme,
    host: HostName,
    port: u16,
}

/// Why a text names no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrigin {
    /// Neither http nor https.
    #[error("the scheme is neither http nor https")]
    Scheme,
    /// A character that no host has: a space, a control, `%`, `@`, `\`, `/`, `?`, `#`, or anything beyond ASCII.
    #[error(
        "a host has letters, digits, `-`, `_` and `.` only; other names are written as A-labels (`xn--…`)"
    )]
    Character,
    /// Empty, too long, or with an empty label.
    #[error("a host has labels of 1 to 63 characters, 253 in all")]
    Label,
    /// A number that some resolvers take for an address.
    #[error("an IPv4 address is four decimal numbers, and nothing else that ends in a number")]
    Ipv4,
    /// Brackets without an IPv6 address, or one with a zone.
    #[error("an IPv6 address stands in brackets, without a zone")]
    Ipv6,
    /// No port from 1 to 65535 in plain decimal digits.
    #[error("a port is a number from 1 to 65535")]
    Port,
}

impl Origin {
    /// Puts one together from parts that are valid by their types.
    pub fn new(scheme: Scheme, host: HostName, port: u16) -> Origin {
        Origin { scheme, host, port }
    }

    /// Reads a scheme and an authority (`host` or `host:port`).
    ///
    /// # Errors
    /// [`InvalidOrigin`] for whatever two parsers could read in two ways.
    pub fn parse(scheme: &str, authority: &str) -> Result<Origin, InvalidOrigin> {
        let scheme = Scheme::parse(scheme).ok_or(InvalidOrigin::Scheme)?;
        let (host, port) = split_port(authority)?;
        Ok(Origin {
            scheme,
            host: host.parse()?,
            port: port.unwrap_or(scheme.default_port()),
        })
    }

    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Which host.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// At which port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What stands in a `Host` header: the port is left out where it is the scheme's own.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// Splits `host:port`; the host of an IPv6 address keeps its brackets.
pub(crate) fn split_port(authority: &str) -> Result<(&str, Option<u16>), InvalidOrigin> {
    let host_end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']').ok_or(InvalidOrigin::Ipv6)? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_end);
    if rest.is_empty() {
        return Ok((host, None));
    }
    let digits = rest.strip_prefix(':').ok_or(InvalidOrigin::Character)?;
    Ok((host, Some(port(digits)?)))
}

fn port(digits: &str) -> Result<u16, InvalidOrigin> {
    let plain =
        digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits
        .parse()
        .ok()
        .filter(|_| plain)
        .ok_or(InvalidOrigin::Port)
}

impl FromStr for HostName {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<HostName, InvalidOrigin> {
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').ok_or(InvalidOrigin::Ipv6)?;
            return inner
                .parse()
                .map(HostName::V6)
                .map_err(|_| InvalidOrigin::Ipv6);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text
            .bytes()
            .any(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'-' | b'_' | b'.'))
        {
            return Err(InvalidOrigin::Character);
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
        };
        if text.len() > 253 || !text.split('.').all(label) {
            return Err(InvalidOrigin::Label);
        }
        if ends_in_a_number(text) {
            return text
                .parse()
                .map(HostName::V4)
                .map_err(|_| InvalidOrigin::Ipv4);
        }
        Ok(HostName::Name(text.to_ascii_lowercase()))
    }
}

/// Such names are addresses to the URL standard and to `inet_aton`: decimal, octal, hexadecimal, in one to four parts.
fn ends_in_a_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let hexadecimal = last
        .strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    hexadecimal || last.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostName::Name(name) => f.write_str(name),
            HostName::V4(address) => address.fmt(f),
            HostName::V6(address) => write!(f, "[{address}]"),
        }
    }
}

impl TryFrom<String> for HostName {
    type Error = InvalidOrigin;

    fn try_from(text: String) -> Result<HostName, InvalidOrigin> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(host: HostName) -> String {
        host.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn what_two_parsers_could_read_in_two_ways_is_refused() {
        for authority in [
            "",
            ".",
            "..",
            "a..b",
            "a.b..",
            ".a",
            "a b",
            "a\0b",
            "a\r\nb",
            "a\tb",
            "a%00b",
            "a%2eb",
            "user@a",
            "a:b@c",
            "a\\b",
            "a/b",
            "a?b",
            "a#b",
            "*.a",
            "é.fr",
            "a\u{3002}b",
            "ａ.b",
            "2130706433",
            "0177.0.0.1",
            "0x7f.1",
            "0x7f000001",
            "127.1",
            "127.0.0.1.",
            "1.2.3.4.5",
            "256.1.1.1",
            "a.0x",
            "::1",
            "[::1",
            "[::1]x",
            "[::1%eth0]",
            "[v1.a]",
            "a:",
            "a:0",
            "a:00",
            "a:080",
            "a:+80",
            "a:-1",
            "a:65536",
            "a:80:80",
            "a: 80",
            "-a.b",
            "a-.b",
        ] {
            let one_dot_is_no_ambiguity = authority == "127.0.0.1.";
            assert_eq!(
                Origin::parse("https", authority).is_ok(),
                one_dot_is_no_ambiguity,
                "{authority:?}"
            );
        }
        assert!(Origin::parse("HTTPS", "a").is_err());
        assert!(Origin::parse("ftp", "a").is_err());
        assert!(Origin::parse("https", &format!("{}.com", "a".repeat(64))).is_err());
        assert!(Origin::parse("https", &"a.".repeat(128)).is_err());
    }

    #[test]
    fn one_origin_has_one_form() {
        for (authority, form) in [
            ("Example.COM", "https://example.com"),
            ("example.com.", "https://example.com"),
            ("example.com:443", "https://example.com"),
            ("example.com:8443", "https://example.com:8443"),
            ("127.0.0.1", "https://127.0.0.1"),
            ("[0:0::1]:1", "https://[::1]:1"),
            ("[::ffff:7f00:1]", "https://[::ffff:127.0.0.1]"),
            ("xn--e1afmkfd.example", "https://xn--e1afmkfd.example"),
            ("my_host", "https://my_host"),
        ] {
            let origin = Origin::parse("https", authority).unwrap();
            assert_eq!(origin.to_string(), form);
            assert_eq!(Origin::parse("https", &origin.authority()), Ok(origin));
        }
    }
}
