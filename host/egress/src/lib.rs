//! The only outbound door: requests of guests, calls to services that the machine's owner configured, and probes of deployed services on loopback.
//!
//! No proxy, no redirect, no plain HTTP beyond loopback unless the owner says so; every answer is bounded in time and size.

mod address;
mod clamps;
mod connection;
mod credentials;
mod dial;
mod door;
mod endpoint;
mod error;
mod headers;
mod outbound;
mod probe;
mod proxy;
mod reading;
mod reply;
mod request;
mod resolve;
mod scrub;
mod secret;
mod secrets;
pub mod store;
mod tls;
mod used;

pub use clamps::Clamps;
pub use door::{Body, Credential, Door, Response};
pub use endpoint::{Endpoint, InvalidEndpoint, PlainHttp};
pub use error::EgressError;
pub use outbound::{Outbound, Setup, StillHeld, Visit};
pub use probe::{Answer, probe};
pub use proxy::{Proxy, environment};
pub use reply::{Reply, ReplyBody};
pub use request::{InvalidRequest, Request, RequestError, Timeouts};
pub use resolve::{Resolver, SystemResolver};
pub use secret::{InvalidSecret, Secret};
pub use secrets::{BoundSecret, SecretError, Secrets, Unavailable, VaultTrouble};
pub use used::{Traffic, Use};
