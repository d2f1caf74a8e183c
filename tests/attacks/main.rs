//! Hostile components, repositories and commands against the whole program: what the world is like afterwards, not what was said.
#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise, and share a house with others"
)]

mod abi;
mod bench;
mod bombs;
mod documents;
#[path = "../cli/house.rs"]
mod house;
mod interpreters;
mod loading;
mod manifests;
mod ordinary;
mod repositories;
