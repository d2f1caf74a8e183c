//! Program repair by search: find where failing tests point, try small edits there, keep one that makes every test pass.
//!
//! Nothing is stored about any bug. The engine is pure; `skill` connects it to the host.

pub mod candidate;
pub mod edit;
pub mod executed;
pub mod focus;
pub mod hollow;
pub mod instrument;
pub mod language;
pub mod lexer;
pub mod localise;
pub mod outline;
pub mod search;
pub mod told;

#[cfg(target_arch = "wasm32")]
mod skill;
