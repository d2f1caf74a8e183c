//! Waiting for a lock: as long as its keeper goes on, and not for one who stands still.

use std::fs::File;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::keeper::{Keeper, of_file, ticks};

/// How long a keeper may stand still: as long as a lease lasts by default, after which somebody else does its work.
const STANDS_STILL: Duration = Duration::from_secs(30);

/// How often a keeper is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// How often who has not long to wait tries.
const AGAIN: Duration = Duration::from_millis(2);

/// Why a lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody keeps it.
    #[error("it is kept by {}", by.map_or("another process".to_owned(), |by| by.to_string()))]
    Kept {
        /// Who, where the system tells.
        by: Option<Keeper>,
    },
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<LockError> for io::Error {
    fn from(error: LockError) -> io::Error {
        match error {
            LockError::Kept { .. } => io::Error::new(io::ErrorKind::TimedOut, error),
            LockError::Io(error) => error,
        }
    }
}

/// Locks a file for oneself. Who comes first is first.
///
/// # Errors
/// [`LockError::Kept`] when its keeper was stopped (`SIGSTOP`, a debugger) and has stood still for half a minute: it may never go on.
pub fn exclusive(file: &File) -> Result<(), LockError> {
    let (now, then) = EXCLUSIVE;
    wait(file, now, then, STANDS_STILL)
}

/// Locks a file together with others.
///
/// # Errors
/// As [`exclusive`].
pub fn shared(file: &File) -> Result<(), LockError> {
    let now = FlockOperation::NonBlockingLockShared;
    wait(file, now, FlockOperation::LockShared, STANDS_STILL)
}

/// Locks a file for oneself, unless it takes longer than that. Who waits so has no place in the row.
///
/// # Errors
/// [`LockError`].
pub fn within(file: &File, patience: Duration) -> Result<(), LockError> {
    let begun = Instant::now();
    loop {
        match retried(file, EXCLUSIVE.0) {
            Err(Errno::WOULDBLOCK) if begun.elapsed() < patience => thread::sleep(AGAIN),
            Err(Errno::WOULDBLOCK) => return Err(LockError::Kept { by: of_file(file) }),
            locked => return Ok(locked.map_err(io::Error::from)?),
        }
    }
}

const EXCLUSIVE: (FlockOperation, FlockOperation) = (
    FlockOperation::NonBlockingLockExclusive,
    FlockOperation::LockExclusive,
);

fn wait(
    file: &File,
    now: FlockOperation,
    then: FlockOperation,
    stands_still: Duration,
) -> Result<(), LockError> {
    match retried(file, now) {
        Err(Errno::WOULDBLOCK) => {}
        locked => return Ok(locked.map_err(io::Error::from)?),
    }
    // On a thread of its own: the system wakes in their order who waits there, and from there nobody can be called back. The lock belongs to what was opened,
    // which both have; who has given up gets it some day, finds that nobody wants it, and leaves it.
    let (done, waited) = channel();
    let opened = file.try_clone()?;
    let waiting = thread::Builder::new().spawn(move || {
        let locked = retried(&opened, then);
        drop(opened);
        done.send(locked)
    });
    if waiting.is_err() {
        // No thread is to be had: better to wait without an end than not at all.
        return Ok(retried(file, then).map_err(io::Error::from)?);
    }
    let mut still = None;
    loop {
        match waited.recv_timeout(LOOK.min(stands_still / 4)) {
            Ok(locked) => return Ok(locked.map_err(io::Error::from)?),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("who waited for it is gone").into());
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        still = of_file(file).and_then(|by| stood_still(by, ticks(by.pid), still));
        if let Some(Still { by, since, .. }) = still
            && since.elapsed() >= stands_still
        {
            return Err(LockError::Kept { by: Some(by) });
        }
    }
}

/// A keeper that stands still, how long it had run, and since when it has been seen so.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Still {
    by: Keeper,
    ticks: Option<u64>,
    since: Instant,
}

fn stood_still(by: Keeper, ticks: Option<u64>, before: Option<Still>) -> Option<Still> {
    let since = before.filter(|before| before.by == by && before.ticks == ticks);
    let since = since.map_or_else(Instant::now, |before| before.since);
    by.stands_still.then_some(Still { by, ticks, since })
}

fn retried(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match flock(file, operation) {
            Err(Errno::INTR) => {}
            locked => return locked,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    fn file(path: &Path) -> File {
        let mut options = File::options();
        options.create(true).append(true).open(path).unwrap()
    }

    /// A process that keeps a file locked.
    struct Other(Child);

    impl Other {
        fn new(path: &Path) -> Other {
            let program = std::env::current_exe().unwrap();
            let other = Command::new(program)
                .args(["--exact", "wait::tests::child_that_keeps_a_file"])
                .env("LOCKS_FILE", path)
                .stdout(Stdio::null())
                .spawn();
            let mut other = Other(other.unwrap());
            while of_file(&file(path)).is_none() {
                assert!(other.0.try_wait().unwrap().is_none(), "it ended");
                thread::sleep(Duration::from_millis(1));
            }
            other
        }

        fn signal(&self, signal: Signal) {
            kill_process(Pid::from_child(&self.0), signal).unwrap();
        }
    }

    impl Drop for Other {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn child_that_keeps_a_file() {
        if let Some(path) = std::env::var_os("LOCKS_FILE") {
            let file = file(Path::new(&path));
            file.lock().unwrap();
            thread::sleep(Duration::from_secs(3600));
        }
    }

    fn wait_for(file: &File, still: Duration) -> Result<(), LockError> {
        let (now, then) = EXCLUSIVE;
        wait(file, now, then, still)
    }

    #[test]
    fn a_keeper_that_goes_on_is_waited_for_and_one_that_stands_still_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let other = Other::new(&path);
        let ours = file(&path);
        thread::scope(|scope| {
            let waits = scope.spawn(|| wait_for(&ours, SOON));
            thread::sleep(3 * SOON);
            assert!(!waits.is_finished(), "it goes on, however slowly");
            other.signal(Signal::STOP);
            let refused = waits.join().unwrap().unwrap_err();
            let by = Keeper {
                pid: other.0.id(),
                stands_still: true,
            };
            assert!(matches!(refused, LockError::Kept { by: Some(it) } if it == by));
            let told = io::Error::from(refused).to_string();
            assert!(told.contains(&format!("kill -CONT {}", by.pid)), "{told}");
        });
        drop(ours);
        // Whoever was given up does not keep it from the next.
        let next = file(&path);
        drop(other);
        wait_for(&next, SOON).unwrap();
    }

    #[test]
    fn only_one_and_the_same_that_has_not_moved_stands_still() {
        let keeper = |pid, stands_still| Keeper { pid, stands_still };
        let before = stood_still(keeper(1, true), Some(7), None);
        let since = before.unwrap().since;
        thread::sleep(Duration::from_millis(1));
        assert_eq!(stood_still(keeper(1, true), Some(7), before), before);
        assert_eq!(stood_still(keeper(1, false), Some(7), before), None);
        for (pid, ticks) in [(2, 7), (1, 8)] {
            let now = stood_still(keeper(pid, true), Some(ticks), before);
            assert!(now.unwrap().since > since);
        }
        let this = std::process::id();
        assert!(ticks(this).is_some() && ticks(u32::MAX).is_none());
    }

    #[test]
    fn what_is_shared_is_shared_and_patience_has_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let (one, two) = (file(&path), file(&path));
        shared(&one).unwrap();
        shared(&two).unwrap();
        let three = file(&path);
        let refused = within(&three, SOON).unwrap_err();
        assert!(matches!(refused, LockError::Kept { .. }), "{refused}");
        drop((one, two));
        within(&three, SOON).unwrap();
        exclusive(&three).unwrap();
    }
}
