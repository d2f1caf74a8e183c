//! The deploy skill: stage, activate, watch, and back out when the release is unhealthy.

pub mod rollout;

#[cfg(target_arch = "wasm32")]
mod skill;
