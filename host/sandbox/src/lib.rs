//! Skill calls: check, compile, link, run, limit and record one component at a time.
//!
//! Two sides. The *worker* is a confined process that holds wasmtime and the guest: no network, no secrets, only the step's view of the
//! worktree. The *broker* is the process that calls this crate: it asks the grant about every message of the worker and does what is
//! allowed through [`Services`]. The crate holds no rule of its own.

mod broker;
mod cache;
mod error;
mod imports;
mod launch;
pub mod message;
mod patience;
mod recording;
mod sandbox;
mod services;
mod session;
mod story;
mod transcript;
mod worker;

pub use error::{CallError, LoadError};
pub use imports::{Imports, imports};
pub use recording::{Answered, Asked, Began, Note, Question, Recorder, Recording, Times, Traffic};
pub use sandbox::{Call, Loaded, Sandbox, SandboxConfig};
pub use services::{Ran, Services};
pub use session::{Answer, Session, Usage, View};
pub use transcript::{Entry, Outcome};
pub use worker::enter_worker_if_asked;
