//! One driver a run at a time: a file lock that dies with its process.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use flow::id::RunId;
use rustix::fs::{FlockOperation, flock};

use crate::JournalError;

/// Held by the one process that drives a run.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    pub(crate) fn take(directory: &Path, run: &RunId) -> Result<RunLock, JournalError> {
        let path = directory.join(run.as_str());
        let unusable = |error: std::io::Error| JournalError::Unusable {
            path: path.clone(),
            why: error.to_string(),
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(unusable)?;
        let file = File::options()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(unusable)?;
        for attempt in 1.. {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                // It may be someone who only looks, and is gone at once.
                Err(rustix::io::Errno::WOULDBLOCK) if attempt < LOOKS => std::thread::sleep(LOOK),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(JournalError::Locked { run: run.clone() });
                }
                Err(errno) => return Err(unusable(errno.into())),
            }
        }
        Ok(RunLock { _file: file })
    }

    /// Whether a process holds it. A look takes it for a moment, shared.
    pub(crate) fn is_held(directory: &Path, run: &RunId) -> bool {
        File::open(directory.join(run.as_str())).is_ok_and(|file| {
            flock(&file, FlockOperation::NonBlockingLockShared)
                == Err(rustix::io::Errno::WOULDBLOCK)
        })
    }
}

/// A look lasts microseconds.
const LOOK: Duration = Duration::from_millis(2);
const LOOKS: u32 = 5;

/// Waits for a lock file and holds it until it is dropped.
pub(crate) fn hold(path: &Path) -> std::io::Result<File> {
    let file = File::options().append(true).create(true).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}
