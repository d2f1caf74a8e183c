//! The `moat` program as people and scripts use it: real repositories, real processes, real kills.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod audit;
mod bad_input;
mod crash;
mod demo;
mod gates;
mod hostile;
mod house;
mod models;
mod ordinary;
mod own_skills;
mod reviews;
mod runs;
mod together;
mod words;
