//! Secrets in moat's environment.
//!
//! The block that a process starts with stays in its memory and in `/proc/PID/environ` whatever it does to its variables; what keeps it from
//! others of the same user is that `moat` cannot be looked into (`confine::shield`). No child of moat's inherits it.

use crate::secret::Secret;
use crate::secrets::Unavailable;

/// The value of a variable.
pub(crate) fn read(name: &str) -> Result<Secret, Unavailable> {
    Ok(Secret::from_env(name)?)
}
