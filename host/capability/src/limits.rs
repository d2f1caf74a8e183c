//! Limits of one skill call, each with its bounds.

use serde::{Deserialize, Serialize};

/// What one call may use at most. There is no default: a manifest states memory and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// All linear memories and tables of the call together.
    pub memory_bytes: u64,
    /// Wall clock of the call, with all it waits for.
    pub wall_ms: u64,
    /// Units of work (wasmtime's fuel; about one an instruction).
    pub fuel: u64,
    /// The role function's result, and separately all that is printed.
    pub output_bytes: u64,
    /// Calls to host interfaces, apart from WASI.
    pub host_calls: u64,
    /// Open handles of all kinds at one time.
    pub handles: u32,
    /// Requests to the network, by the skill and by its commands.
    pub requests: u64,
    /// What they send: URLs, headers and bodies.
    pub sent_bytes: u64,
    /// What their answers bring: headers and bodies, decoded.
    pub received_bytes: u64,
}

impl Limits {
    /// The most that any call gets, whatever the files say: what one machine can bear many times over.
    pub const MAX: Limits = Limits {
        memory_bytes: 4 << 30,
        wall_ms: 6 * 3_600_000,
        fuel: 1_000_000_000_000_000,
        output_bytes: 64 << 20,
        host_calls: 1_000_000,
        handles: 100_000,
        requests: 100_000,
        sent_bytes: 4 << 30,
        received_bytes: 4 << 30,
    };

    /// Used for what a manifest leaves out.
    pub const UNSTATED: Unstated = Unstated {
        fuel: 1_000_000_000_000,
        output_bytes: 4 << 20,
        host_calls: 10_000,
        handles: 1_000,
        requests: 100,
        sent_bytes: 1 << 20,
        received_bytes: 64 << 20,
    };

    /// The lesser of each.
    #[must_use]
    pub fn min(self, other: Limits) -> Limits {
        Limits {
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            wall_ms: self.wall_ms.min(other.wall_ms),
            fuel: self.fuel.min(other.fuel),
            output_bytes: self.output_bytes.min(other.output_bytes),
            host_calls: self.host_calls.min(other.host_calls),
            handles: self.handles.min(other.handles),
            requests: self.requests.min(other.requests),
            sent_bytes: self.sent_bytes.min(other.sent_bytes),
            received_bytes: self.received_bytes.min(other.received_bytes),
        }
    }
}

/// What a manifest that does not state a limit gets.
#[derive(Debug, Clone, Copy)]
pub struct Unstated {
    /// See [`Limits::fuel`].
    pub fuel: u64,
    /// See [`Limits::output_bytes`].
    pub output_bytes: u64,
    /// See [`Limits::host_calls`].
    pub host_calls: u64,
    /// See [`Limits::handles`].
    pub handles: u32,
    /// See [`Limits::requests`].
    pub requests: u64,
    /// See [`Limits::sent_bytes`].
    pub sent_bytes: u64,
    /// See [`Limits::received_bytes`].
    pub received_bytes: u64,
}
