//! `moat.toml`: what a project asks of moat, read from the protected branch. Pure: texts and file names in, structures out.

mod deploy;
mod detect;
mod file;
mod gates;
mod grants;
mod installed;
mod models;
mod raw;
mod resources;
mod skills;
mod template;

pub use detect::{Detected, detect};
pub use file::{Deploy, GateKind, GateSpec, Project, Resource};
pub use template::{Choices, template};

/// The file's name, at the root of the repository.
pub const FILE: &str = "moat.toml";
