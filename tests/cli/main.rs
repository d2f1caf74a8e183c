//! The `moat` program as people and scripts use it: real repositories, real processes, real kills.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod audit;
mod bad_input;
mod builds;
mod crash;
mod demo;
mod gates;
mod grants;
mod hostile;
mod house;
mod killed;
mod leftovers;
mod models;
mod network;
mod obedient;
mod ordinary;
mod own_skills;
mod planned;
mod recording;
mod resume;
mod reviews;
mod runs;
mod secrets;
mod seeing;
// The stand-ins that the door's own tests use.
#[path = "../../host/egress/tests/door/server.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod server;
mod takeover;
mod tasks;
mod tasks_crash;
mod tasks_failures;
mod together;
mod upgrades;
mod words;
mod worker;
mod worktrees;
