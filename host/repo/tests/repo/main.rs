//! The crate against real repositories and hostile directories; each test asserts on the world, not on our words.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod bases;
mod damage;
mod diff;
mod fetch;
mod fixture;
mod foreign;
mod hostile;
mod import;
mod means;
mod merge;
mod openat2;
mod ordinary;
mod overlay;
mod properties;
mod publish;
mod recovery;
mod source;
mod worktree;
