//! Git through libgit2 only: the user's repository, our mirror of it, worktrees without `.git`, imports, diffs, merges, and the one move of a branch.
//!
//! ```text
//!   user's repository                 moat's state                          disposable
//!   Source ──────── fetch ─────────▶  Mirror ──────── materialise ───────▶  plain directory
//!     ▲                                 │  ▲                                      │
//!     └────── publish (CAS) ────────────┘  └───────────── import ─────────────────┘
//! ```
//!
//! A worktree need not be a copy: [`Bases`] writes each tree out once, and worktrees are layers over it, or clones of it.
//!
//! Rules that every file here keeps:
//! - the `git` program is never run, and nothing is discovered: a repository is opened by its git dir alone;
//! - a worktree that somebody else wrote is read through directory handles, never through a symlink, and the bytes
//!   that were read are the bytes that are committed;
//! - attributes, filters, hooks and configuration of a tree or of the machine's user decide nothing here;
//! - a branch moves by compare-and-swap, forwards only.

mod backend;
mod bases;
mod clone;
mod commit;
mod create;
mod diff;
mod difference;
mod drafts;
mod error;
mod harden;
mod import;
mod installed;
mod kept;
mod loose;
mod materialise;
mod merge;
mod mirror;
pub mod names;
mod objects;
mod overlay;
mod packs;
mod shelf;
mod source;
mod tree;
mod worktree;

pub use bases::{Base, Bases, Part, Stack};
pub use commit::{Identity, InvalidIdentity, Message};
pub use create::create;
pub use diff::{Diff, DiffLimits, FileChange, FileStatus};
pub use error::StoreError;
pub use import::{
    Change, ChangeKind, ImportError, ImportReport, ImportRules, Refused, RefusedReason,
};
pub use kept::Kept;
pub use materialise::{Materialised, Skipped, SkippedReason};
pub use merge::{Conflict, ConflictKind, MergeOutcome};
pub use mirror::{Entry, Mirror};
pub use shelf::{Keep, Lease, Shelf, Swept};
pub use source::{
    Checkout, CheckoutOutcome, Head, Inspection, LeftReason, PublishError, Published, Source,
    SourceError,
};
pub use tree::EntryKind;
pub use worktree::{Files, Means, Worktree, show};
