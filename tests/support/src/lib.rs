//! Stand-ins for outside services: real servers on loopback that speak the real wire format, faults included.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

pub mod canary;
pub mod http;
pub mod model;
pub mod vault;
