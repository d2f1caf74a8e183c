//! One driver a run at a time: a file lock that dies with its process.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

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
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(RunLock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Locked { run: run.clone() }),
            Err(errno) => Err(unusable(errno.into())),
        }
    }
}

/// Waits for a lock file and holds it until it is dropped.
pub(crate) fn hold(path: &Path) -> std::io::Result<File> {
    let file = File::options().append(true).create(true).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}
