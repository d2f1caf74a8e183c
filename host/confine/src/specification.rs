//! What the parent tells the launcher, and what comes back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::command::{Level, Limits, Mount, Network};

/// Everything the launcher needs; it reads nothing else.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Specification {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) directory: PathBuf,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) network: Network,
    pub(crate) limits: Limits,
    /// Below it nothing is executed.
    pub(crate) least: Level,
    /// Whether root started it: some limits do not hold for root.
    pub(crate) by_root: bool,
    /// Descriptor numbers in the launcher.
    pub(crate) stdin_fd: i32,
    pub(crate) status_fd: i32,
    /// At its end of file everything dies. Absent for services, which outlive us.
    pub(crate) lifeline_fd: Option<i32>,
    /// Where the listener is handed out, for [`Network::Door`] and for it alone.
    pub(crate) door_fd: Option<i32>,
    pub(crate) pass_fds: Vec<i32>,
}

/// What comes back over the status pipe, one JSON value a line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Status {
    /// A layer failed; nothing was executed.
    Setup { step: String, errno: i32 },
    /// All layers stand, the program could not be executed.
    Exec { errno: i32 },
    /// All layers of this level stand; the program is executed next.
    Running { level: Level },
    /// The program exited.
    Exited { code: i32 },
    /// A signal ended it.
    Signalled { signal: i32 },
    /// Nothing of what it started is left either.
    Gone,
}
