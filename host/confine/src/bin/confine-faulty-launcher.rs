//! A launcher some of whose system calls fail, for tests.
//!
//! Its environment and arguments are a launcher's, so the name by which it is started tells what fails: `NUMBER.WHICH.ERRNO` lets the WHICHth
//! (from 0, or `every`) call of that number fail in all of the set-up; any other name, none. What was called until the program was executed
//! is noted in the file `calls` beside that name.
#![expect(
    unsafe_code,
    reason = "a supervisor of system calls (seccomp_unotify(2)) has no safe wrapper"
)]

use std::io::{Error, Result};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

/// Which calls fail.
struct Plan {
    number: libc::c_int,
    which: Option<usize>,
    errno: i32,
}

fn main() {
    let name = std::env::args_os()
        .next()
        .map(PathBuf::from)
        .unwrap_or_default();
    if supervised(&name).is_err() {
        std::process::exit(99);
    }
    confine::enter_if_asked();
}

fn plan(name: &Path) -> Option<Plan> {
    let text = name.file_name()?.to_str()?;
    let mut parts = text.split('.');
    Some(Plan {
        number: parts.next()?.parse().ok()?,
        which: match parts.next()? {
            "every" => None,
            which => Some(which.parse().ok()?),
        },
        errno: parts.next()?.parse().ok()?,
    })
}

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(result)
}

/// From its return on every system call of this process and its descendants is answered by a process beside it.
fn supervised(name: &Path) -> Result<()> {
    // The lowest free number: the kernel gives it to the listener.
    // SAFETY: plain integers; the number is this function's.
    let expected = unsafe { libc::dup(0) };
    check(libc::c_long::from(expected))?;
    // SAFETY: as above.
    unsafe { libc::close(expected) };
    // The descriptors are shared until the supervisor has taken the listener: nothing could be sent to it through calls that it must answer.
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: no pointers.
    let supervised = unsafe { libc::getpid() };
    // SAFETY: a fork but for the shared descriptors; this process has one thread.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    if pid == 0 {
        let _ = supervise(expected, name, supervised);
        // SAFETY: nothing needs to be cleaned up.
        unsafe { libc::_exit(0) }
    }
    let all = [libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_USER_NOTIF,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: all.as_ptr().cast_mut(),
    };
    // SAFETY: no pointers. Root needs no such promise, and has to make it later, as always.
    unsafe {
        if libc::geteuid() != 0 {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1u64, 0u64, 0u64, 0u64);
        }
    }
    // SAFETY: the program lives through the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    })
    .map(drop)
}

fn supervise(listener: RawFd, name: &Path, supervised: libc::pid_t) -> Result<()> {
    // SAFETY: plain integers; what is closed is used by nobody in this process.
    unsafe {
        while libc::fcntl(listener, libc::F_GETFD) < 0 {
            if libc::getppid() != supervised {
                // It was killed before it made one, as launchers are that nobody needs any more.
                return Ok(());
            }
            libc::sched_yield();
        }
        check(libc::c_long::from(libc::unshare(libc::CLONE_FILES)))?;
        if listener > 0 {
            libc::syscall(libc::SYS_close_range, 0, listener - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, listener + 1, u32::MAX, 0);
    }
    let plan = plan(name);
    let mut calls: Vec<libc::c_int> = Vec::new();
    let mut executed = false;
    while waits(listener) {
        // SAFETY: all-zero bytes are a valid notification, as the kernel wants it.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the structure lives through the call.
        if unsafe { libc::ioctl(listener, RECEIVE, &raw mut asked) } < 0 {
            continue;
        }
        let number = asked.data.nr;
        let mut errno = None;
        if !executed {
            let before = calls.iter().filter(|call| **call == number).count();
            errno = plan
                .as_ref()
                .filter(|plan| plan.number == number && plan.which.is_none_or(|nth| nth == before))
                .map(|plan| plan.errno);
            calls.push(number);
            if i64::from(number) == libc::SYS_execve {
                executed = true;
                let lines: Vec<String> = calls.iter().map(ToString::to_string).collect();
                let _ = std::fs::write(name.with_file_name("calls"), lines.join("\n"));
            }
        }
        let answer = libc::seccomp_notif_resp {
            id: asked.id,
            val: 0,
            error: errno.map_or(0, |errno| -errno),
            flags: match errno {
                Some(_) => 0,
                None => libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            },
        };
        // SAFETY: the structure lives through the call. Who asked may be gone.
        unsafe { libc::ioctl(listener, ANSWER, &raw const answer) };
    }
    Ok(())
}

/// `SECCOMP_IOCTL_NOTIF_RECV` and `_SEND` of linux/seccomp.h: read and write, type `!`, numbers 0 and 1, with the size of what is passed.
const RECEIVE: libc::Ioctl = number_of::<libc::seccomp_notif>(0);
const ANSWER: libc::Ioctl = number_of::<libc::seccomp_notif_resp>(1);

const fn number_of<T>(number: u32) -> libc::Ioctl {
    (3 << 30 | (size_of::<T>() as u32) << 16 | (b'!' as u32) << 8 | number) as libc::Ioctl
}

/// Whether somebody asks; not when nobody is left who could.
fn waits(listener: RawFd) -> bool {
    let mut watch = libc::pollfd {
        fd: listener,
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        // SAFETY: one entry, which lives through the call.
        let ready = unsafe { libc::poll(&raw mut watch, 1, -1) };
        if ready > 0 {
            return watch.revents & libc::POLLIN != 0;
        }
    }
}
