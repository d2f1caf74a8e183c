//! File locks: a sign of life that dies with its process.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flow::id::RunId;
use locks::{Keeper, LockError};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{JournalError, unusable};

/// The lock files of a state directory.
///
/// ```text
/// <run>.<token>         held by the process that has this lease, for as long as it lives
/// <run>.<token>.effect  held, shared, by what is being done outside under the lease
/// <run>                 held by moats of format 1, which know no leases
/// ```
#[derive(Debug, Clone)]
pub(crate) struct Locks {
    directory: PathBuf,
}

/// That somebody is at work.
#[derive(Debug)]
pub(crate) enum Held {
    /// On this run; which process, where the system tells.
    By { run: RunId, by: Option<Keeper> },
    /// It cannot be told.
    NotKnown(JournalError),
}

impl Held {
    /// Why the file is left as it is.
    pub(crate) fn error(self, path: &Path) -> JournalError {
        match self {
            Held::By { run, by } => JournalError::InUseByOlder {
                path: path.to_owned(),
                run,
                by,
            },
            Held::NotKnown(error) => error,
        }
    }
}

/// How the name of a lease's second file ends.
const EFFECT: &str = ".effect";

/// Files of one lease; they go with it.
#[derive(Debug)]
pub(crate) struct LeaseLock {
    path: PathBuf,
    effect: PathBuf,
    _held: File,
}

impl Locks {
    pub(crate) fn of(state: &Path) -> Locks {
        Locks {
            directory: state.join("locks"),
        }
    }

    fn path(&self, run: &RunId, token: u64) -> PathBuf {
        self.directory.join(format!("{run}.{token}"))
    }

    fn effect_path(&self, run: &RunId, token: u64) -> PathBuf {
        self.directory.join(format!("{run}.{token}{EFFECT}"))
    }

    /// The sign of life for a new lease. Nobody else can be making the same one: whoever asks has the journal for writing.
    pub(crate) fn take(&self, run: &RunId, token: u64) -> Result<LeaseLock, JournalError> {
        let path = self.path(run, token);
        let taken = || -> std::io::Result<File> {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.directory)?;
            let file = File::options().append(true).create(true).open(&path)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        };
        let held = taken().map_err(|error| unusable(&path, &error))?;
        Ok(LeaseLock {
            effect: self.effect_path(run, token),
            path,
            _held: held,
        })
    }

    /// Runs that have a lock file, whether somebody holds it or not.
    pub(crate) fn runs(&self) -> Result<BTreeSet<RunId>, JournalError> {
        let run = |name: &String| name.split('.').next()?.parse().ok();
        Ok(self.names()?.iter().filter_map(run).collect())
    }

    /// The leases of which there are files, by run and token.
    pub(crate) fn all(&self) -> Result<BTreeSet<(RunId, u64)>, JournalError> {
        let lease = |name: &String| {
            let name = name.strip_suffix(EFFECT).unwrap_or(name);
            let (run, token) = name.rsplit_once('.')?;
            Some((run.parse().ok()?, token.parse().ok()?))
        };
        Ok(self.names()?.iter().filter_map(lease).collect())
    }

    fn names(&self) -> Result<Vec<String>, JournalError> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            entries => entries.map_err(|error| unusable(&self.directory, &error))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| unusable(&self.directory, &error))?;
            // What is no text is none of ours.
            names.extend(entry.file_name().into_string().ok());
        }
        Ok(names)
    }

    /// Whether the process that has this lease lives.
    pub(crate) fn is_alive(&self, run: &RunId, token: u64) -> bool {
        is_held(&self.path(run, token))
    }

    /// What somebody holds, whatever the version of that moat; also what cannot be looked at, which may be held.
    pub(crate) fn any_held(&self) -> Option<Held> {
        let names = match self.names() {
            Ok(names) => names,
            Err(error) => return Some(Held::NotKnown(error)),
        };
        let leases = names.iter().filter(|name| !name.ends_with(EFFECT));
        leases.filter_map(|name| self.held(name)).next()
    }

    fn held(&self, name: &str) -> Option<Held> {
        let run = name.split('.').next()?.parse().ok()?;
        let path = self.directory.join(name);
        // A look, also another's, keeps it for microseconds.
        for look in 0..LOOKS {
            if look > 0 {
                std::thread::sleep(LOOK);
            }
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
                Err(error) => return Some(Held::NotKnown(unusable(&path, &error))),
            };
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return None,
                Err(Errno::WOULDBLOCK) if look + 1 < LOOKS => {}
                Err(Errno::WOULDBLOCK) => {
                    let by = locks::of_file(&file);
                    return Some(Held::By { run, by });
                }
                Err(errno) => return Some(Held::NotKnown(unusable(&path, &errno.into()))),
            }
        }
        None
    }

    /// Keeps whoever takes the run over waiting, until it is dropped.
    pub(crate) fn effect(&self, run: &RunId, token: u64) -> Result<File, JournalError> {
        let path = self.effect_path(run, token);
        let shared = || -> std::io::Result<File> {
            let file = File::options().append(true).create(true).open(&path)?;
            // Without an end: whoever takes the run over has it for a moment, and what is refused here is told to a skill.
            flock(&file, FlockOperation::LockShared)?;
            Ok(file)
        };
        shared().map_err(|error| unusable(&path, &error))
    }

    /// Keeps the effects of a lease waiting, until it is dropped; `None` while there is one.
    pub(crate) fn without_effect(
        &self,
        run: &RunId,
        token: u64,
    ) -> Result<Option<File>, JournalError> {
        let path = self.effect_path(run, token);
        let file = File::options()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|error| unusable(&path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(unusable(&path, &errno.into())),
        }
    }

    /// Takes away what a lease that is over has left.
    pub(crate) fn clear(&self, run: &RunId, token: u64) {
        for path in [self.path(run, token), self.effect_path(run, token)] {
            // What cannot be removed is a small file with an old number.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for LeaseLock {
    fn drop(&mut self) {
        for path in [&self.path, &self.effect] {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A look takes it for a moment, shared.
fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| {
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    })
}

/// A look lasts microseconds.
const LOOK: Duration = Duration::from_millis(2);
const LOOKS: u32 = 5;

/// Waits for a lock file, not for ever, and holds it until it is dropped.
pub(crate) fn hold(path: &Path, patience: Duration) -> Result<File, JournalError> {
    let file = File::options().append(true).create(true).open(path);
    let file = file.map_err(|error| unusable(path, &error))?;
    match locks::within(&file, patience) {
        Ok(()) => Ok(file),
        Err(LockError::Kept { by }) => Err(JournalError::Busy {
            path: path.to_owned(),
            by,
        }),
        Err(LockError::Io(error)) => Err(unusable(path, &error)),
    }
}
