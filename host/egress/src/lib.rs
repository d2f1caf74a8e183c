//! The only outbound door: probes of deployed services on loopback, and calls to services that the machine's owner configured.
//!
//! No proxy, no redirect, no plain HTTP beyond loopback unless the owner says so; every answer is bounded in time and size.

mod door;
mod endpoint;
mod error;
mod probe;
mod secret;
mod secrets;
pub mod store;

pub use door::{Body, Credential, Door, Response};
pub use endpoint::{Endpoint, InvalidEndpoint, PlainHttp};
pub use error::EgressError;
pub use probe::{Answer, probe};
pub use secret::{InvalidSecret, Secret};
pub use secrets::{BoundSecret, SecretError, Secrets, Unavailable, VaultTrouble};
