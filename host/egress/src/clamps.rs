//! How much of anything one exchange may take; heads are bounded in `capability::header`.

use std::time::Duration;

/// Answers of one call that are under way at one time.
pub(crate) const AT_ONE_TIME: usize = 8;

/// Names that one call may look up: a host pattern would otherwise make the resolver a way out.
pub(crate) const NAMES_MAX: usize = 64;

/// Addresses of a host that are tried.
pub(crate) const ADDRESSES_MAX: usize = 4;

/// How long a secret store may take: a program of the owner's, or a service.
pub(crate) const SECRET: Duration = Duration::from_secs(40);

/// The most that is waited, whatever a guest asks for.
#[derive(Debug, Clone, Copy)]
pub struct Clamps {
    /// Until a connection stands: the look-up, all addresses that are tried, TLS.
    pub connect: Duration,
    /// From there until the answer begins.
    pub first_byte: Duration,
    /// Between two pieces of the answer.
    pub between_bytes: Duration,
    /// From the request to the answer's end.
    pub whole: Duration,
}

impl Default for Clamps {
    fn default() -> Clamps {
        Clamps {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(120),
            between_bytes: Duration::from_secs(60),
            whole: Duration::from_secs(900),
        }
    }
}

/// The lesser of what a guest asks for and the clamp.
pub(crate) fn within(asked: Option<Duration>, clamp: Duration) -> Duration {
    asked.map_or(clamp, |asked| asked.min(clamp))
}
