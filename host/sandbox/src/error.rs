//! Why a component is not loaded, and why a call has no answer. Each case is somebody's to mend.

use flow::id::Role;

/// Why a component is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bytes are no component.
    #[error("not a WebAssembly component: {why}")]
    NotAComponent {
        /// What the parser says.
        why: String,
    },
    /// The component is larger than any skill needs to be.
    #[error("the component has {bytes} bytes, the most is {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It imports what its manifest does not declare, or its grant does not hold.
    #[error("it imports `{import}`, which is not granted; it would need `{line}`")]
    NotGranted {
        /// The import.
        import: String,
        /// The line that would declare it.
        line: String,
    },
    /// It imports what no manifest of this version can declare.
    #[error("it imports `{import}`, which this version of moat cannot grant")]
    Unknown {
        /// The import.
        import: String,
    },
    /// It exports another role than its manifest names.
    #[error("its manifest says role `{role}`, but it exports {exports:?} instead of `{wanted}`")]
    WrongRole {
        /// The manifest's.
        role: Role,
        /// The interface that the role needs.
        wanted: String,
        /// What it exports.
        exports: Vec<String>,
    },
    /// It could not be compiled within its limits.
    #[error("it cannot be compiled: {why}")]
    Compile {
        /// What happened.
        why: String,
    },
    /// The worker that compiled it was killed, by nothing that it did: another try may pass.
    #[error("the worker that compiled it died: {how}")]
    WorkerDied {
        /// How it ended.
        how: String,
    },
    /// The cache of compiled components cannot be used.
    #[error("the cache of compiled components failed at {what}: {error}")]
    Cache {
        /// At what.
        what: &'static str,
        /// The system's answer.
        error: std::io::Error,
    },
    /// No worker could be confined.
    #[error(transparent)]
    Confine(#[from] confine::ConfineError),
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The guest trapped.
    #[error("the skill trapped: {message}")]
    Trap {
        /// What wasmtime says; may hold the guest's own names.
        message: String,
        /// The beginning of what it printed, such as a panic's words: for its author, untrusted.
        printed: String,
    },
    /// It used all its fuel.
    #[error("the skill used all its fuel")]
    OutOfFuel,
    /// It reached its deadline.
    #[error("the skill reached its deadline of {wall_ms} ms")]
    OutOfTime {
        /// The deadline.
        wall_ms: u64,
    },
    /// It was refused memory and could not go on.
    #[error("the skill needed more than {memory_bytes} bytes of memory")]
    OutOfMemory {
        /// The limit.
        memory_bytes: u64,
    },
    /// It wrote more to its view than a skill may, or the disk was about to be full.
    #[error("the skill filled the disk")]
    DiskFull,
    /// It called the host too often.
    #[error("the skill made more than {max} host calls")]
    TooManyHostCalls {
        /// The limit.
        max: u64,
    },
    /// Its result is too large.
    #[error("the skill's result is larger than {max} bytes")]
    OutputTooLarge {
        /// The limit.
        max: u64,
    },
    /// The input does not have the type of the role's parameter.
    #[error("the input does not fit the role: {why}")]
    InvalidInput {
        /// Where and how.
        why: String,
    },
    /// The output is no JSON, or not of the role's type.
    #[error("the output does not fit the role: {why}")]
    InvalidOutput {
        /// Where and how.
        why: String,
        /// The beginning of what it printed: for its author, untrusted.
        printed: String,
    },
    /// The worker could not load or link the component.
    #[error("the skill could not be opened in its worker: {why}")]
    NotOpened {
        /// What happened.
        why: String,
    },
    /// An earlier call of the session ended its worker.
    #[error("the session has ended with an earlier call: {why}")]
    Poisoned {
        /// What became of that call.
        why: String,
    },
    /// What it did could not be recorded: nothing goes on that leaves no trace.
    #[error("the skill was stopped: {why}")]
    Unrecorded {
        /// Why not.
        why: String,
    },
    /// What is recorded of the call makes no sense.
    #[error(
        "what is recorded of the call cannot be read: cancel the run, or use the moat that wrote it"
    )]
    Unreadable,
    /// It was taken up again, and asked something else than it had.
    #[error(
        "the skill was taken up again and did otherwise: host call {number} was {recorded}, now it asked {asked}"
    )]
    Diverged {
        /// Of the host call.
        number: u64,
        /// What it had asked; untrusted.
        recorded: String,
        /// What it asked now; untrusted.
        asked: String,
    },
    /// It was interrupted in the middle of something that may have happened, and is not to happen twice.
    #[error("whether this happened is not known: {what}")]
    Unknown {
        /// Of the host call.
        number: u64,
        /// What, for people; holds the guest's own words.
        what: String,
    },
    /// The worker broke the protocol: it may be under the guest's control.
    #[error("the worker broke the protocol: {why}")]
    Protocol {
        /// How.
        why: String,
    },
    /// The worker died.
    #[error("the worker died: {how}")]
    WorkerDied {
        /// How, and the end of what it printed.
        how: String,
    },
    /// No worker could be confined.
    #[error(transparent)]
    Confine(#[from] confine::ConfineError),
}
