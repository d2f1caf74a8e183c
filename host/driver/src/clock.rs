//! The time of day, read in one place, and the even time of a run.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// The time of a run's events while one process drives it: the time of day at which it began, and what has passed since.
///
/// What a step takes counts against the run's budget. A clock that is put forward by a day meanwhile must not use that up, and one that is put back
/// must not stop it.
#[derive(Debug)]
pub(crate) struct RunClock {
    began_ms: u64,
    began: Instant,
}

impl RunClock {
    /// Goes on from the last event, also where the clock was ahead when that was recorded.
    pub(crate) fn new(now_ms: u64, last_ms: u64) -> RunClock {
        RunClock {
            began_ms: now_ms.max(last_ms),
            began: Instant::now(),
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.began_ms.saturating_add(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_clock_that_was_put_back_does_not_stop_a_run() {
        const DAY: u64 = 86_400_000;
        let clock = RunClock::new(5 * DAY, 9 * DAY);
        assert!(clock.now_ms() >= 9 * DAY);
        std::thread::sleep(Duration::from_millis(20));
        assert!(clock.now_ms() >= 9 * DAY + 20);
        assert!(RunClock::new(9 * DAY, 5 * DAY).now_ms() >= 9 * DAY);
    }
}
