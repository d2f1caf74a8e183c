//! What a command sends to its proxy: heads, targets and bodies, in any pieces, against a second reader that is not strict.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use capability::origin::Origin;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

use crate::network::{reread, same, same_but_path};
use crate::proxy::head::{Framing, Head};
use crate::proxy::refusal::Refusal;
use crate::proxy::target::{absolute, authority};
use crate::proxy::wire::{Unread, Wire};

/// Requests of one input at most.
const REQUESTS_MAX: usize = 16;

/// Of one body.
const BODY_BYTES_MAX: u32 = 4096;

/// What the proxy makes of what was sent.
#[derive(Debug, PartialEq)]
enum Seen {
    Request(Parts, Vec<u8>),
    /// A head whose body is refused or broken off, which ends the connection.
    Bodiless(Parts, Option<Refusal>),
    Refused(Refusal),
    BrokenOff,
}

/// A head as it can be compared.
#[derive(Debug, PartialEq)]
struct Parts {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    framing: Framing,
    expects: bool,
    last: bool,
}

/// The first byte says how long the pieces are; the rest is what was sent.
pub(crate) fn proxied(data: &[u8]) {
    let Some((piece, sent)) = data.split_first() else {
        return;
    };
    let seen = read(sent, usize::MAX);
    let pieces = read(sent, usize::from(*piece).max(1));
    assert_eq!(seen, pieces, "pieces matter");
    let mut left = sent;
    for one in &seen {
        match one {
            Seen::Request(head, body) => {
                left = second(left, head, Some(body));
                leads_to_one_host(head);
                is_passed_on_alike(head);
            }
            Seen::Bodiless(head, _) => drop(second(left, head, None)),
            Seen::Refused(_) | Seen::BrokenOff => break,
        }
    }
}

/// Reads requests until there are no more.
fn read(sent: &[u8], each: usize) -> Vec<Seen> {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(requests(Wire::new(Pieces { left: sent, each }))))
}

async fn requests(mut wire: Wire<Pieces<'_>>) -> Vec<Seen> {
    let mut seen = Vec::new();
    while seen.len() < REQUESTS_MAX {
        let head = match wire.head().await {
            Ok(Some(Ok(head))) => head,
            Ok(Some(Err(refusal))) => {
                seen.push(Seen::Refused(refusal));
                break;
            }
            Ok(None) => break,
            Err(_) => {
                seen.push(Seen::BrokenOff);
                break;
            }
        };
        let body = wire.body(head.framing, BODY_BYTES_MAX).await;
        let parts = Parts::of(head);
        match body {
            Ok(body) => seen.push(Seen::Request(parts, body)),
            Err(unread) => {
                let refusal = match unread {
                    Unread::Refused(refusal) => Some(refusal),
                    Unread::Gone => None,
                };
                seen.push(Seen::Bodiless(parts, refusal));
                break;
            }
        }
    }
    seen
}

impl Parts {
    fn of(head: Head) -> Parts {
        Parts {
            method: head.method,
            target: head.target,
            headers: head.headers,
            framing: head.framing,
            expects: head.expects,
            last: head.last,
        }
    }

    fn head(&self) -> Head {
        Head {
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            framing: self.framing,
            expects: self.expects,
            last: self.last,
        }
    }
}

/// Reads the same request as a careless server would, and comes to the same; gives what is left behind it.
fn second<'a>(sent: &'a [u8], head: &Parts, body: Option<&[u8]>) -> &'a [u8] {
    let end = sent
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let (text, mut left) = (&sent[..end], &sent[end + 4..]);
    // Empty lines before a request are skipped by many.
    let skipped = text
        .iter()
        .take_while(|byte| b"\r\n".contains(byte))
        .count();
    let mut lines = text[skipped..].split(|byte| *byte == b'\n');
    let line = String::from_utf8_lossy(lines.next().unwrap()).into_owned();
    let words: Vec<&str> = line.trim_end().split(' ').collect();
    assert_eq!(&words[..2], [&head.method, &head.target], "{line:?}");
    assert!(words.len() == 3 && words[2].starts_with("HTTP/1."));
    let fields: Vec<(String, Vec<u8>)> = lines.map(field).collect();
    assert_eq!(fields, head.headers, "the fields");
    let of = |wanted: &str| -> Vec<&[u8]> {
        let named = fields.iter().filter(|(name, _)| name == wanted);
        named.map(|(_, value)| value.as_slice()).collect()
    };
    let (lengths, codings) = (of("content-length"), of("transfer-encoding"));
    assert!(
        lengths.len() + codings.len() <= 1,
        "two framings: {fields:?}"
    );
    let Some(body) = body else { return left };
    let mut found = Vec::new();
    if let Some(length) = lengths.first() {
        let length: usize = std::str::from_utf8(length).unwrap().parse().unwrap();
        found.extend_from_slice(&left[..length]);
        left = &left[length..];
    } else if !codings.is_empty() {
        loop {
            let Ok(httparse::Status::Complete((at, length))) = httparse::parse_chunk_size(left)
            else {
                panic!("no chunk to another reader");
            };
            let length = usize::try_from(length).unwrap();
            found.extend_from_slice(&left[at..at + length]);
            left = &left[at + length + 2..];
            if length == 0 {
                break;
            }
        }
    }
    assert_eq!(found, body, "the body");
    left
}

/// The name in lower case and the value, by the first colon.
fn field(line: &[u8]) -> (String, Vec<u8>) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let colon = line.iter().position(|byte| *byte == b':').unwrap();
    let name = String::from_utf8_lossy(&line[..colon]);
    let value = line[colon + 1..].trim_ascii().to_vec();
    (name.trim().to_ascii_lowercase(), value)
}

/// Target and `Host` name the host that the URL standard's parser finds in them, and no other.
fn leads_to_one_host(head: &Parts) {
    let mut origins = vec![Origin::parse("https", "api.example.com").unwrap()];
    if let Ok(origin) = authority(&head.target) {
        if let Some(url) = reread(&origin, &format!("https://{}/", head.target)) {
            same(&origin, &url);
        }
        origins.push(origin);
    }
    if let Ok((origin, path)) = absolute(&head.target) {
        assert!(path.starts_with('/') && head.target.ends_with(path.trim_start_matches('/')));
        if let Some(url) = reread(&origin, &head.target) {
            same_but_path(&origin, &url);
        }
        origins.push(origin);
    }
    let hosts: Vec<_> = head.headers.iter().filter(|(n, _)| n == "host").collect();
    for origin in origins {
        if !head.head().is_for(&origin) {
            continue;
        }
        assert_eq!(hosts.len(), 1, "is for {origin} with {hosts:?}");
        let named = std::str::from_utf8(&hosts[0].1).unwrap();
        let url = reread(&origin, &format!("{}://{named}/", origin.scheme().as_str()));
        if let Some(url) = url {
            same(&origin, &url);
        }
    }
}

/// What is for the host speaks of no connection, and says the same to the next strict reader.
fn is_passed_on_alike(head: &Parts) {
    let passed = head.head().for_host();
    let listed: BTreeSet<String> = head
        .headers
        .iter()
        .filter(|(name, _)| name == "connection")
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_lowercase())
        .collect();
    let mut again = format!("{} {} HTTP/1.1\r\n", head.method, head.target).into_bytes();
    for (name, value) in &passed {
        let framing = ["host", "connection", "content-length", "transfer-encoding"];
        assert!(!framing.contains(&name.as_str()));
        // A name with `_` only looks like one of the proxy's: the door refuses it.
        assert!(!name.starts_with("proxy-") || name.contains('_'), "{name}");
        assert!(!listed.contains(name), "{name} was for this connection");
        let printable = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        assert!(value.iter().all(printable), "{name}: {value:?}");
        again.extend_from_slice(name.as_bytes());
        again.extend_from_slice(b": ");
        again.extend_from_slice(value);
        again.extend_from_slice(b"\r\n");
    }
    again.extend_from_slice(b"\r\n");
    let read = Head::parse(&again).unwrap();
    assert_eq!(
        (read.target.as_str(), read.framing, &read.headers),
        (head.target.as_str(), Framing::Length(0), &passed)
    );
}

/// A stream that gives so many bytes at a time, and takes whatever is written.
struct Pieces<'a> {
    left: &'a [u8],
    each: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.left.len().min(self.each).min(to.remaining());
        let (now, later) = self.left.split_at(length);
        to.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(from.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
