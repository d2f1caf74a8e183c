//! The guests' door against hostile guests, hostile servers and a resolver that lies: asserting on what the listeners got.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod addresses;
mod answers;
mod credentials;
mod http2;
mod memory;
mod proxied;
mod requests;
mod server;
mod service;
mod world;
