//! A short wait that does not sleep: when the other side answers in a few microseconds, being woken would take longer than its answer.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;

/// How long it stays awake: about what it costs to fall asleep and to be woken.
const AWAKE: Duration = Duration::from_micros(25);

/// The most waits in a row that sleep at once, after it was awake in vain.
const ASLEEP_MAX: u32 = 256;

/// Stays awake where that helped the last time, and tries again ever more rarely where it did not: a side that waits for something slow costs
/// nobody else's processor.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Waits that still sleep at once.
    asleep: u32,
    /// How many will, after the next one in vain.
    next: u32,
    /// Where there is one processor only, nobody answers while this one waits awake.
    is_alone: bool,
}

impl Patience {
    pub(crate) fn new() -> Patience {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Patience {
            asleep: 0,
            next: 1,
            is_alone: processors == 1,
        }
    }

    /// Returns when there is something to read of the socket, or it is time to sleep.
    pub(crate) fn wait(&mut self, socket: impl AsFd) {
        if self.is_alone {
            return;
        }
        if self.asleep > 0 {
            self.asleep -= 1;
            return;
        }
        let begun = Instant::now();
        loop {
            if has_something(&socket) {
                self.next = 1;
                return;
            }
            if begun.elapsed() >= AWAKE {
                self.asleep = self.next;
                self.next = (self.next * 2).min(ASLEEP_MAX);
                return;
            }
            std::hint::spin_loop();
        }
    }
}

/// Also at its end, and on an error: whoever reads finds out.
fn has_something(socket: impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let mut byte = [0_u8];
    !matches!(
        rustix::net::recv(socket, &mut byte, flags),
        Err(rustix::io::Errno::AGAIN)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_there_stays_there_and_what_is_not_is_not_waited_for_without_end() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let mut patience = Patience {
            is_alone: false,
            ..Patience::new()
        };
        for n in 0..100 {
            patience.wait(&ours);
            assert!(patience.asleep <= ASLEEP_MAX, "{n}");
        }
        theirs.write_all(b"answer").unwrap();
        patience.asleep = 0;
        patience.wait(&ours);
        assert_eq!((patience.asleep, patience.next), (0, 1));
        let mut read = [0; 6];
        ours.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"answer");
        drop(theirs);
        patience.wait(&ours);
        assert_eq!(
            (patience.asleep, patience.next),
            (0, 1),
            "an end is something"
        );
    }
}
