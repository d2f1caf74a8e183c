//! What crosses the socket between worker and broker, and the records of `wit/host` as JSON carries them.
//!
//! Frames are a 4-byte little-endian length and that many bytes of JSON. WIT values become JSON by their types: records are objects with the
//! WIT names, variants `"case"` or `{"case": value}`, options the value or null, results `{"ok": …}` or `{"err": …}`.

use std::io::Read;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// No frame is larger: a result or a host call's arguments, as JSON.
pub const FRAME_BYTES_MAX: usize = 96 << 20;

/// Values in one frame. Each takes some 100 bytes once it is read, however short it was written.
const FRAME_VALUES_MAX: usize = 2_000_000;

/// Whether JSON holds few enough values to be read; says nothing about whether it is JSON.
pub(crate) fn is_sparse(json: &[u8]) -> bool {
    let (mut values, mut in_string, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b':' | b'[' | b'{' if !in_string => values += 1,
            _ => {}
        }
    }
    values <= FRAME_VALUES_MAX
}

/// From broker to worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// Compile `/component.wasm` into `/out/component.cwasm`.
    Compile,
    /// Load and link `/component.cwasm`, once, before the first call.
    Open(OpenRequest),
    /// Run a role function, or a WASI command.
    Run(Box<RunRequest>),
    /// The answer to the host call under way: its WIT result.
    Answer(Value),
}

/// What holds for all calls of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OpenRequest {
    pub(crate) files: Files,
    /// Granted host interfaces, without version.
    pub(crate) interfaces: Vec<String>,
}

/// A call, as the worker needs it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunRequest {
    pub(crate) role: String,
    pub(crate) input: Value,
    pub(crate) limits: capability::Limits,
    pub(crate) env: Vec<(String, String)>,
}

/// What the guest's file system holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Files {
    None,
    ReadOnly,
    /// Parts of it; the kernel's mounts say which.
    ReadWrite,
}

/// From worker to broker. Untrusted: the guest may have taken the worker over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToBroker {
    /// Compiled.
    Compiled,
    /// Loaded and linked.
    Opened,
    /// It could not be compiled, or not opened.
    Failed(String),
    /// A call of a host function.
    Call {
        interface: String,
        function: String,
        args: Vec<Value>,
    },
    /// The end.
    Done(Box<Done>),
}

/// How a call ended, as the worker tells it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) outcome: Result<Value, Failure>,
    pub(crate) fuel: u64,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) printed: String,
}

/// Why there is no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    Trap(String),
    OutOfFuel,
    OutOfTime,
    OutOfMemory,
    InvalidInput(String),
    InvalidOutput(String),
}

/// A message as one frame, to be written whole.
pub(crate) fn frame(message: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    let told = u32::try_from(length)
        .ok()
        .filter(|_| length <= FRAME_BYTES_MAX);
    let told = told.ok_or_else(|| std::io::Error::other("the frame is too large"))?;
    frame[..4].copy_from_slice(&told.to_le_bytes());
    Ok(frame)
}

/// Reads one frame; `None` at the end of the stream.
pub(crate) fn read_frame<T: for<'de> Deserialize<'de>>(
    stream: &mut impl Read,
) -> std::io::Result<Option<T>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(std::io::Error::other("the frame is too large"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// `moat:host/process`.
pub mod process {
    use serde::{Deserialize, Serialize};

    /// A command to run.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    pub struct Command {
        /// What.
        pub what: Invocation,
        /// Relative to the root of the view.
        pub directory: String,
        /// Standard input.
        pub stdin: Vec<u8>,
        /// Wall clock.
        pub timeout_ms: Option<u64>,
    }

    /// The two ways to name a command.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Invocation {
        /// Of the project.
        Project(ProjectInvocation),
        /// Of the machine.
        Program(ProgramInvocation),
    }

    /// A project command.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    pub struct ProjectInvocation {
        /// Its name.
        pub name: String,
        /// Appended.
        pub extra_args: Vec<String>,
    }

    /// A program.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    pub struct ProgramInvocation {
        /// Its name.
        pub program: String,
        /// Its arguments.
        pub args: Vec<String>,
    }

    /// What it left behind.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub struct Output {
        /// How it ended.
        pub ending: Ending,
        /// Its output.
        pub stdout: String,
        /// Its errors.
        pub stderr: String,
        /// Whether either was cut.
        pub truncated: bool,
        /// Wall clock.
        pub duration_ms: u64,
    }

    /// How it ended.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Ending {
        /// With this status.
        Exited(i32),
        /// By this signal.
        Signalled(i32),
        /// At its deadline.
        Deadline,
    }

    /// Why it was not run.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum ProcessError {
        /// Not granted.
        Denied,
        /// No such command or program.
        NotFound,
        /// Malformed.
        Invalid(String),
        /// A budget is used up.
        OutOfBudget,
        /// It could not be confined or started.
        Unavailable(String),
    }

    /// A command that the project offers.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub struct ProjectCommand {
        /// Its name.
        pub name: String,
        /// Program and arguments.
        pub argv: Vec<String>,
    }
}

/// `moat:host/model`.
pub mod model {
    use serde::{Deserialize, Serialize};

    /// Whose turn.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Speaker {
        /// The skill's.
        User,
        /// The model's.
        Assistant,
    }

    /// A tool on offer.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    pub struct Tool {
        /// Its name.
        pub name: String,
        /// What it does.
        pub description: String,
        /// JSON Schema.
        pub input_schema: String,
    }

    /// One part of a message.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Content {
        /// Words.
        Text(String),
        /// The model asks for a tool.
        ToolUse(ToolUse),
        /// The skill answers.
        ToolResult(ToolResult),
    }

    /// The model asks for a tool.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    pub struct ToolUse {
        /// Its id.
        pub id: String,
        /// The tool.
        pub name: String,
        /// JSON.
        pub input: String,
    }

    /// The skill's answer.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    pub struct ToolResult {
        /// What it answers.
        pub id: String,
        /// The answer.
        pub text: String,
        /// Whether it is an error.
        pub is_error: bool,
    }

    /// One turn.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    pub struct Message {
        /// Whose.
        pub speaker: Speaker,
        /// Its parts.
        pub content: Vec<Content>,
    }

    /// One call.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    pub struct Request {
        /// The alias.
        pub alias: String,
        /// The system prompt.
        pub system: Option<String>,
        /// The conversation.
        pub messages: Vec<Message>,
        /// Tools on offer.
        pub tools: Vec<Tool>,
        /// Output tokens at most.
        pub max_tokens: u32,
    }

    /// Why the model stopped.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum StopReason {
        /// It said all.
        EndTurn,
        /// It waits for a tool.
        ToolUse,
        /// It reached its limit.
        MaxTokens,
        /// It refused.
        Refusal,
    }

    /// Tokens of one call.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub struct Usage {
        /// Fresh input.
        pub input: u64,
        /// Output.
        pub output: u64,
        /// Input from the cache.
        pub cache_read: u64,
        /// Input into the cache.
        pub cache_write: u64,
    }

    /// What the model answered.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub struct Response {
        /// Its parts.
        pub content: Vec<Content>,
        /// Why it stopped.
        pub stop: StopReason,
        /// What it took.
        pub usage: Usage,
    }

    /// Why there is no answer.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum ModelError {
        /// Not granted.
        Denied,
        /// No model stands behind the alias.
        NotConfigured,
        /// A budget is used up.
        OutOfBudget,
        /// Malformed.
        Invalid(String),
        /// Overloaded or unreachable.
        Unavailable(String),
        /// The answer broke off or made no sense.
        Broken(String),
    }

    /// A usable alias.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub struct Alias {
        /// Its name.
        pub name: String,
        /// What one conversation may hold.
        pub context_tokens: u32,
    }
}

/// `moat:host/release`.
pub mod release {
    use serde::{Deserialize, Serialize};

    /// A release.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub struct Version {
        /// Its name.
        pub name: String,
        /// The commit whose tree it holds.
        pub commit: String,
        /// Whether it is current.
        pub active: bool,
    }

    /// One probe of the service.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Health {
        /// As expected.
        Healthy,
        /// It answered otherwise.
        Unhealthy(String),
        /// It did not answer.
        Unreachable,
        /// Its process is gone.
        Exited,
    }

    /// Why an operation was not done.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum ReleaseError {
        /// Not granted.
        Denied,
        /// No `[deploy]`.
        NotConfigured,
        /// No such release.
        NotFound,
        /// Tried and failed.
        Failed(String),
    }
}
