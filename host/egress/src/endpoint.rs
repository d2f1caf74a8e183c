//! Where a configured service is: scheme, host, port and the path that its API begins with.

use std::net::IpAddr;

use url::{Host, Url};

/// A checked base address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

/// Whether an address beyond loopback may be spoken to without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainHttp {
    /// What is sent could be read on the way.
    Refused,
    /// The owner of the machine says so in so many words.
    Allowed,
}

/// Why a text is no address of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// No URL at all.
    #[error("it is no URL: {0}")]
    Syntax(String),
    /// Neither http nor https.
    #[error("it is neither http nor https")]
    Scheme,
    /// Without TLS over a network.
    #[error("plain http is for this machine's loopback only")]
    Plain,
    /// A name or password in the address.
    #[error("it holds a user name or password: name the key instead")]
    UserInfo,
    /// A query or fragment.
    #[error("it holds a query or fragment")]
    Query,
}

impl Endpoint {
    /// Checks a base address, such as `https://api.example.com/v1`.
    ///
    /// # Errors
    /// [`InvalidEndpoint`].
    pub fn parse(text: &str, plain: PlainHttp) -> Result<Endpoint, InvalidEndpoint> {
        let url = Url::parse(text).map_err(|error| InvalidEndpoint::Syntax(error.to_string()))?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) || plain == PlainHttp::Allowed => {}
            "http" => return Err(InvalidEndpoint::Plain),
            _ => return Err(InvalidEndpoint::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidEndpoint::UserInfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidEndpoint::Query);
        }
        Ok(Endpoint(url))
    }

    /// The address of a path below it; `path` is the program's own, never a text from outside.
    pub(crate) fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        let joined = format!(
            "{}/{}",
            url.path().trim_end_matches('/'),
            path.trim_start_matches('/')
        );
        url.set_path(&joined);
        url
    }

    /// The address, for people.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn only_tls_or_loopback_without_decoration() {
        let refused = |text: &str| Endpoint::parse(text, PlainHttp::Refused).unwrap_err();
        for good in [
            "https://api.example.com",
            "http://127.0.0.1:11434/v1",
            "http://[::1]:8080",
            "http://localhost:1234/v1/",
        ] {
            assert!(Endpoint::parse(good, PlainHttp::Refused).is_ok(), "{good}");
        }
        assert_eq!(refused("http://10.0.0.7:8000/v1"), InvalidEndpoint::Plain);
        assert_eq!(
            refused("http://127.0.0.1.example.com"),
            InvalidEndpoint::Plain
        );
        assert!(Endpoint::parse("http://10.0.0.7:8000/v1", PlainHttp::Allowed).is_ok());
        assert_eq!(refused("file:///etc/passwd"), InvalidEndpoint::Scheme);
        assert_eq!(refused("https://key@a.example"), InvalidEndpoint::UserInfo);
        assert_eq!(refused("https://a.example/?key=1"), InvalidEndpoint::Query);
        assert!(matches!(
            refused("api.example.com"),
            InvalidEndpoint::Syntax(_)
        ));
    }

    #[test]
    fn paths_are_appended() {
        for base in ["https://a.example/v1", "https://a.example/v1/"] {
            let endpoint = Endpoint::parse(base, PlainHttp::Refused).unwrap();
            assert_eq!(
                endpoint.join("/chat/completions").as_str(),
                "https://a.example/v1/chat/completions"
            );
        }
    }
}
