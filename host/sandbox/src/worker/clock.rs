//! A guest's time: real where it goes on for the first time, as recorded where it is taken up again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

use crate::recording::{Began, Times};

/// The real time is taken when it is as far ahead: each such reading is recorded.
const AHEAD_NS: u64 = 1_000_000;

/// Readings that took the real time, after which it must be twice as far ahead: a guest that does nothing but look at the clock is recorded too.
const TICKS_PER_DOUBLING: u64 = 8192;

/// The clock of one call. It never stands still and never goes back. Of a call that was taken up again it is behind the world's by as long as nobody
/// was there.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Mutex<State>>);

struct State {
    began_ns: u64,
    /// What the record has of readings to come.
    recorded: VecDeque<(u64, u64)>,
    /// How many readings the record covers.
    covered: u64,
    readings: u64,
    /// What the last reading gave, since the beginning.
    last_ns: u64,
    /// Readings since the broker was told that took the real time.
    untold: Vec<(u64, u64)>,
    taken: u64,
    /// Where the record ends. Time in which nobody ran is none: what the guest gives itself until it stops would be over after a night.
    base_ns: u64,
    taken_up: Instant,
}

impl Clock {
    /// Begins, or goes on after what is recorded.
    pub(crate) fn new(began: &Began, recorded: Times) -> Clock {
        let last_ns = recorded.ticks.last().map_or(0, |tick| tick.1);
        Clock(Arc::new(Mutex::new(State {
            began_ns: began.at_ns,
            covered: recorded.readings,
            taken: recorded.ticks.len() as u64,
            recorded: recorded.ticks.into(),
            readings: 0,
            last_ns: 0,
            untold: Vec::new(),
            base_ns: last_ns,
            taken_up: Instant::now(),
        })))
    }

    /// What the broker was not told yet.
    pub(crate) fn told(&self) -> Times {
        let mut state = self.state();
        Times {
            readings: state.readings,
            ticks: std::mem::take(&mut state.untold),
        }
    }

    fn read(&self) -> u64 {
        self.state().read()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self) -> u64 {
        self.readings += 1;
        self.last_ns += 1;
        if self.readings > self.covered {
            let since = self.taken_up.elapsed().as_nanos();
            let real_ns = self
                .base_ns
                .saturating_add(u64::try_from(since).unwrap_or(u64::MAX));
            let ahead_ns = AHEAD_NS << (self.taken / TICKS_PER_DOUBLING).min(32);
            if real_ns > self.last_ns.saturating_add(ahead_ns) {
                self.last_ns = real_ns;
                self.taken += 1;
                self.untold.push((self.readings, real_ns));
            }
        } else if let Some(tick) = self.recorded.front().copied()
            && tick.0 == self.readings
        {
            self.recorded.pop_front();
            self.last_ns = tick.1;
        }
        self.last_ns
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(AHEAD_NS)
    }

    fn now(&self) -> Duration {
        let mut state = self.state();
        let since_ns = state.read();
        Duration::from_nanos(state.began_ns.saturating_add(since_ns))
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        AHEAD_NS
    }

    fn now(&self) -> u64 {
        self.read()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    fn began() -> Began {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Began {
            seed: [0; 32],
            at_ns: now.as_nanos() as u64,
        }
    }

    fn readings(clock: &Clock, count: usize) -> Vec<u64> {
        (0..count).map(|_| clock.read()).collect()
    }

    #[test]
    fn time_goes_on_and_a_record_of_it_gives_the_same() {
        let began = began();
        let clock = Clock::new(&began, Times::default());
        let mut first = readings(&clock, 1000);
        std::thread::sleep(Duration::from_millis(20));
        first.extend(readings(&clock, 1000));
        assert!(first.is_sorted_by(|a, b| a < b));
        assert!(first[1000] - first[999] > 15_000_000, "it slept");
        let told = clock.told();
        assert_eq!(told.readings, 2000);
        assert!(!told.ticks.is_empty() && told.ticks.len() < 500);
        assert!(clock.told().ticks.is_empty(), "told once");

        let again = Clock::new(&began, told);
        assert_eq!(readings(&again, 2000), first);
        let later = again.read();
        assert!(later > first[1999]);
        assert_eq!(again.told().readings, 2001);
    }

    #[test]
    fn time_in_which_nobody_ran_is_none() {
        let mut began = began();
        began.at_ns -= 8 * 3_600_000_000_000;
        let recorded = Times {
            readings: 2,
            ticks: vec![(1, 5_000_000_000)],
        };
        let clock = Clock::new(&began, recorded);
        readings(&clock, 2);
        std::thread::sleep(Duration::from_millis(5));
        let later = clock.read();
        assert!((5_001_000_000..65_000_000_000).contains(&later), "{later}");
    }

    #[test]
    fn a_machine_whose_clock_was_set_back_does_not_stop_time() {
        let mut began = began();
        began.at_ns += 3_600_000_000_000;
        let recorded = Times {
            readings: 3,
            ticks: vec![(2, 5_000_000_000)],
        };
        let clock = Clock::new(&began, recorded);
        assert_eq!(readings(&clock, 3), [1, 5_000_000_000, 5_000_000_001]);
        std::thread::sleep(Duration::from_millis(20));
        assert!(clock.read() > 5_010_000_000);
    }

    #[test]
    fn a_guest_that_only_looks_at_the_clock_leaves_a_bounded_record() {
        let mut state = Clock::new(&began(), Times::default());
        let state = Arc::get_mut(&mut state.0).unwrap().get_mut().unwrap();
        // Ten minutes, in which it looks every microsecond or so.
        for _ in 0..600_000 {
            state.base_ns += 1_000_001;
            state.read();
        }
        assert!(state.untold.len() < 80_000, "{}", state.untold.len());
    }
}
