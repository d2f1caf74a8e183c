//! A request's head, read strictly: what two readers could take for two things is no request.

use capability::header::{FIELDS_MAX, ends_with_the_connection};
use capability::origin::Origin;

use crate::proxy::refusal::{EXPECTATION, MALFORMED, Refusal, UPGRADE, VERSION};

/// A request's head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) framing: Framing,
    /// Whether the body is sent only when it is asked for.
    pub(crate) expects: bool,
    /// Whether the command wants no further request on this connection.
    pub(crate) last: bool,
}

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

impl Head {
    /// Reads what stands before and with the empty line.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Head, Refusal> {
        if !lines_end_alike(bytes) {
            return Err(MALFORMED);
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
            Err(httparse::Error::Version) => return Err(VERSION),
            _ => return Err(MALFORMED),
        }
        let (Some(method), Some(target), Some(version)) =
            (request.method, request.path, request.version)
        else {
            return Err(MALFORMED);
        };
        // Some clients still ask a proxy for a connection in the older version; nothing of it is passed on.
        if version != 1 && method != "CONNECT" {
            return Err(VERSION);
        }
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(MALFORMED);
        }
        let headers: Vec<(String, Vec<u8>)> = request
            .headers
            .iter()
            .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
            .collect();
        let framing = framing(&headers)?;
        let one = |name| only(&headers, name);
        let expects = match one("expect")? {
            None => false,
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => true,
            Some(_) => return Err(EXPECTATION),
        };
        if headers
            .iter()
            .any(|(name, _)| name == "upgrade" || name == "http2-settings")
        {
            return Err(UPGRADE);
        }
        let last = listed(&headers).any(|name| name == "close");
        Ok(Head {
            method: method.to_owned(),
            target: target.to_owned(),
            framing,
            expects,
            last,
            headers,
        })
    }

    /// What its one `Host` header names, if that is what it should be.
    pub(crate) fn is_for(&self, origin: &Origin) -> bool {
        let host = only(&self.headers, "host").ok().flatten();
        host.and_then(|host| std::str::from_utf8(host).ok())
            .and_then(|host| Origin::parse(origin.scheme().as_str(), host).ok())
            .is_some_and(|named| named == *origin)
    }

    pub(crate) fn has(&self, wanted: &str) -> bool {
        self.headers.iter().any(|(name, _)| name == wanted)
    }

    /// The headers that are for the host.
    pub(crate) fn for_host(&self) -> Vec<(String, Vec<u8>)> {
        let listed: Vec<String> = listed(&self.headers).collect();
        let is_here = |name: &String| ends_with_the_connection(name) || listed.contains(name);
        let fields = self.headers.iter();
        fields.filter(|(name, _)| !is_here(name)).cloned().collect()
    }
}

/// By CR LF, each; a bare LF or CR ends a line to some readers only.
fn lines_end_alike(bytes: &[u8]) -> bool {
    let feeds = bytes.iter().filter(|byte| **byte == b'\n').count();
    let returns = bytes.iter().filter(|byte| **byte == b'\r').count();
    let pairs = bytes.windows(2).filter(|pair| pair == b"\r\n").count();
    feeds == pairs && returns == pairs
}

/// The names in the `Connection` headers, in lower case.
fn listed(headers: &[(String, Vec<u8>)]) -> impl Iterator<Item = String> {
    headers
        .iter()
        .filter(|(name, _)| name == "connection")
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
}

/// The value of a header that may be there once.
fn only<'a>(headers: &'a [(String, Vec<u8>)], wanted: &str) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = headers.iter().filter(|(name, _)| name == wanted);
    let first = values.next().map(|(_, value)| value.as_slice());
    match values.next() {
        None => Ok(first),
        Some(_) => Err(MALFORMED),
    }
}

fn framing(headers: &[(String, Vec<u8>)]) -> Result<Framing, Refusal> {
    let (length, coding) = (
        only(headers, "content-length")?,
        only(headers, "transfer-encoding")?,
    );
    match (length, coding) {
        (None, None) => Ok(Framing::Length(0)),
        (Some(digits), None) => decimal(digits).map(Framing::Length).ok_or(MALFORMED),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (_, Some(_)) => Err(MALFORMED),
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits)
        .ok()
        .filter(|_| plain)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use proptest::prelude::*;

    use super::*;

    fn parse(lines: &[&str]) -> Result<Head, Refusal> {
        Head::parse(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_request() {
        let host = "Host: a";
        for lines in [
            vec![
                "POST / HTTP/1.1",
                host,
                "Content-Length: 5",
                "Transfer-Encoding: chunked",
            ],
            vec![
                "POST / HTTP/1.1",
                host,
                "Content-Length: 5",
                "Content-Length: 5",
            ],
            vec!["POST / HTTP/1.1", host, "Content-Length: 5, 5"],
            vec!["POST / HTTP/1.1", host, "Content-Length: +5"],
            vec!["POST / HTTP/1.1", host, "Content-Length: 0x5"],
            vec!["POST / HTTP/1.1", host, "Content-Length: 5 5"],
            vec!["POST / HTTP/1.1", host, "Content-Length:"],
            vec![
                "POST / HTTP/1.1",
                host,
                "Content-Length: 99999999999999999999",
            ],
            vec!["POST / HTTP/1.1", host, "Transfer-Encoding: gzip, chunked"],
            vec!["POST / HTTP/1.1", host, "Transfer-Encoding: identity"],
            vec!["POST / HTTP/1.1", host, "Transfer-Encoding: xchunked"],
            vec![
                "POST / HTTP/1.1",
                host,
                "Transfer-Encoding: chunked",
                "Transfer-Encoding: chunked",
            ],
            vec!["POST / HTTP/1.1", host, "Content-Length : 5"],
            vec!["GET / HTTP/1.1", host, "X: a", " b: folded"],
            vec!["GET / HTTP/1.1", host, "X: a\nY: b"],
            vec!["GET / HTTP/1.1", host, "X: a\rY: b"],
            vec!["GET / HTTP/1.1", host, "X: a\0b"],
            vec!["GET / HTTP/1.1", host, ": empty"],
            vec!["GET / HTTP/1.1", host, "a b: c"],
            vec!["GET  / HTTP/1.1", host],
            vec!["GET /\u{e9} HTTP/1.1", host],
            vec!["GET /"],
            vec![""],
        ] {
            let parsed = parse(&lines);
            assert!(matches!(parsed, Err(MALFORMED)), "{lines:?}: {parsed:?}");
        }
        for (lines, refusal) in [
            (vec!["GET / HTTP/1.0", host], VERSION),
            (vec!["GET / HTTP/2.0", host], VERSION),
            (vec!["PRI * HTTP/2.0"], VERSION),
            (vec!["GET /a b HTTP/1.1", host], VERSION),
            (
                vec![
                    "GET / HTTP/1.1",
                    host,
                    "Connection: upgrade",
                    "Upgrade: websocket",
                ],
                UPGRADE,
            ),
            (
                vec!["GET / HTTP/1.1", host, "Upgrade: h2c", "HTTP2-Settings: AA"],
                UPGRADE,
            ),
            (vec!["GET / HTTP/1.1", host, "Expect: 200-ok"], EXPECTATION),
        ] {
            assert_eq!(parse(&lines).unwrap_err(), refusal, "{lines:?}");
        }
    }

    #[test]
    fn what_is_for_this_connection_is_not_for_the_host() {
        let head = parse(&[
            "POST /a?b HTTP/1.1",
            "Host: a",
            "Connection: keep-alive, X-Mine",
            "X-Mine: 1",
            "Proxy-Authorization: Basic x",
            "TE: trailers",
            "Content-Length: 3",
            "Expect: 100-continue",
            "Accept: */*",
        ]);
        let head = head.unwrap();
        assert_eq!(head.for_host(), [("accept".to_owned(), b"*/*".to_vec())]);
        assert_eq!(
            (head.framing, head.expects, head.last),
            (Framing::Length(3), true, false)
        );
        assert!(
            parse(&["GET / HTTP/1.1", "Connection: Close"])
                .unwrap()
                .last
        );
    }

    #[test]
    fn a_host_is_named_once_and_is_the_one() {
        let origin = Origin::parse("https", "a.example").unwrap();
        for (lines, named) in [
            (vec!["Host: a.example"], true),
            (vec!["Host: A.EXAMPLE.:443"], true),
            (vec!["Host: a.example:80"], false),
            (vec!["Host: b.example"], false),
            (vec!["Host: a.example", "Host: a.example"], false),
            (vec!["Host: a.example, b.example"], false),
            (vec!["Host: x@a.example"], false),
            (vec!["Host:"], false),
            (vec!["X: y"], false),
        ] {
            let mut all = vec!["GET / HTTP/1.1"];
            all.extend(&lines);
            assert_eq!(parse(&all).unwrap().is_for(&origin), named, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Head::parse(&bytes);
            let mut request = b"GET / HTTP/1.1\r\n".to_vec();
            request.extend(bytes);
            request.extend(b"\r\n\r\n");
            if let Ok(head) = Head::parse(&request) {
                for (name, value) in head.for_host() {
                    prop_assert!(!name.is_empty() && !value.contains(&b'\n') && !value.contains(&b'\r'));
                }
            }
        }
    }
}
