//! Launchers that are started ahead: one at most waits for the next program, which then finds namespaces, `/proc` and `/dev` made.
//!
//! It was executed anew, so nothing of this process's memory is in it; it has no descriptor but its end of a socket, and ends when that does. It is
//! used for one program. What was changed since it was started, and would have come out otherwise, makes it useless: it is dropped, and another
//! takes its place at once.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::RecvFlags;

use crate::child::ASKED;
use crate::handover;
use crate::process::Process;
use crate::specification::Birth;

/// What most programs need.
const USUAL: Birth = Birth {
    host_network: false,
    service: false,
};

/// The launcher that waits, if there is one.
#[derive(Debug)]
pub(crate) struct Pool {
    program: PathBuf,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
enum Waiting {
    None,
    /// Somebody is starting one.
    Soon,
    One(Started, Circumstances),
}

/// A launcher that has not been told its program.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) process: Process,
    /// Takes the program, tells what becomes of it, and is the lifeline of both.
    pub(crate) control: OwnedFd,
}

impl Pool {
    pub(crate) fn new(program: PathBuf) -> Pool {
        Pool {
            program,
            waiting: Mutex::new(Waiting::None),
        }
    }

    /// Gives a program to a launcher: to the one that waits, where it will do, or to a new one.
    pub(crate) fn launch(&self, birth: Birth, given: &[BorrowedFd<'_>]) -> Result<Started> {
        if birth == USUAL
            && let Some(started) = self.take()
        {
            let sent = handover::send(&started.control, given);
            // One that failed ahead has said why, and that is the answer. One that is gone without a word was killed by somebody.
            if sent.is_ok() || started.has_said_something() {
                return Ok(started);
            }
        }
        let started = Started::new(&self.program, birth)?;
        match handover::send(&started.control, given) {
            // It has ended already. What it said is still to be read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(started),
            sent => sent.map(|()| started),
        }
    }

    /// Starts the next one, unless one waits.
    pub(crate) fn fill(&self) {
        {
            let mut waiting = self.lock();
            if !matches!(*waiting, Waiting::None) {
                return;
            }
            *waiting = Waiting::Soon;
        }
        // Before it is started, so that no change goes unnoticed. What cannot be started now is told by whoever needs it.
        let next = Circumstances::now()
            .and_then(|now| Ok(Waiting::One(Started::new(&self.program, USUAL)?, now)));
        *self.lock() = next.unwrap_or(Waiting::None);
    }

    fn take(&self) -> Option<Started> {
        let mut waiting = self.lock();
        match std::mem::replace(&mut *waiting, Waiting::None) {
            Waiting::One(started, made_in) => {
                drop(waiting);
                made_in.still_hold().then_some(started)
            }
            other => {
                *waiting = other;
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Started {
    fn new(program: &Path, birth: Birth) -> Result<Started> {
        let (control, theirs) = handover::pair()?;
        let child = std::process::Command::new(program)
            .arg(ASKED)
            .args(birth.words())
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C at the terminal is for us alone: a launcher that dies of it looks like a machine that cannot confine.
            .process_group(0)
            .spawn()?;
        Ok(Started {
            process: Process::new(child, !birth.service),
            control,
        })
    }

    fn has_said_something(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let said = rustix::net::recv(&self.control, &mut [0; 1], flags);
        said.is_ok_and(|(_, length)| length > 0)
    }
}

/// What a launcher takes over from this process and its machine when it starts, and might have changed since.
#[derive(Debug)]
struct Circumstances {
    user: (u32, u32),
    /// The kernel marks it once something was mounted or unmounted after it was opened.
    mounts: File,
}

impl Circumstances {
    fn now() -> Result<Circumstances> {
        Ok(Circumstances {
            user: user(),
            mounts: File::open("/proc/self/mountinfo")?,
        })
    }

    fn still_hold(&self) -> bool {
        let mut look = [PollFd::new(&self.mounts, PollFlags::PRI)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let looked = rustix::event::poll(&mut look, Some(&at_once)).map_err(Error::from);
        let changed = look[0]
            .revents()
            .intersects(PollFlags::PRI | PollFlags::ERR);
        looked.is_ok() && !changed && self.user == user()
    }
}

fn user() -> (u32, u32) {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    (uid.as_raw(), gid.as_raw())
}
