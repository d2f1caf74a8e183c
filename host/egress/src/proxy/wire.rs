//! The bytes of one connection with a command: bounded in size and time, whatever it sends or does not read.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::proxy::head::{Framing, Head};
use crate::proxy::refusal::{BODY_TOO_LARGE, HEAD_TOO_LARGE, MALFORMED, Refusal};

/// Of one request's head; a path of 8 KiB and headers of 32 KiB lead on.
const HEAD_BYTES_MAX: usize = 48 << 10;

/// Of one request's body, whatever the grant says: it is held in memory, since it has to be looked through before any of it leaves.
pub(crate) const BODY_BYTES_MAX: u32 = 64 << 20;

/// The length of a chunk, with its line end.
const CHUNK_LINE_MAX: usize = 10;

/// Between two requests, between two pieces of one, and for a piece of an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is read of a command that goes on sending after its refusal, so that the refusal is not lost to it.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Wire<S> {
    stream: S,
    read: BytesMut,
}

/// Why a body was not read.
pub(crate) enum Unread {
    Refused(Refusal),
    /// Whoever sent it is gone, or silent.
    Gone,
}

impl From<Error> for Unread {
    fn from(_: Error) -> Unread {
        Unread::Gone
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Wire<S> {
        Wire {
            stream,
            read: BytesMut::new(),
        }
    }

    /// The stream itself, if nothing was read ahead of it.
    pub(crate) fn into_stream(self) -> Option<S> {
        self.read.is_empty().then_some(self.stream)
    }

    /// The next request's head; none at the end of the connection.
    pub(crate) async fn head(&mut self) -> Result<Option<std::result::Result<Head, Refusal>>> {
        let mut searched = 0;
        loop {
            let found = self.read[searched..]
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                let head = self.read.split_to(searched + at + 4);
                return Ok(Some(Head::parse(&head)));
            }
            // Those who end their lines otherwise would be waited for in vain.
            if self.read[searched..].windows(2).any(|two| two == b"\n\n") {
                return Ok(Some(Err(MALFORMED)));
            }
            searched = self.read.len().saturating_sub(3);
            if self.read.len() > HEAD_BYTES_MAX {
                return Ok(Some(Err(HEAD_TOO_LARGE)));
            }
            match self.more().await {
                Ok(()) => {}
                Err(_) if self.read.is_empty() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// A request's body, if it has no more than `max` bytes.
    pub(crate) async fn body(
        &mut self,
        framing: Framing,
        max: u32,
    ) -> std::result::Result<Vec<u8>, Unread> {
        let max = max as usize;
        match framing {
            Framing::Length(length) => {
                let length = usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= max)
                    .ok_or(Unread::Refused(BODY_TOO_LARGE))?;
                while self.read.len() < length {
                    self.more().await?;
                }
                Ok(self.read.split_to(length).to_vec())
            }
            Framing::Chunked => self.chunks(max).await,
        }
    }

    /// Chunks without extensions, and no trailers: nobody needs them, and they say things after the fact.
    async fn chunks(&mut self, max: usize) -> std::result::Result<Vec<u8>, Unread> {
        let malformed = || Unread::Refused(MALFORMED);
        let mut body = Vec::new();
        loop {
            let length = loop {
                let begin = &self.read[..self.read.len().min(CHUNK_LINE_MAX)];
                if let Some(at) = begin.windows(2).position(|two| two == b"\r\n") {
                    let line = self.read.split_to(at + 2);
                    break hexadecimal(&line[..at]).ok_or_else(malformed)?;
                }
                if begin.len() == CHUNK_LINE_MAX {
                    return Err(malformed());
                }
                self.more().await?;
            };
            if body.len().saturating_add(length) > max {
                return Err(Unread::Refused(BODY_TOO_LARGE));
            }
            while self.read.len() < length + 2 {
                self.more().await?;
            }
            body.extend_from_slice(&self.read.split_to(length));
            if *self.read.split_to(2) != *b"\r\n" {
                return Err(malformed());
            }
            if length == 0 {
                return Ok(body);
            }
        }
    }

    /// Writes all of this, to a reader that takes it in time.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, written)
            .await
            .map_err(|_| Error::from(ErrorKind::TimedOut))?
    }

    /// Ends the connection so that what was written arrives: data that nobody read would let the kernel throw it away.
    pub(crate) async fn end(mut self) {
        let rest = async {
            self.stream.shutdown().await?;
            let (mut taken, mut buffer) = (0, [0; 4096]);
            while taken < LINGER_BYTES_MAX {
                match self.stream.read(&mut buffer).await? {
                    0 => break,
                    read => taken += read,
                }
            }
            Result::Ok(())
        };
        let _ = timeout(LINGER, rest).await;
    }

    async fn more(&mut self) -> Result<()> {
        match timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await {
            Ok(Ok(0)) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(other) => other.map(drop),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        }
    }
}

fn hexadecimal(digits: &[u8]) -> Option<usize> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| plain)?;
    usize::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    async fn body(
        sent: &[u8],
        framing: Framing,
        max: u32,
    ) -> Option<std::result::Result<Vec<u8>, Refusal>> {
        let mut all = Vec::new();
        for piece in [1, 3, 4096] {
            let (mut from, to) = tokio::io::duplex(piece);
            let sent = sent.to_vec();
            let writer = tokio::spawn(async move { from.write_all(&sent).await });
            all.push(match Wire::new(to).body(framing, max).await {
                Ok(body) => Some(Ok(body)),
                Err(Unread::Refused(refusal)) => Some(Err(refusal)),
                Err(Unread::Gone) => None,
            });
            writer.abort();
        }
        assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
        all.remove(0)
    }

    #[tokio::test]
    async fn chunks_are_read_strictly_and_within_their_bound() {
        for (sent, read) in [
            (&b"3\r\nabc\r\n0\r\n\r\n"[..], Some(Ok(b"abc".to_vec()))),
            (
                b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\nGET",
                Some(Ok(b"abc".to_vec())),
            ),
            (b"0\r\n\r\n", Some(Ok(vec![]))),
            (b"3;x=y\r\nabc\r\n0\r\n\r\n", Some(Err(MALFORMED))),
            (b"+3\r\nabc\r\n0\r\n\r\n", Some(Err(MALFORMED))),
            (b"0x3\r\nabc\r\n0\r\n\r\n", Some(Err(MALFORMED))),
            (b"-1\r\nabc\r\n0\r\n\r\n", Some(Err(MALFORMED))),
            (b"\r\nabc\r\n0\r\n\r\n", Some(Err(MALFORMED))),
            (b"3\nabc\n0\n\n000000", Some(Err(MALFORMED))),
            (b"3\r\nabcd\r\n0\r\n\r\n", Some(Err(MALFORMED))),
            (b"0\r\nHost: evil\r\n\r\n", Some(Err(MALFORMED))),
            (b"00000000000003\r\nabc", Some(Err(MALFORMED))),
            (b"ffffffff\r\nabc", Some(Err(BODY_TOO_LARGE))),
            (
                b"8\r\nabcdefgh\r\n8\r\nabcdefgh\r\n",
                Some(Err(BODY_TOO_LARGE)),
            ),
            (b"3\r\nab", None),
        ] {
            let text = String::from_utf8_lossy(sent);
            assert_eq!(body(sent, Framing::Chunked, 10).await, read, "{text}");
        }
        assert_eq!(
            body(b"abcdef", Framing::Length(3), 3).await,
            Some(Ok(b"abc".to_vec()))
        );
        assert_eq!(
            body(b"abcdef", Framing::Length(4), 3).await,
            Some(Err(BODY_TOO_LARGE))
        );
        assert_eq!(body(b"ab", Framing::Length(3), 3).await, None);
    }
}
