//! Manifests, policy and grants, and the one question: may it?
//!
//! Pure: no I/O, and no knowledge of how a capability is exercised.

pub mod argument;
pub mod at_once;
pub mod compare;
pub mod config;
pub mod denial;
pub mod denied;
pub mod grant;
pub mod header;
pub mod limits;
pub mod manifest;
pub mod network;
pub mod origin;
pub mod path;
pub mod policy;
pub mod power;
pub mod project_grant;
pub mod quantity;
pub mod question;
mod sentences;
mod written;

pub use at_once::{AtOnce, RawAtOnce};
pub use compare::Comparison;
pub use config::{ConfigError, Source};
pub use denial::{Capability, Denial};
pub use grant::compare::Beyond;
pub use grant::{CredentialGrant, Grant, Running, UnknownGrant};
pub use limits::Limits;
pub use manifest::Manifest;
pub use network::NetworkRule;
pub use origin::Origin;
pub use path::{Globs, RelPath};
pub use policy::{LeastConfinement, Policy};
pub use project_grant::{ProjectGrant, RawProjectGrant};
pub use question::Reach;
