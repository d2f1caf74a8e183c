//! Answers to a command: what the host said, passed on as it comes, or a refusal.

use std::io::{Error, ErrorKind, Result};

use capability::header::ends_with_the_connection;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::proxy::refusal::Refusal;
use crate::proxy::wire::Wire;
use crate::reply::{Reply, ReplyBody};

/// How the end of an answer is known.
enum End {
    /// There is no body, whatever the headers say of one.
    None,
    At(u64),
    Chunked,
}

/// Passes an answer on. An error leaves it visibly incomplete: the connection has to be closed.
pub(crate) async fn pass_on<S>(
    wire: &mut Wire<S>,
    method: &str,
    reply: Reply,
    last: bool,
) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Others change the protocol, or are for those who asked for them.
    if !(200..=599).contains(&reply.status) {
        return Err(ErrorKind::InvalidData.into());
    }
    let length = length(&reply);
    let end = match (method, reply.status) {
        ("HEAD", _) | (_, 204 | 304) => End::None,
        _ => length.map_or(End::Chunked, End::At),
    };
    let mut head = status_line(reply.status).into_bytes();
    for (name, value) in &reply.headers {
        // Framing and the connection are this proxy's own.
        if !ends_with_the_connection(name) {
            line(&mut head, name, value);
        }
    }
    match (&end, length) {
        (End::Chunked, _) => line(&mut head, "transfer-encoding", b"chunked"),
        (_, Some(length)) if reply.status != 204 => {
            line(&mut head, "content-length", length.to_string().as_bytes());
        }
        _ => {}
    }
    if last {
        line(&mut head, "connection", b"close");
    }
    head.extend_from_slice(b"\r\n");
    wire.write(&head).await?;
    body(wire, reply.body, end).await
}

async fn body<S>(wire: &mut Wire<S>, mut body: ReplyBody, end: End) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut left = match end {
        End::At(length) => length,
        End::None | End::Chunked => 0,
    };
    while let Some(bytes) = body.chunk().await.map_err(Error::other)? {
        if bytes.is_empty() {
            continue;
        }
        match end {
            End::None => {}
            End::At(_) => {
                left = left
                    .checked_sub(bytes.len() as u64)
                    .ok_or(ErrorKind::InvalidData)?;
                wire.write(&bytes).await?;
            }
            End::Chunked => {
                let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                chunk.extend_from_slice(&bytes);
                chunk.extend_from_slice(b"\r\n");
                wire.write(&chunk).await?;
            }
        }
    }
    if left > 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if matches!(end, End::Chunked) {
        let mut rest = b"0\r\n".to_vec();
        for (name, value) in body.trailers() {
            line(&mut rest, name, value);
        }
        rest.extend_from_slice(b"\r\n");
        wire.write(&rest).await?;
    }
    Ok(())
}

/// Tells a refusal, after which the connection is closed: what else was sent on it is not read.
pub(crate) async fn refuse<S>(wire: &mut Wire<S>, refusal: Refusal) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let text = format!("moat: {}\n", refusal.text);
    let mut answer = status_line(refusal.status).into_bytes();
    line(&mut answer, "content-type", b"text/plain");
    line(
        &mut answer,
        "content-length",
        text.len().to_string().as_bytes(),
    );
    line(&mut answer, "connection", b"close");
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(text.as_bytes());
    wire.write(&answer).await
}

fn status_line(status: u16) -> String {
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or_default())
}

/// Names and values come from a parsed header, which holds no line end.
fn line(to: &mut Vec<u8>, name: &str, value: &[u8]) {
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(b": ");
    to.extend_from_slice(value);
    to.extend_from_slice(b"\r\n");
}

/// The one length that the answer tells, if it does.
fn length(reply: &Reply) -> Option<u64> {
    let mut told = reply
        .headers
        .iter()
        .filter(|(name, _)| name == "content-length");
    let (_, value) = told.next()?;
    let digits = std::str::from_utf8(value).ok()?;
    let plain = told.next().is_none() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}
