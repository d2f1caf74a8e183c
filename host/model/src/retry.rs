//! When to try again.

use std::time::Duration;

/// How long to wait between calls, and how often to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second call, at most; doubled for each further one.
    pub base: Duration,
    /// Never longer than this by our own choice.
    pub longest: Duration,
    /// A provider that asks for a longer pause than this is taken as unavailable.
    pub patience: Duration,
    /// Calls while the provider is overloaded or unreachable.
    pub calls: u32,
    /// Calls while answers break off: each of them may be paid for.
    pub broken_calls: u32,
}

impl Backoff {
    /// For providers as they are: an overload lasts seconds to minutes.
    pub const STANDARD: Backoff = Backoff {
        base: Duration::from_secs(2),
        longest: Duration::from_secs(60),
        patience: Duration::from_secs(300),
        calls: 6,
        broken_calls: 3,
    };

    /// The pause after the call numbered `call` (from 1), or `None` when the provider asks for too long a one.
    ///
    /// `jitter` is a random number from 0 to 1: clients that failed together must not come back together. What the
    /// provider asks for is a least; up to a quarter is added.
    pub fn pause(&self, call: u32, retry_after: Option<Duration>, jitter: f64) -> Option<Duration> {
        let jitter = jitter.clamp(0.0, 1.0);
        match retry_after {
            Some(asked) if asked > self.patience => None,
            Some(asked) => Some(asked.mul_f64(1.0 + jitter / 4.0)),
            None => {
                let doubled = self
                    .base
                    .saturating_mul(1 << (call.saturating_sub(1)).min(16));
                Some(doubled.min(self.longest).mul_f64(0.5 + jitter / 2.0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_follow_the_provider() {
        let backoff = Backoff::STANDARD;
        let ms = |call, jitter| {
            backoff
                .pause(call, None, jitter)
                .map_or(0, |pause| pause.as_millis())
        };
        assert_eq!([ms(1, 0.0), ms(1, 1.0)], [1_000, 2_000]);
        assert_eq!([ms(2, 0.0), ms(2, 1.0)], [2_000, 4_000]);
        assert_eq!([ms(30, 0.0), ms(30, 1.0)], [30_000, 60_000]);
        let asked = |seconds| backoff.pause(1, Some(Duration::from_secs(seconds)), 1.0);
        assert_eq!(asked(0), Some(Duration::ZERO));
        assert_eq!(asked(8), Some(Duration::from_secs(10)));
        assert_eq!(asked(301), None);
    }
}
