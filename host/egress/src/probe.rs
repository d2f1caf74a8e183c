//! Health probes of deployed services, on loopback only.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::{Host, Url};

use crate::error::EgressError;

/// More of an answer is not read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What a service answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The beginning of the body; untrusted.
    pub body: Vec<u8>,
}

/// Asks a service on loopback by `GET`.
///
/// # Errors
/// [`EgressError`]; within `limit` in every case.
pub async fn probe(url: &Url, limit: Duration) -> Result<Answer, EgressError> {
    let address = loopback(url).ok_or(EgressError::NotLoopback)?;
    tokio::time::timeout(limit, get(address, url))
        .await
        .unwrap_or(Err(EgressError::TimedOut {
            seconds: limit.as_secs(),
        }))
}

fn loopback(url: &Url) -> Option<SocketAddr> {
    let ip = match url.host()? {
        Host::Ipv4(ip) => IpAddr::V4(ip),
        Host::Ipv6(ip) => IpAddr::V6(ip),
        Host::Domain(_) => return None,
    };
    (ip.is_loopback() && url.scheme() == "http")
        .then_some(SocketAddr::new(ip, url.port_or_known_default()?))
}

async fn get(address: SocketAddr, url: &Url) -> Result<Answer, EgressError> {
    let unreachable = |error: std::io::Error| EgressError::Unreachable {
        why: error.to_string(),
    };
    let mut stream = TcpStream::connect(address).await.map_err(unreachable)?;
    // A parsed URL holds no white space or line break: it is percent-encoded.
    let target = url.query().map_or_else(
        || url.path().to_owned(),
        |query| format!("{}?{query}", url.path()),
    );
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: */*\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(unreachable)?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await
        .map_err(unreachable)?;
    let status = status(&answer).ok_or(EgressError::NotHttp)?;
    let body = answer
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .map_or(vec![], |at| answer[at + 4..].to_vec());
    Ok(Answer { status, body })
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|b| *b == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    words
        .next()
        .filter(|version| version.starts_with("HTTP/1."))?;
    words
        .next()?
        .parse()
        .ok()
        .filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use std::io::{Read as _, Write as _};

    use super::*;

    fn answering(answer: &'static [u8]) -> Url {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        });
        Url::parse(&format!("http://127.0.0.1:{port}/health?a=b")).unwrap()
    }

    #[tokio::test]
    async fn the_status_is_read_and_garbage_is_none() {
        let limit = Duration::from_secs(5);
        assert_eq!(
            probe(&answering(b"HTTP/1.1 503 No\r\n\r\nwhy"), limit)
                .await
                .unwrap(),
            Answer {
                status: 503,
                body: b"why".to_vec()
            }
        );
        for garbage in [&b"hello\r\n"[..], b"HTTP/1.1 abc\r\n", b"", b"\xff\xfe\n"] {
            assert!(
                matches!(
                    probe(&answering(garbage), limit).await,
                    Err(EgressError::NotHttp)
                ),
                "{garbage:?}"
            );
        }
    }

    #[tokio::test]
    async fn nothing_but_loopback_is_reached() {
        for elsewhere in [
            "http://example.com/",
            "http://10.0.0.1/",
            "http://169.254.169.254/",
            "https://127.0.0.1/",
            "http://localhost/",
            "http://[::ffff:10.0.0.1]/",
        ] {
            let url = Url::parse(elsewhere).unwrap();
            assert!(
                matches!(
                    probe(&url, Duration::from_secs(1)).await,
                    Err(EgressError::NotLoopback)
                ),
                "{elsewhere}"
            );
        }
    }
}
