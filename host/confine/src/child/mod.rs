//! Inside the launcher process: from the specification to the confined program.
//!
//! ```text
//! launcher -- unshare --> fork --> init (pid 1 inside) -- mounts, pivot --> fork --> program -- limits, Landlock, seccomp --> exec
//!    |                              | waits for the program or the end of the lifeline, kills all, says so, and goes
//!    | waits for init
//! ```

mod init;
mod mounts;
mod restrict;
mod seccomp;
pub(crate) mod sys;

pub(crate) use restrict::attainable;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use crate::command::Network;
use crate::specification::{Specification, Status};

/// The first argument of a process that is to become a launcher.
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

/// Reports over the status pipe; there is no one else to tell.
pub(crate) struct Reporter(File);

impl Reporter {
    /// Whoever only has an end to tell goes on without being heard.
    pub(crate) fn tell(&mut self, status: &Status) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(status)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    pub(crate) fn failed(&mut self, failed: &Failed) {
        let errno = failed.error.raw_os_error().unwrap_or(libc::EINVAL);
        let _ = self.tell(&Status::Setup {
            step: failed.step.clone(),
            errno,
        });
    }
}

/// Where the descriptors of the specification were put.
pub(crate) struct Descriptors {
    pub(crate) lifeline: Option<RawFd>,
    pub(crate) door: Option<OwnedFd>,
}

/// Runs the launcher to its end.
pub(crate) fn launch() -> ! {
    let mut text = String::new();
    let Some(specification) = std::io::stdin()
        .read_to_string(&mut text)
        .ok()
        .and_then(|_| serde_json::from_str::<Specification>(&text).ok())
    else {
        sys::exit(125)
    };
    let (mut reporter, descriptors) = match arrange(&specification) {
        Ok(arranged) => arranged,
        Err(_) => sys::exit(125),
    };
    match enter(&specification, &mut reporter, descriptors) {
        Ok(code) => sys::exit(code),
        Err(failed) => {
            reporter.failed(&failed);
            sys::exit(126)
        }
    }
}

/// Puts every descriptor in its place and closes all others.
fn arrange(specification: &Specification) -> std::io::Result<(Reporter, Descriptors)> {
    let passed = specification.pass_fds.len() as RawFd;
    // Out of the way first: the numbers may overlap with their destinations.
    let high = 200 + passed;
    let status = sys::dup_above(specification.status_fd, high)?;
    let stdin = sys::dup_above(specification.stdin_fd, high)?;
    let lifeline = specification
        .lifeline_fd
        .map(|fd| sys::dup_above(fd, high))
        .transpose()?;
    let door = specification
        .door_fd
        .map(|fd| sys::dup_above(fd, high))
        .transpose()?;
    let copies = specification
        .pass_fds
        .iter()
        .map(|fd| sys::dup_above(*fd, high))
        .collect::<Result<Vec<_>, _>>()?;
    sys::dup2(stdin, 0)?;
    for (at, copy) in copies.iter().enumerate() {
        sys::dup2(*copy, 3 + at as RawFd)?;
    }
    let mut kept: Vec<u32> = lifeline
        .into_iter()
        .chain(door)
        .chain([status])
        .map(|fd| fd as u32)
        .collect();
    kept.sort_unstable();
    let mut first = 3 + passed as u32;
    for fd in kept {
        if fd > first {
            sys::close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    sys::close_range(first, u32::MAX)?;
    #[expect(
        unsafe_code,
        reason = "the numbers were made above and are owned by nobody else"
    )]
    // SAFETY: `status` and `door` are open and these are their only owners.
    let (file, door) = unsafe {
        (
            File::from_raw_fd(status),
            door.map(|fd| OwnedFd::from_raw_fd(fd)),
        )
    };
    Ok((Reporter(file), Descriptors { lifeline, door }))
}

/// Enters the namespaces and becomes the one who waits for init.
fn enter(
    specification: &Specification,
    reporter: &mut Reporter,
    descriptors: Descriptors,
) -> Result<i32, Failed> {
    let (uid, gid) = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    sys::unshare(libc::CLONE_NEWUSER).at("user namespace")?;
    std::fs::write("/proc/self/setgroups", "deny").at("user namespace")?;
    std::fs::write("/proc/self/gid_map", format!("{INSIDE_ID} {gid} 1")).at("user namespace")?;
    std::fs::write("/proc/self/uid_map", format!("{INSIDE_ID} {uid} 1")).at("user namespace")?;
    let mut flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    if specification.network != Network::Host {
        flags |= libc::CLONE_NEWNET;
    }
    sys::unshare(flags).at("namespaces")?;
    match sys::fork().at("fork")? {
        sys::Side::Child => init::become_init(specification, reporter, descriptors),
        sys::Side::Parent(pid) => {
            drop(descriptors.door);
            if let Some(lifeline) = descriptors.lifeline {
                // Init holds its own copy; ours would do no harm, but one holder is easier to think about.
                let _ = sys::close_range(lifeline as u32, lifeline as u32);
            }
            // The kernel lets go of a namespace's process 1 when the last of the others is gone: whoever has waited for the launcher has waited
            // for all of them.
            Ok(if sys::wait_for(pid) { 0 } else { 124 })
        }
    }
}

/// User and group inside: nobody in particular, and not root.
const INSIDE_ID: u32 = 1000;
