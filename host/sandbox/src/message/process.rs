//! `moat:host/process`: commands on the view, as records.

use serde::{Deserialize, Serialize};

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Command {
    /// What.
    pub what: Invocation,
    /// Relative to the root of the view.
    pub directory: String,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// Wall clock.
    pub timeout_ms: Option<u64>,
}

/// The two ways to name a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Invocation {
    /// Of the project.
    Project(ProjectInvocation),
    /// Of the machine.
    Program(ProgramInvocation),
}

/// A project command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProjectInvocation {
    /// Its name.
    pub name: String,
    /// Appended.
    pub extra_args: Vec<String>,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProgramInvocation {
    /// Its name.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What it left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Output {
    /// How it ended.
    pub ending: Ending,
    /// Its output.
    pub stdout: String,
    /// Its errors.
    pub stderr: String,
    /// Whether either was cut.
    pub truncated: bool,
    /// Wall clock.
    pub duration_ms: u64,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// At its deadline.
    Deadline,
}

/// Why it was not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessError {
    /// Not granted.
    Denied,
    /// No such command or program.
    NotFound,
    /// Malformed.
    Invalid(String),
    /// A budget is used up.
    OutOfBudget,
    /// It could not be confined or started.
    Unavailable(String),
}

/// A command that the project offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProjectCommand {
    /// Its name.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
}
