//! The audit trail: who was allowed and refused what, in lines that are only ever added and that are chained by their hashes.
//!
//! A directory of files `000001.jsonl`, `000002.jsonl`, …: one JSON object a line, printable ASCII only. Each line ends with its own hash, which
//! is the SHA-256 of the line without it (`,"hash":"…"` cut out, the closing brace kept), and names the hash of the line before: over
//! all files there is one chain. Beside the directory lies the *head*: number and hash of the last line, so that a cut tail shows too.
//!
//! Any number of processes append, one at a time under a file lock, and each goes on from the last line on the disk. A line is on the disk when
//! `append` returns. What a crash left of a line stays as it is: the next entry, `sealed`, tells its length and digest.
//!
//! What [`Trail::verify`] finds: a line that was changed, taken out, put in or moved; a file that is missing; a tail that was cut, as long as the head
//! was not put back as well. What it cannot find: whoever may write in moat's state directory can write the whole trail and its head anew, and a
//! loss of power may take the head back by some lines. An [`Anchor`] that was kept elsewhere finds that, too.

mod chain;
mod entry;
mod files;
mod head;
mod line;
mod read;
mod text;
mod verify;

pub use chain::Trail;
pub use entry::{
    Call, CommandUse, Confinement, Decided, Decision, Denied, Entry, Kind, ModelUse, NetworkUse,
    Outcome, Recorded, Refused, Sealed, Used, Verdict,
};
pub use head::Anchor;
pub use read::{Filter, Listing};
pub use text::Text;
pub use verify::{Place, Verified};

use std::path::{Path, PathBuf};

use locks::Keeper;

/// Why the trail was not written or read. What it could not record must not be done.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// The disk is full.
    #[error(
        "the disk with the audit trail {path} is full, and nothing is done that it cannot record: make room and run again"
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A file or the directory cannot be used.
    #[error(
        "the audit trail {path} cannot be used ({why}), and nothing is done that it cannot record: make it writable"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// Another process holds the lock for too long.
    #[error(
        "the audit trail {path} is kept by {}; then run again, nothing is done that was not recorded",
        by.map_or("another moat: wait until it has ended, or end it".to_owned(), |by| by.to_string())
    )]
    Busy {
        /// The lock.
        path: PathBuf,
        /// Who, where the system tells.
        by: Option<Keeper>,
    },
    /// The trail is not what it was.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// An entry is larger than a line may be.
    #[error("an entry of {bytes} bytes is too large for the audit trail")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// The first place at which the trail is not what was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the audit trail is broken at {place}: {why}. Keep it for whoever looks into it; moved away with its head file, a new one begins"
)]
pub struct Broken {
    /// Where.
    pub place: Place,
    /// What does not hold.
    pub why: String,
}

impl TrailError {
    pub(crate) fn of(path: &Path, error: &std::io::Error) -> TrailError {
        let path = path.to_owned();
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                TrailError::Full { path }
            }
            _ => TrailError::Unusable {
                path,
                why: error.to_string(),
            },
        }
    }
}
