//! Process 1 inside: it builds the file system, waits for what is to be run, reaps orphans, and takes all with it when it goes.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::child::sys::{self, Side, Wait};
use crate::child::{At as _, Failed, Reporter, mounts, program};
use crate::command::Network;
use crate::specification::{Birth, Specification, Status};
use crate::{door, handover};

/// What stands before the program is known.
struct Prepared {
    root: mounts::Root,
    /// Tells of children that have ended.
    signals: RawFd,
    program: libc::pid_t,
    /// To the program's process.
    inner: OwnedFd,
}

/// Never returns: init ends when the program ends, or the socket does.
pub(crate) fn become_init(birth: Birth, by_root: bool, control: &OwnedFd) -> ! {
    let ended = Reporter::of(control).and_then(|mut reporter| {
        prepare(birth, by_root, control)
            .and_then(|prepared| serve(prepared, control, &mut reporter))
            .inspect_err(|failed| reporter.failed(failed))
    });
    sys::exit(ended.unwrap_or(126))
}

fn prepare(birth: Birth, by_root: bool, control: &OwnedFd) -> Result<Prepared, Failed> {
    // The launcher has one thread, so its death is the process's (unlike a tokio thread's).
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64).at("parent death signal")?;
    // When memory runs out the kernel takes from here first, and not from whoever else is on the machine: limits hold for each process, not
    // for all together. Inherited, and out of the program's reach; a container that forbids it is none the worse.
    if !birth.service {
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
    let mut flags =
        libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    if !birth.host_network {
        flags |= libc::CLONE_NEWNET;
    }
    sys::unshare(flags).at("namespaces")?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0).at("dumpable")?;
    if !birth.host_network {
        sys::loopback_up().at("loopback")?;
    }
    rustix::system::sethostname(b"moat").at("host name")?;
    let root = mounts::prepare(by_root)?;
    let signals = sys::child_signals().at("signals")?;
    let (inner, theirs) = handover::pair().at("handover")?;
    let reporter = Reporter::of(control)?;
    match sys::fork().at("fork")? {
        Side::Child => {
            drop(inner);
            program::become_program(theirs, reporter)
        }
        Side::Parent(program) => Ok(Prepared {
            root,
            signals,
            program,
            inner,
        }),
    }
}

fn serve(prepared: Prepared, control: &OwnedFd, reporter: &mut Reporter) -> Result<i32, Failed> {
    let Prepared {
        root,
        signals,
        program,
        inner,
    } = prepared;
    if !sys::poll(signals, Some(control.as_raw_fd())).at("handover")? {
        // The program's process has ended, and said why.
        return Ok(126);
    }
    let mut given = handover::receive(control).at("handover")?;
    if given.len() < 4 {
        // Nobody wants it any more.
        return Ok(124);
    }
    let specification = given[0].try_clone().and_then(Specification::read);
    let specification = specification.at("specification")?;
    if specification.network == Network::Door {
        if given.len() < 5 {
            return Err(Errno::BADF).at("door");
        }
        let door = given.remove(4);
        door::hand_out(door.as_fd()).at("door")?;
    }
    // The program's process goes on beside this one, from word to word.
    let passed: Vec<_> = given.iter().map(OwnedFd::as_fd).collect();
    handover::send(&inner, &passed).at("handover")?;
    // No copy stays here: who reads a program's output waits for the last writer.
    drop(given);
    mounts::finish(root, &specification)?;
    handover::nod(&inner).at("handover")?;
    mounts::seal()?;
    handover::nod(&inner).at("handover")?;
    drop(inner);
    Ok(watch(program, signals, Some(control.as_raw_fd()), reporter))
}

fn watch(
    program: libc::pid_t,
    signals: RawFd,
    mut lifeline: Option<RawFd>,
    reporter: &mut Reporter,
) -> i32 {
    loop {
        if sys::poll(signals, lifeline).unwrap_or(false) {
            if !lifeline.is_some_and(sys::takes_byte) {
                end_all(reporter, None);
                return 124;
            }
            // A service whose starter knows it for good: from here on it outlives that one.
            lifeline = None;
        }
        sys::drain(signals);
        loop {
            match sys::reap() {
                Wait::Exited(pid, code) if pid == program => {
                    end_all(reporter, Some(Status::Exited { code }));
                    return 0;
                }
                Wait::Signalled(pid, signal) if pid == program => {
                    end_all(reporter, Some(Status::Signalled { signal }));
                    return 0;
                }
                Wait::NoChildren => return 124,
                Wait::NoneYet => break,
                Wait::Exited(..) | Wait::Signalled(..) => {}
            }
        }
    }
}

/// Before init goes itself: the kernel would kill the rest as well, but nobody could tell when it is done, except by waiting for the
/// namespaces to be taken down, which takes many times longer.
fn end_all(reporter: &mut Reporter, ending: Option<Status>) {
    // At once where the program was the last, so that whoever waits for both wakes once.
    let alone = sys::is_alone();
    let now = ending.into_iter().chain(alone.then_some(Status::Gone));
    let _ = reporter.tell_all(now);
    if !alone {
        sys::kill_all();
        let _ = reporter.tell(&Status::Gone);
    }
}
