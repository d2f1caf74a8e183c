//! What a secret store is: it gives the machine owner's secrets by name, each bound to the origins that it may go to.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use capability::origin::Origin;

use crate::secret::{InvalidSecret, Secret};

/// Secrets by name. What is given out is held by its borrowers for as long as they need it, and overwritten when the last of them lets go.
#[async_trait]
pub trait Secrets: fmt::Debug + Send + Sync {
    /// The secret of a name, from its source or as it was read a short while ago.
    ///
    /// # Errors
    /// [`SecretError`]. Its text names files and programs of the machine's owner: it is for the owner, and no guest is told more than the name.
    async fn get(&self, name: &str) -> Result<Arc<BoundSecret>, SecretError>;

    /// A service did not take the secret (401): the next [`Secrets::get`] reads it anew, at most once in a while.
    fn refused(&self, name: &str);

    /// Every value that was given out so far, also where its source has another one by now: what none of a guest's requests may hold.
    fn known(&self) -> Vec<Arc<BoundSecret>>;
}

/// A secret and where it may go.
#[derive(Debug)]
pub struct BoundSecret {
    /// The value.
    pub secret: Secret,
    /// Scheme, host and port, exactly; the machine's owner says so, whatever a manifest or a project asks for.
    pub hosts: Vec<Origin>,
}

impl BoundSecret {
    /// Whether the machine's owner lets it go there.
    pub fn may_go_to(&self, origin: &Origin) -> bool {
        self.hosts.contains(origin)
    }
}

/// Why there is no secret of a name. Says nothing of any value, and repeats nothing that a program or a service said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The machine's owner has none of that name.
    #[error("there is no secret `{name}`: secrets.toml would have [secrets.{name}]")]
    Unknown {
        /// The name.
        name: String,
    },
    /// Its source does not give it.
    #[error("the secret `{name}`: {why}")]
    Unavailable {
        /// The name.
        name: String,
        /// Why not.
        why: Unavailable,
    },
}

/// Why a source does not give a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// It is not there, cannot be read, or is none.
    #[error(transparent)]
    Value(#[from] InvalidSecret),
    /// A file that others could have read or written.
    #[error("{from} {why} (mend: {mend})")]
    Exposed {
        /// The file.
        from: String,
        /// Who could.
        why: &'static str,
        /// What to do.
        mend: String,
    },
    /// A program that did not give it.
    #[error("{program} {why}; run it yourself to see what it says")]
    Program {
        /// The program.
        program: String,
        /// What it did.
        why: String,
    },
    /// The kernel's keyring does not give it.
    #[error("the key `{key}` {why}")]
    Keyring {
        /// The key's description.
        key: String,
        /// Why not.
        why: &'static str,
    },
    /// Of a Vault that is not configured.
    #[error("secrets.toml has no [vault]")]
    NoVault,
    /// Vault does not give it.
    #[error("Vault at {address}: {why}")]
    Vault {
        /// Where it was asked.
        address: String,
        /// Why not.
        why: VaultTrouble,
    },
}

/// What Vault answered, by its status; its text is never kept, for it may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultTrouble {
    /// 400.
    #[error("it takes the request for malformed (400): look at the path and the namespace")]
    Malformed,
    /// 403: the token is no good, or its policies do not cover the path.
    #[error(
        "the token may not read {path} (403): it has expired, or its policies do not cover that path in that namespace"
    )]
    Forbidden {
        /// The path.
        path: String,
    },
    /// 404.
    #[error(
        "there is nothing at {path} (404): it was deleted or never written, or the path is not that of its engine (of KV version 2 it has `data/` after the mount)"
    )]
    NotFound {
        /// The path.
        path: String,
    },
    /// 503.
    #[error("it is sealed or in maintenance (503)")]
    Sealed,
    /// 429, or a standby that cannot answer yet.
    #[error("it is too busy or not up to date (status {status}): try again")]
    Busy {
        /// The status.
        status: u16,
    },
    /// 307 and the like: a standby that names the active node. A redirect could lead the token anywhere.
    #[error(
        "it answers with a redirect, which is not followed: give the address of the active node"
    )]
    Redirect,
    /// Any other status.
    #[error("it answers with status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// No answer.
    #[error("it does not answer: {why}")]
    Unreachable {
        /// What the transport says.
        why: String,
    },
    /// Not in time.
    #[error("it has not answered after {seconds} s")]
    Slow {
        /// How long was waited.
        seconds: u64,
    },
    /// The way to it cannot be set up.
    #[error("{why}")]
    Setup {
        /// What is wrong.
        why: String,
    },
    /// More than any secret has.
    #[error("its answer has more than {bytes_max} bytes")]
    TooLarge {
        /// The cap.
        bytes_max: usize,
    },
    /// An answer that is not of the expected form.
    #[error(
        "its answer is not that of KV version {version}: set `kv` to the version of the engine"
    )]
    Answer {
        /// The version that was expected.
        version: u8,
    },
    /// The secret has no such field, or one that is no text.
    #[error("{path} has no text field `{field}`")]
    Field {
        /// The path.
        path: String,
        /// The field.
        field: String,
    },
}

impl SecretError {
    /// Whether trying again later, with nothing changed by anybody here, may help.
    pub fn is_passing(&self) -> bool {
        match self {
            SecretError::Unavailable {
                why: Unavailable::Vault { why, .. },
                ..
            } => matches!(
                why,
                VaultTrouble::Sealed
                    | VaultTrouble::Busy { .. }
                    | VaultTrouble::Slow { .. }
                    | VaultTrouble::Unreachable { .. }
            ),
            SecretError::Unknown { .. } | SecretError::Unavailable { .. } => false,
        }
    }
}
