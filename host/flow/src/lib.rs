//! The rules of a run: `apply(state, event)` gives the next state, `next(state)` the actions to do.
//!
//! Pure: no I/O, no clock, no randomness, no async. Whoever drives it journals an event first and applies it then.

mod budget;
pub mod claim;
pub mod effect;
pub mod event;
pub mod grant;
pub mod id;
pub mod money;
pub mod pipeline;
pub mod role;
pub mod run;
pub mod step;
pub mod task;
pub mod verdict;

pub use event::{Event, Recorded};
pub use run::{Illegal, RULES, Run, apply, next};
