//! What crosses the socket between worker and broker, and the records of `wit/host` as JSON carries them.
//!
//! Frames are a 4-byte little-endian length and that many bytes of JSON. WIT values become JSON by their types: records are objects with the
//! WIT names, variants `"case"` or `{"case": value}`, options the value or null, results `{"ok": …}` or `{"err": …}`.

pub mod effects;
pub mod http;
pub mod model;
pub mod process;
pub mod release;

use std::io::Read;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::recording::{Began, Times};

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
    /// The guest's chance and time.
    pub(crate) began: Began,
    /// How its time went as far as that is recorded.
    pub(crate) recorded: Times,
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
    Call(HostCall),
    /// The end.
    Done(Box<Done>),
}

/// A call of a host function, as the worker tells it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HostCall {
    pub(crate) interface: String,
    pub(crate) function: String,
    pub(crate) args: Vec<Value>,
    /// See [`crate::Question::lane`].
    #[serde(default)]
    pub(crate) lane: u32,
    /// Lanes that the guest has opened so far.
    #[serde(default)]
    pub(crate) begun: u32,
    /// What the guest knows of time.
    #[serde(default)]
    pub(crate) time: Times,
}

impl HostCall {
    /// In the guest's own lane.
    pub(crate) fn new(interface: &str, function: &str, args: Vec<Value>) -> HostCall {
        HostCall {
            interface: interface.into(),
            function: function.into(),
            args,
            lane: 0,
            begun: 0,
            time: Times::default(),
        }
    }
}

/// How a call ended, as the worker tells it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Lanes that the guest has opened.
    #[serde(default)]
    pub(crate) begun: u32,
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
