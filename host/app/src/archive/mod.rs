//! A run in one file, to be looked at elsewhere: a tar of plain text, the same bytes for the same run.

mod gather;
mod read;
mod write;

pub use gather::{Sources, gather};
pub use read::{ArchiveError, read};
pub use write::write;

/// What this version writes. A change of meaning takes the next number; what was written stays readable for ever.
const FORMAT: u32 = 1;

/// About the run and the file itself.
const RUN: &str = "run.json";

/// Every event, one a line.
const EVENTS: &str = "events.jsonl";

/// What lies in a file.
pub struct Contents {
    /// Files by path, in their order.
    pub files: Vec<(String, Vec<u8>)>,
    /// The time that all of them bear, in seconds since 1970: that of the run's last event.
    pub at_s: u64,
}
