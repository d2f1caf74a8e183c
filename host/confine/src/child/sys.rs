//! The few system calls that have no safe wrapper, each in one function.
#![expect(
    unsafe_code,
    reason = "system calls on plain integers and valid C strings; each call says what it relies on"
)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{Error, Result};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Which side of a fork this is.
pub(crate) enum Side {
    Child,
    Parent(libc::pid_t),
}

/// Forks. The launcher has one thread, so the child may do anything.
pub(crate) fn fork() -> Result<Side> {
    // SAFETY: this process has a single thread (entered at the top of `main`, before any is started).
    match check(libc::c_long::from(unsafe { libc::fork() }))? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid as libc::pid_t)),
    }
}

/// Enters new namespaces.
pub(crate) fn unshare(flags: i32) -> Result<()> {
    // SAFETY: no pointers; a single thread.
    check(libc::c_long::from(unsafe { libc::unshare(flags) })).map(drop)
}

/// Moves a descriptor to a number, without close-on-exec.
pub(crate) fn dup2(from: RawFd, to: RawFd) -> Result<()> {
    // SAFETY: no pointers; the caller owns both numbers.
    check(libc::c_long::from(unsafe { libc::dup2(from, to) })).map(drop)
}

/// Copies a descriptor to a number of at least `min`, with close-on-exec.
pub(crate) fn dup_above(from: RawFd, min: RawFd) -> Result<RawFd> {
    // SAFETY: no pointers.
    check(libc::c_long::from(unsafe {
        libc::fcntl(from, libc::F_DUPFD_CLOEXEC, min)
    }))
    .map(|fd| fd as RawFd)
}

/// Closes every descriptor from `first` to `last`.
pub(crate) fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: the caller gives up what it owns in this range; nothing in this process uses it afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) }).map(drop)
}

/// Marks every descriptor from `first` on to be closed at the next exec. Allocates nothing: it may be called between fork and exec.
pub(crate) fn close_on_exec_from(first: u32) -> Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: no pointers; until the exec every descriptor stays as it is.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }).map(drop)
}

/// A control of the process itself.
pub(crate) fn prctl(option: i32, argument: u64) -> Result<()> {
    // SAFETY: only options with integer arguments are used.
    check(libc::c_long::from(unsafe {
        libc::prctl(option, argument, 0u64, 0u64, 0u64)
    }))
    .map(drop)
}

/// A limit of the process and its children, both soft and hard.
pub(crate) fn rlimit(resource: u32, value: u64) -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: `limit` lives through the call.
    check(libc::c_long::from(unsafe {
        libc::setrlimit(resource, &raw const limit)
    }))
    .map(drop)
}

/// Sets attributes of a mount and all below it.
pub(crate) fn mount_attributes(tree: RawFd, set: u64) -> Result<()> {
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attributes = Attributes {
        set,
        clear: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is an empty C string, the structure lives through the call and has the size that is told.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree,
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    })
    .map(drop)
}

/// Makes the mounted directory we stand in the root, for every process in this namespace.
pub(crate) fn pivot_here() -> Result<()> {
    // SAFETY: C string literals.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}

/// Lets go of the old root, where we still stand.
pub(crate) fn leave_old_root() -> Result<()> {
    // SAFETY: a C string literal; the old root lies on top of the new one now.
    check(libc::c_long::from(unsafe {
        libc::umount2(c".".as_ptr(), libc::MNT_DETACH)
    }))
    .map(drop)
}

/// Mounts a file system of its own.
pub(crate) fn mount(kind: &str, target: &Path, flags: u64, data: &str) -> Result<()> {
    let (kind, target) = (
        CString::new(kind)?,
        CString::new(target.as_os_str().as_bytes())?,
    );
    let data = CString::new(data)?;
    // SAFETY: all four are C strings that live through the call.
    check(libc::c_long::from(unsafe {
        libc::mount(
            kind.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    }))
    .map(drop)
}

/// Makes every mount private or read-only, by flags alone.
pub(crate) fn remount(target: &str, flags: u64) -> Result<()> {
    let target = CString::new(target)?;
    // SAFETY: a C string, and null where the kernel ignores the argument.
    check(libc::c_long::from(unsafe {
        libc::mount(
            std::ptr::null(),
            target.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    }))
    .map(drop)
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> Result<()> {
    // SAFETY: no pointers.
    let socket = check(libc::c_long::from(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    }))? as RawFd;
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request lives through the call and names an interface.
    let result = check(libc::c_long::from(unsafe {
        libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request)
    }));
    // SAFETY: this function opened it.
    unsafe { libc::close(socket) };
    result.map(drop)
}

/// The version of Landlock that the kernel has and would enforce.
pub(crate) fn landlock_abi() -> Result<i32> {
    const VERSION: u32 = 1;
    // SAFETY: a null pointer and no size, as the question for the version has them.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            VERSION,
        )
    })
    .map(|version| version as i32)
}

/// Gives up every capability, for good.
pub(crate) fn drop_capabilities() -> Result<()> {
    for capability in 0..64u64 {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            // The first number that the kernel does not know.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        }
    }
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    // _LINUX_CAPABILITY_VERSION_3: two words of each set.
    let header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let data = [0u32; 6];
    // SAFETY: header and data have the layout of version 3 and live through the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// How a child ended.
pub(crate) enum Wait {
    Exited(libc::pid_t, i32),
    Signalled(libc::pid_t, i32),
    /// Children exist, none has ended.
    NoneYet,
    /// No children exist.
    NoChildren,
}

/// Takes the next child that has ended, without waiting.
pub(crate) fn reap() -> Wait {
    let mut status = 0;
    // SAFETY: `status` lives through the call.
    match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
        0 => Wait::NoneYet,
        pid if pid < 0 => Wait::NoChildren,
        pid if libc::WIFEXITED(status) => Wait::Exited(pid, libc::WEXITSTATUS(status)),
        pid => Wait::Signalled(pid, libc::WTERMSIG(status)),
    }
}

/// Whether nothing else is in the namespace whose process 1 this is.
pub(crate) fn is_alone() -> bool {
    // SAFETY: no pointers; no signal is sent.
    let nobody = unsafe { libc::kill(-1, 0) } != 0;
    nobody && Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// Kills everything in the namespace whose process 1 this is, and takes it until nothing is left.
pub(crate) fn kill_all() {
    // SAFETY: no pointers. Anywhere but as process 1 of a namespace of our own, -1 would mean the whole machine.
    while unsafe { libc::getpid() == 1 && libc::kill(-1, libc::SIGKILL) == 0 } {
        // SAFETY: no status is asked for.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } > 0 {}
    }
}

/// Waits for one child and says whether it exited with 0.
pub(crate) fn wait_for(pid: libc::pid_t) -> bool {
    let mut status = 0;
    loop {
        // SAFETY: `status` lives through the call.
        let result = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if result == pid {
            return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
        }
        if Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return false;
        }
    }
}

/// Blocks a signal, so that it can be read from a descriptor.
pub(crate) fn child_signals() -> Result<RawFd> {
    // SAFETY: all-zero bytes are a valid set, which `sigemptyset` then makes empty.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set lives through the calls.
    unsafe {
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::c_long::from(libc::sigprocmask(
            libc::SIG_BLOCK,
            &raw const set,
            std::ptr::null_mut(),
        )))?;
        check(libc::c_long::from(libc::signalfd(
            -1,
            &raw const set,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        )))
        .map(|fd| fd as RawFd)
    }
}

/// Unblocks and resets every signal, as a program expects them.
pub(crate) fn default_signals() -> Result<()> {
    // SAFETY: all-zero bytes are a valid set; `SIG_DFL` is a valid disposition for every signal it is accepted for.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        check(libc::c_long::from(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const set,
            std::ptr::null_mut(),
        )))?;
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    Ok(())
}

/// Waits until one of two descriptors can be read; says whether it is the second.
pub(crate) fn poll(first: RawFd, second: Option<RawFd>) -> Result<bool> {
    let watch = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut set = [watch(first), watch(second.unwrap_or(-1))];
    // SAFETY: the array lives through the call and its length is told; a negative descriptor is skipped.
    check(libc::c_long::from(unsafe {
        libc::poll(set.as_mut_ptr(), 2, -1)
    }))?;
    Ok(set[1].revents != 0)
}

/// Reads a byte of a descriptor that has something: false at its end.
pub(crate) fn takes_byte(fd: RawFd) -> bool {
    let mut byte = 0u8;
    // SAFETY: the buffer lives through the call and its length is told.
    unsafe { libc::read(fd, (&raw mut byte).cast(), 1) == 1 }
}

/// Empties a signal descriptor.
pub(crate) fn drain(fd: RawFd) {
    let mut buffer = [0u8; 1024];
    // SAFETY: the buffer lives through the call and its length is told.
    while unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) } > 0 {}
}

/// Becomes another program. Returns only if that fails.
pub(crate) fn execute(program: &Path, args: &[String], env: &BTreeMap<String, String>) -> Error {
    let words = |words: Vec<Vec<u8>>| {
        let words = words.into_iter().map(CString::new);
        words.collect::<std::result::Result<Vec<_>, _>>()
    };
    let name = program.as_os_str().as_bytes().to_vec();
    let args = std::iter::once(name.clone()).chain(args.iter().map(|arg| arg.clone().into_bytes()));
    let env = env
        .iter()
        .map(|(key, value)| format!("{key}={value}").into_bytes());
    let (Ok(name), Ok(args), Ok(env)) = (
        CString::new(name),
        words(args.collect()),
        words(env.collect()),
    ) else {
        return Error::from_raw_os_error(libc::EINVAL);
    };
    let pointers = |words: &[CString]| {
        let ends = std::iter::once(std::ptr::null());
        words
            .iter()
            .map(|word| word.as_ptr())
            .chain(ends)
            .collect::<Vec<_>>()
    };
    let (args_at, env_at) = (pointers(&args), pointers(&env));
    // SAFETY: C strings and null-terminated arrays of them, which live through the call.
    unsafe { libc::execve(name.as_ptr(), args_at.as_ptr(), env_at.as_ptr()) };
    Error::last_os_error()
}

/// Begins a session without a terminal.
pub(crate) fn setsid() -> Result<()> {
    // SAFETY: no pointers.
    check(libc::c_long::from(unsafe { libc::setsid() })).map(drop)
}

/// Ends this process at once.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: nothing of this process needs to be cleaned up.
    unsafe { libc::_exit(code) }
}
