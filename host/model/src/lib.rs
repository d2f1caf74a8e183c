//! Calls to language models: which there are, how their two wire formats go, what they cost, and when to try again.
//!
//! ```text
//! Conversation ── encode (anthropic | openai) ──▶ egress::Door ── SSE events ──▶ decode ──▶ Reply, Usage
//!        ▲                                                                                   │
//!        └───────────── overloaded or broken off: wait, and the same once more ◀─────────────┘
//! ```
//!
//! Which models exist, where, with which key and at what price is the machine's `models.toml`, never a repository's file.

mod anthropic;
mod client;
mod config;
mod conversation;
mod error;
mod openai;
mod price;
mod reply;
mod retry;
mod sse;
mod till;

pub use client::{Exchange, Models};
pub use config::{Api, Config, FILE, KeySource, ModelSpec, OutputLimit, Provider};
pub use conversation::{Conversation, Part, Speaker, Tool, Turn};
pub use error::ModelError;
pub use price::Price;
pub use reply::{Reply, Stop, Usage};
pub use retry::Backoff;
pub use till::{Heard, Refusal, Till};
