//! Process 1 inside: it builds the file system, starts the program, reaps orphans, and takes all with it when it goes.

use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;

use crate::child::sys::{self, Side, Wait};
use crate::child::{At as _, Descriptors, Failed, Reporter, mounts, restrict};
use crate::command::Network;
use crate::door;
use crate::specification::{Specification, Status};

/// Never returns: init ends when the program ends, or the lifeline does.
pub(crate) fn become_init(
    specification: &Specification,
    reporter: &mut Reporter,
    descriptors: Descriptors,
) -> ! {
    match prepare(specification, descriptors.door)
        .and_then(|signals| start(specification, reporter, descriptors.lifeline, signals))
    {
        Ok(code) => sys::exit(code),
        Err(failed) => {
            reporter.failed(&failed);
            sys::exit(126)
        }
    }
}

fn prepare(specification: &Specification, door: Option<OwnedFd>) -> Result<i32, Failed> {
    // The launcher has one thread, so its death is the process's (unlike a tokio thread's).
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64).at("parent death signal")?;
    // When memory runs out the kernel takes from here first, and not from whoever else is on the machine: limits hold for each process, not
    // for all together. Inherited, and out of the program's reach; a container that forbids it is none the worse.
    if specification.lifeline_fd.is_some() {
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
    sys::prctl(libc::PR_SET_DUMPABLE, 0).at("dumpable")?;
    if specification.network != Network::Host {
        sys::loopback_up().at("loopback")?;
    }
    if let Some(door) = door {
        door::hand_out(door.as_fd()).at("door")?;
    }
    rustix::system::sethostname(b"moat").at("host name")?;
    mounts::build(specification)?;
    sys::child_signals().at("signals")
}

fn start(
    specification: &Specification,
    reporter: &mut Reporter,
    lifeline: Option<RawFd>,
    signals: i32,
) -> Result<i32, Failed> {
    let program = match sys::fork().at("fork")? {
        Side::Child => become_program(specification, reporter),
        Side::Parent(pid) => pid,
    };
    loop {
        let lifeline_ended = sys::poll(signals, lifeline).unwrap_or(false);
        if lifeline_ended {
            end_all(reporter);
            return Ok(124);
        }
        sys::drain(signals);
        loop {
            match sys::reap() {
                Wait::Exited(pid, code) if pid == program => {
                    let _ = reporter.tell(&Status::Exited { code });
                    end_all(reporter);
                    return Ok(0);
                }
                Wait::Signalled(pid, signal) if pid == program => {
                    let _ = reporter.tell(&Status::Signalled { signal });
                    end_all(reporter);
                    return Ok(0);
                }
                Wait::NoChildren => return Ok(124),
                Wait::NoneYet => break,
                Wait::Exited(..) | Wait::Signalled(..) => {}
            }
        }
    }
}

/// Before init goes itself: the kernel would kill the rest as well, but nobody could tell when it is done, except by waiting for the
/// namespaces to be taken down, which takes many times longer.
fn end_all(reporter: &mut Reporter) {
    sys::kill_all();
    let _ = reporter.tell(&Status::Gone);
}

/// The last steps, in the program's own process: after each of them less is possible.
fn become_program(specification: &Specification, reporter: &mut Reporter) -> ! {
    // What is not known to run is not run.
    let told = restrict::all(specification)
        .and_then(|level| reporter.tell(&Status::Running { level }).at("report"));
    if let Err(failed) = told {
        reporter.failed(&failed);
        sys::exit(126)
    }
    let error = std::process::Command::new(&specification.program)
        .args(&specification.args)
        .env_clear()
        .envs(&specification.env)
        .exec();
    let _ = reporter.tell(&Status::Exec {
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
    });
    sys::exit(127)
}
