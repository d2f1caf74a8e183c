//! The implement skill: an agent loop that works on a view with tools until the project's tests agree, or stops and says why.
//!
//! ```text
//! work item ──▶ prompt ──▶ agent: ask the model ──▶ tools ──▶ answers ──▶ ask again ──▶ …
//!                            │                        ├ view: files, and what was changed
//!                            │                        └ commands of the project
//!                            ├ guard: no news, no tool, no sense: stop
//!                            └ finish: the skill runs the tests itself; red goes back to the model
//! ```
//!
//! All of it is pure or works below a directory; `skill` connects it to the host.

pub mod agent;
pub mod clip;
pub mod conversation;
pub mod edit;
pub mod glob;
pub mod guard;
pub mod host;
pub mod path;
pub mod prompt;
pub mod said;
pub mod search;
pub mod tool;
pub mod toolbox;
pub mod view;

#[cfg(target_arch = "wasm32")]
mod skill;

#[cfg(test)]
mod agent_tests;
#[cfg(test)]
mod script;
