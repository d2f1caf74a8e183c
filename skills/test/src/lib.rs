//! The test skill: runs a project command and says what each test did.

pub mod verdict;

#[cfg(target_arch = "wasm32")]
mod skill;
