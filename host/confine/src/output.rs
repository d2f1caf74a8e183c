//! Output with a cap: the beginning and the end are kept, the middle is counted and dropped.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use rustix::pipe::PipeFlags;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe::Receiver;

use crate::idle::Printed;

/// Bounded memory for an unbounded stream.
#[derive(Debug)]
pub(crate) struct Capture {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    half: usize,
    dropped: u64,
}

impl Capture {
    pub(crate) fn new(max: usize) -> Capture {
        Capture {
            head: Vec::new(),
            tail: std::collections::VecDeque::new(),
            half: (max / 2).max(1),
            dropped: 0,
        }
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) {
        let room = self.half.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.tail.extend(&bytes[room..]);
        let excess = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..excess);
        self.dropped += excess as u64;
    }

    /// What was kept, and whether something was not.
    pub(crate) fn finish(self) -> (Vec<u8>, bool) {
        let mut out = self.head;
        if self.dropped > 0 {
            out.extend_from_slice(format!("\n[… {} bytes left out …]\n", self.dropped).as_bytes());
        }
        out.extend(self.tail);
        (out, self.dropped > 0)
    }
}

/// A pipe for output: our end, and the program's.
pub(crate) fn pipe() -> std::io::Result<(Receiver, OwnedFd)> {
    let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((Receiver::from_owned_fd(ours)?, theirs))
}

/// Drains a stream to its end, and counts what comes.
pub(crate) async fn drain(
    mut stream: impl AsyncRead + Unpin,
    max: usize,
    printed: Printed,
) -> (Vec<u8>, bool) {
    let mut capture = Capture::new(max);
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        capture.take(&buffer[..read]);
        printed.fetch_add(read as u64, Ordering::Relaxed);
    }
    capture.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_tail_stay_whatever_the_chunks() {
        let text: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
        for chunk in [1, 7, 100, 1000] {
            let mut capture = Capture::new(20);
            text.chunks(chunk).for_each(|part| capture.take(part));
            let (kept, truncated) = capture.finish();
            assert!(
                truncated && kept.starts_with(&text[..10]) && kept.ends_with(&text[990..]),
                "{chunk}"
            );
            assert!(kept.len() < 80);
        }
        let mut short = Capture::new(20);
        short.take(b"all of it");
        assert_eq!(short.finish(), (b"all of it".to_vec(), false));
    }
}
