//! The triage skill: a report becomes a work item, or it is said why not.

pub mod reading;

#[cfg(target_arch = "wasm32")]
mod skill;
