//! Why a call outside did not do its work.

/// No answer, or one that cannot be used. Never holds a secret or an address with one.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The address is not one of this machine's loopback.
    #[error("only http on a loopback address may be probed")]
    NotLoopback,
    /// Nobody answered.
    #[error("no answer: {why}")]
    Unreachable {
        /// What the system says.
        why: String,
    },
    /// An answer did not begin or did not go on in time.
    #[error("nothing came for {seconds} s")]
    TimedOut {
        /// How long was waited.
        seconds: u64,
    },
    /// An answer went on and on.
    #[error("the answer was not whole after {seconds} s")]
    Endless {
        /// The cap.
        seconds: u64,
    },
    /// The answer is no HTTP.
    #[error("the answer is no HTTP")]
    NotHttp,
    /// The answer ended before it was whole.
    #[error("the answer broke off: {why}")]
    BrokeOff {
        /// What the transport says.
        why: String,
    },
    /// The answer is larger than any should be.
    #[error("the answer has more than {bytes_max} bytes")]
    TooLarge {
        /// The cap.
        bytes_max: usize,
    },
    /// The door cannot be set up as configured.
    #[error("{why}")]
    Setup {
        /// What is wrong.
        why: String,
    },
}
