//! What the parent tells the launcher, and what comes back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::command::{Level, Limits, Mount, Network};

/// What a launcher is before it knows its program: told by its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Birth {
    /// Whether it stays in the host's network.
    pub(crate) host_network: bool,
    /// Whether it outlives us. All others end with the socket over which they are told their program.
    pub(crate) service: bool,
}

impl Birth {
    const HOST_NETWORK: &str = "host-network";
    const SERVICE: &str = "service";

    /// The arguments that say so.
    pub(crate) fn words(self) -> impl Iterator<Item = &'static str> {
        let network = self.host_network.then_some(Birth::HOST_NETWORK);
        network
            .into_iter()
            .chain(self.service.then_some(Birth::SERVICE))
    }

    /// What the arguments say; nothing, if they are not all understood.
    pub(crate) fn of(words: impl Iterator<Item = OsString>) -> Option<Birth> {
        let mut birth = Birth {
            host_network: false,
            service: false,
        };
        for word in words {
            match word.to_str()? {
                Birth::HOST_NETWORK => birth.host_network = true,
                Birth::SERVICE => birth.service = true,
                _ => return None,
            }
        }
        Some(birth)
    }
}

/// What a launcher is told of its program; it reads nothing else. With it come descriptors, in one message: this text, the program's standard
/// input, output and errors, with [`Network::Door`] the socket over which its listener goes, and what becomes 3, 4, …
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
}

impl Specification {
    /// Reads it without moving the position of the file, which others read as well.
    pub(crate) fn read(file: OwnedFd) -> std::io::Result<Specification> {
        let file = File::from(file);
        let mut text = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
        file.read_exact_at(&mut text, 0)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// What comes back over the same socket, one JSON value a line.
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
