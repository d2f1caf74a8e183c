//! Why a model gave no answer, and who must act on it.

/// No answer. Texts from providers are untrusted and hold no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// `models.toml` has no model of this name.
    #[error("models.toml has no [model.{model}]")]
    NotConfigured {
        /// The name.
        model: String,
    },
    /// A provider cannot be used as configured.
    #[error("provider `{provider}` cannot be used: {why}")]
    Setup {
        /// The provider.
        provider: String,
        /// What is wrong.
        why: String,
    },
    /// The provider refused the key or the account.
    #[error("provider `{provider}` refused this machine's key with status {status}: {message}")]
    Unauthorised {
        /// The provider.
        provider: String,
        /// 401, 402 or 403.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The request is malformed, or the provider refused it as such.
    #[error("the request was refused: {why}")]
    Invalid {
        /// What is wrong.
        why: String,
    },
    /// Less is left of the budget than one more call may take.
    #[error("{last}; the budget does not allow another call")]
    OutOfBudget {
        /// What became of the call before.
        last: String,
    },
    /// What a call may take or took could not be recorded.
    #[error("a model call could not be recorded: {why}")]
    Unrecorded {
        /// What is wrong.
        why: String,
    },
    /// The provider stayed overloaded or unreachable.
    #[error("no answer after {calls} calls: {last}")]
    Unavailable {
        /// How often it was tried.
        calls: u32,
        /// The last failure.
        last: String,
    },
    /// The answers broke off or made no sense.
    #[error("no whole answer after {calls} calls: {last}")]
    Broken {
        /// How often it was tried.
        calls: u32,
        /// The last failure.
        last: String,
    },
}
