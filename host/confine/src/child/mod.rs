//! Inside the launcher process: from the specification to the confined program.
//!
//! ```text
//! launcher -- unshare --> fork --> init (pid 1 inside) -- root, /proc, /dev --> fork --> the program's process -- capabilities, seccomp
//!    |                              | waits for the specification: mounts, pivot      | waits for init: limits, Landlock, exec
//!    |                              | waits for the program or the end of the socket, kills all, says so, and goes
//!    | waits for init
//! ```
//!
//! All that no specification changes is done before there is one; a launcher that was started ahead and one that is used at once run the same.

mod init;
mod mounts;
mod program;
mod restrict;
mod seccomp;
pub(crate) mod sys;

pub(crate) use restrict::attainable;

use std::borrow::Borrow;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use crate::specification::{Birth, Status};

/// The first argument of a process that is to become a launcher; its birth follows.
pub(crate) const ASKED: &str = "\u{1}moat-confine";

/// A layer that could not be set up.
pub(crate) struct Failed {
    pub(crate) step: String,
    pub(crate) error: std::io::Error,
}

/// Names the layer at which an error came up.
pub(crate) trait At<T> {
    fn at(self, step: &'static str) -> Result<T, Failed>;
}

impl<T, E: Into<std::io::Error>> At<T> for Result<T, E> {
    fn at(self, step: &'static str) -> Result<T, Failed> {
        self.map_err(|error| Failed {
            step: step.into(),
            error: error.into(),
        })
    }
}

/// Reports over the socket; there is no one else to tell.
pub(crate) struct Reporter(File);

impl Reporter {
    pub(crate) fn new(control: OwnedFd) -> Reporter {
        Reporter(control.into())
    }

    pub(crate) fn of(control: &OwnedFd) -> Result<Reporter, Failed> {
        control.try_clone().map(Reporter::new).at("handover")
    }

    pub(crate) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Whoever only has an end to tell goes on without being heard.
    pub(crate) fn tell(&mut self, status: &Status) -> std::io::Result<()> {
        self.tell_all(std::iter::once(status))
    }

    /// In one write: who listens wakes once.
    pub(crate) fn tell_all<S: Borrow<Status>>(
        &mut self,
        all: impl Iterator<Item = S>,
    ) -> std::io::Result<()> {
        let mut lines = Vec::new();
        for status in all {
            serde_json::to_writer(&mut lines, status.borrow())?;
            lines.push(b'\n');
        }
        self.0.write_all(&lines)
    }

    pub(crate) fn failed(&mut self, failed: &Failed) {
        let errno = failed.error.raw_os_error().unwrap_or(libc::EINVAL);
        let _ = self.tell(&Status::Setup {
            step: failed.step.clone(),
            errno,
        });
    }
}

/// Runs the launcher to its end.
pub(crate) fn launch(birth: Birth) -> ! {
    let Ok(control) = take_control() else {
        sys::exit(125)
    };
    match enter(birth, &control) {
        Ok(code) => sys::exit(code),
        Err(failed) => {
            if let Ok(mut reporter) = Reporter::of(&control) {
                reporter.failed(&failed);
            }
            sys::exit(126)
        }
    }
}

/// The socket comes as standard input; nothing else that was left open stays.
fn take_control() -> std::io::Result<OwnedFd> {
    sys::close_range(3, u32::MAX)?;
    let control = sys::dup_above(0, 3)?;
    // Standard output leads nowhere.
    sys::dup2(1, 0)?;
    #[expect(
        unsafe_code,
        reason = "the number was made above and is owned by nobody else"
    )]
    // SAFETY: `control` is open and this is its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(control) })
}

/// Enters the namespaces and becomes the one who waits for init.
fn enter(birth: Birth, control: &OwnedFd) -> Result<i32, Failed> {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    sys::unshare(libc::CLONE_NEWUSER).at("user namespace")?;
    let map = |id: u32| format!("{INSIDE_ID} {id} 1");
    std::fs::write("/proc/self/setgroups", "deny").at("user namespace")?;
    std::fs::write("/proc/self/gid_map", map(gid.as_raw())).at("user namespace")?;
    std::fs::write("/proc/self/uid_map", map(uid.as_raw())).at("user namespace")?;
    // The others are entered by init alone: whoever ends last takes them down, which takes longer than all the rest of an end.
    sys::unshare(libc::CLONE_NEWPID).at("namespaces")?;
    match sys::fork().at("fork")? {
        sys::Side::Child => init::become_init(birth, uid.is_root(), control),
        sys::Side::Parent(pid) => {
            // Whoever waits at the other end waits for init. Nothing of it is used here any more.
            let number = control.as_raw_fd() as u32;
            sys::close_range(number, number).at("handover")?;
            // The kernel lets go of a namespace's process 1 when the last of the others is gone: whoever has waited for the launcher has waited
            // for all of them.
            Ok(if sys::wait_for(pid) { 0 } else { 124 })
        }
    }
}

/// User and group inside: nobody in particular, and not root.
const INSIDE_ID: u32 = 1000;
