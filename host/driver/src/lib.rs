//! The one loop: journal an event, apply it, ask what is next, do it, journal what came of it.
//!
//! The only room that appends to the journal, and the one where all others meet. It renders nothing for people.

mod approvals;
mod branch;
mod builds;
mod children;
mod clock;
mod commands;
mod context;
mod drive;
mod effects;
mod grants;
mod house;
mod keys;
mod known;
mod lease;
mod ledger;
mod models;
mod network;
mod open;
mod owner;
mod record;
mod releases;
mod scheduler;
mod scratch;
mod services;
mod step;
mod survey;
mod transcript;
mod usage;
mod view;
mod views;

pub use approvals::{ApprovalError, Approvals, Scope, approve_skill};
pub use branch::{own_skill, project_of, protected};
pub use context::{DriveError, Watcher};
pub use drive::{answer, cancel, drive, drive_all, interrupted, load, resolve, resume};
pub use effects::{StepAccount, Unconfirmed, unconfirmed};
pub use house::{House, HouseError, mirror_dir};
pub use keys::Keys;
pub use lease::Held;
pub use models::{CallMeter, Meter, StepModels, Trouble};
pub use network::StepNetwork;
pub use open::{OpenError, Opened, open, pinned_gates};
pub use record::{About, CallRecord};
pub use releases::Releases;
pub use scheduler::{Party, SlotError};
pub use scratch::Scratch;
pub use services::{StepServices, granted_env};
pub use step::gate::{GateRun, run_gate};
pub use transcript::KEPT as TRANSCRIPTS_KEPT;
pub use usage::{UsageError, used_by};
pub use view::{View, ViewError};
pub use views::{Chosen, Views, Worktrees};
