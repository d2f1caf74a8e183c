//! A supervisor of the system calls by which one process changes the world: it sees each of them before it is done, and can end the process there.
//!
//! The filter is inherited by all that the process starts. Their calls are let through, and nobody has them any more when the last of these
//! processes is gone: so the supervisor knows as well whether one was left behind.
#![expect(
    unsafe_code,
    reason = "a supervisor of system calls (seccomp_unotify(2)) has no safe wrapper"
)]

use std::collections::BTreeMap;
use std::io::{Error, Read as _, Result, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::call::{self, Caller, Counted};
use crate::filter;

/// Where a process is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The kind of call.
    pub kind: String,
    /// Which one of that kind, from 0.
    pub nth: usize,
    /// Whether that call is still done.
    pub moment: Moment,
}

/// On which side of a call a process is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The call is not done.
    Before,
    /// The call is done, and the process never learns of it.
    After,
    /// The process lives: the call fails, and so does from then on every other that needs room.
    DiskFull,
    /// The same, for every other that changes a file.
    ReadOnly,
}

impl Moment {
    /// What a call of this kind fails with, once this has come.
    fn refuses(self, kind: &str) -> Option<i32> {
        const NEED_ROOM: &[&str] = &[
            "clone-file",
            "copy",
            "fallocate",
            "link",
            "mkdir",
            "mknod",
            "open",
            "symlink",
            "write",
        ];
        const CHANGE_NO_FILE: &[&str] = &[
            "connect", "exec", "kill", "mount", "send", "spawn", "sync", "umount",
        ];
        let (call, place) = kind.split_once(' ').unwrap_or((kind, ""));
        let is_on_disk = ["home", "repo"].contains(&place.split('/').next()?);
        match self {
            Moment::DiskFull if is_on_disk && NEED_ROOM.contains(&call) => Some(libc::ENOSPC),
            Moment::ReadOnly if is_on_disk && !CHANGE_NO_FILE.contains(&call) => Some(libc::EROFS),
            _ => None,
        }
    }

    pub fn kills(self) -> bool {
        matches!(self, Moment::Before | Moment::After)
    }

    /// Whether this can come at a call of this kind.
    pub fn comes_at(self, kind: &str) -> bool {
        self.kills() || self.refuses(kind).is_some()
    }
}

/// What was seen of one process.
#[derive(Debug, Default)]
pub struct Seen {
    /// The kinds of its calls, in their order.
    pub calls: Vec<String>,
    /// Whether it came to the point.
    pub met: bool,
}

/// A process under a supervisor.
pub struct Supervised {
    pub child: Child,
    seen: Receiver<Seen>,
    gone: Receiver<()>,
}

impl Supervised {
    /// Waits until the process has ended, and says what was seen of it.
    pub fn wait(mut self) -> (std::process::ExitStatus, Seen, Rest) {
        let status = self.child.wait().unwrap();
        let rest = Rest { gone: self.gone };
        (status, self.seen.recv().unwrap(), rest)
    }
}

/// What a process that has ended may have left behind.
pub struct Rest {
    gone: Receiver<()>,
}

impl Rest {
    /// Whether all that it started ends within so long.
    pub fn is_gone_within(&self, time: Duration) -> bool {
        self.gone.recv_timeout(time).is_ok()
    }
}

/// Starts a program under a supervisor, which ends it at the point. `places` are directories, each with the name by which kinds call it.
pub fn start(mut command: Command, places: call::Places, point: Option<Point>) -> Supervised {
    let (mut telling_end, telling) = std::io::pipe().unwrap();
    let program = filter::program();
    // SAFETY: only system calls; the memory of the program was made before.
    unsafe {
        command.pre_exec(move || install(&telling, &program));
    }
    let (seen_to, seen) = channel();
    let (gone_to, gone) = channel();
    // The call by which it is executed waits for the supervisor: so another thread must be that, and begin before.
    std::thread::spawn(move || {
        let mut told = [0; 8];
        telling_end.read_exact(&mut told).unwrap();
        let (pid, number) = told.split_at(4);
        let pid = i32::from_ne_bytes(pid.try_into().unwrap());
        let listener = take(pid, i32::from_ne_bytes(number.try_into().unwrap())).unwrap();
        let mut watch = Watch {
            listener,
            caller: Caller::new(pid, places),
            point,
            seen: Some(Seen::default()),
            executed: false,
            fault: None,
            counted: BTreeMap::new(),
        };
        watch.serve(|seen| drop(seen_to.send(seen)));
        let _ = gone_to.send(());
    });
    let child = command.spawn().unwrap();
    Supervised { child, seen, gone }
}

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(result)
}

/// In the new process: says who it is and which descriptor will be the listener's, and lets go of its calls.
fn install(mut telling: &std::io::PipeWriter, program: &[libc::sock_filter]) -> Result<()> {
    // The lowest free number: the kernel gives it to the listener.
    // SAFETY: plain integers; the number is this function's.
    let number = unsafe {
        let number = libc::dup(0);
        check(libc::c_long::from(number))?;
        libc::close(number);
        number
    };
    // SAFETY: no pointers.
    let pid = unsafe { libc::getpid() };
    telling.write_all(&pid.to_ne_bytes())?;
    telling.write_all(&number.to_ne_bytes())?;
    // SAFETY: no pointers. Root needs no such promise.
    unsafe {
        if libc::geteuid() != 0 {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1u64, 0u64, 0u64, 0u64);
        }
    }
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // A signal that does not kill must not have a call asked twice.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE_RECV;
    // SAFETY: the program lives through the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    })
    .map(drop)
}

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` of linux/seccomp.h, from Linux 5.19.
const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;

/// A copy of the listener, which the process has as soon as it has let go of its calls; its own goes when it is executed.
fn take(pid: i32, number: RawFd) -> Result<OwnedFd> {
    // SAFETY: plain integers.
    let process = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: just opened, and nobody else's.
    let process = unsafe { OwnedFd::from_raw_fd(process as RawFd) };
    let begun = std::time::Instant::now();
    loop {
        // SAFETY: plain integers.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
        if got >= 0 {
            // SAFETY: just opened, and nobody else's.
            let got = unsafe { OwnedFd::from_raw_fd(got as RawFd) };
            let what = std::fs::read_link(format!("/proc/self/fd/{}", got.as_raw_fd()))?;
            if what.to_string_lossy().contains("seccomp") {
                return Ok(got);
            }
        }
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(Error::last_os_error());
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

struct Watch {
    listener: OwnedFd,
    caller: Caller,
    point: Option<Point>,
    /// Gone when it was told: the process has ended.
    seen: Option<Seen>,
    executed: bool,
    /// What has befallen the machine, and goes on.
    fault: Option<Moment>,
    /// How many there were of each kind.
    counted: BTreeMap<String, usize>,
}

impl Watch {
    /// Answers calls until nobody is left who could make one.
    fn serve(&mut self, mut ended: impl FnMut(Seen)) {
        loop {
            let waiting = self.waits();
            if self.seen.is_some() && (waiting == Waiting::Gone || self.caller.has_ended()) {
                ended(self.seen.take().unwrap_or_default());
            }
            match waiting {
                Waiting::Asked => self.answer(),
                Waiting::Nothing => {}
                Waiting::Gone => return,
            }
        }
    }

    fn answer(&mut self) {
        // SAFETY: all-zero bytes are a valid notification, as the kernel wants it.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the structure lives through the call. Who asked may be gone.
        if unsafe { libc::ioctl(self.listener.as_raw_fd(), RECEIVE, &raw mut asked) } < 0 {
            return;
        }
        let verdict = self.count(&asked);
        if verdict == Verdict::Kill(Moment::Before) {
            self.caller.kill();
            return;
        }
        let mut answer = libc::seccomp_notif_resp {
            id: asked.id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        };
        if let Verdict::Refuse(errno) = verdict {
            (answer.error, answer.flags) = (-errno, 0);
        }
        // SAFETY: the structure lives through the call. Who asked may be gone.
        unsafe { libc::ioctl(self.listener.as_raw_fd(), ANSWER, &raw const answer) };
        if verdict == Verdict::Kill(Moment::After) {
            // A call that was let go is done before the signal is looked at.
            self.caller.kill();
        }
    }

    /// What becomes of a call.
    fn count(&mut self, asked: &libc::seccomp_notif) -> Verdict {
        let Some(seen) = self.seen.as_mut() else {
            return Verdict::Go;
        };
        if !self.caller.owns(asked.pid) {
            return Verdict::Go;
        }
        let number = i64::from(asked.data.nr);
        if !self.executed {
            self.executed = number == libc::SYS_execve;
            return Verdict::Go;
        }
        let Counted::Yes(kind) = self.caller.kind(asked.pid, number, &asked.data.args) else {
            return Verdict::Go;
        };
        let counted = self.counted.entry(kind.clone()).or_default();
        let before = std::mem::replace(counted, *counted + 1);
        let point = self
            .point
            .as_ref()
            .filter(|point| point.kind == kind && point.nth == before && !seen.met);
        let moment = point.map(|point| point.moment);
        seen.met |= moment.is_some();
        let verdict = match moment {
            Some(moment) if moment.kills() => Verdict::Kill(moment),
            _ => {
                self.fault = self.fault.or(moment);
                let errno = self.fault.and_then(|fault| fault.refuses(&kind));
                errno.map_or(Verdict::Go, Verdict::Refuse)
            }
        };
        seen.calls.push(kind);
        verdict
    }

    fn waits(&self) -> Waiting {
        let mut watch = libc::pollfd {
            fd: self.listener.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry, which lives through the call.
        let ready = unsafe { libc::poll(&raw mut watch, 1, 20) };
        match ready {
            1 if watch.revents & libc::POLLIN != 0 => Waiting::Asked,
            1 => Waiting::Gone,
            _ => Waiting::Nothing,
        }
    }
}

/// What becomes of a call.
#[derive(PartialEq, Eq)]
enum Verdict {
    Go,
    /// The process ends, at this moment of it.
    Kill(Moment),
    /// It is not done, and fails with this.
    Refuse(i32),
}

#[derive(PartialEq, Eq)]
enum Waiting {
    Asked,
    Nothing,
    Gone,
}

/// `SECCOMP_IOCTL_NOTIF_RECV` and `_SEND` of linux/seccomp.h: read and write, type `!`, numbers 0 and 1, with the size of what is passed.
const RECEIVE: libc::Ioctl = number_of::<libc::seccomp_notif>(0);
const ANSWER: libc::Ioctl = number_of::<libc::seccomp_notif_resp>(1);

const fn number_of<T>(number: u32) -> libc::Ioctl {
    (3 << 30 | (size_of::<T>() as u32) << 16 | (b'!' as u32) << 8 | number) as libc::Ioctl
}
