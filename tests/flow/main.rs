//! The rules of a run, step by step: each file is named as the step's in `flow` and in `driver`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod baseline;
mod claims;
mod deploy;
mod gate;
mod grant;
mod implement;
mod intake;
mod invariants;
mod merge;
mod plan;
mod repair;
mod script;
mod simulation;
mod tasks;
