//! Which system calls the supervisor is asked about: those that change files, start or end processes, or speak to a network.

/// Always.
const ALWAYS: &[i64] = &[
    libc::SYS_creat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_fsetxattr,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_clone3,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
];

/// When one of these bits of one argument is set, or, last, when none is.
const SOMETIMES: &[(i64, u8, u32, bool)] = &[
    (libc::SYS_open, 1, CREATING, true),
    (libc::SYS_openat, 2, CREATING, true),
    (libc::SYS_clone, 0, libc::CLONE_THREAD as u32, false),
];

const CREATING: u32 = (libc::O_CREAT | libc::O_TRUNC) as u32;

/// `FICLONE` of linux/fs.h.
const CLONE_FILE: u32 = 0x4004_9409;

const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

const fn step(code: u16, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter {
        code,
        jt: yes,
        jf: no,
        k,
    }
}

/// The low half of an argument in `struct seccomp_data`, on machines that have it first.
const fn argument(nth: u8) -> libc::sock_filter {
    step(LOAD, 16 + 8 * nth as u32, 0, 0)
}

pub fn program() -> Vec<libc::sock_filter> {
    let ask = step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0);
    let allow = step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
    let mut steps = vec![step(LOAD, 0, 0, 0)];
    for number in ALWAYS {
        steps.extend([step(IF_EQUAL, *number as u32, 0, 1), ask]);
    }
    for (number, nth, bits, when_set) in SOMETIMES {
        let (set, unset) = if *when_set {
            (ask, allow)
        } else {
            (allow, ask)
        };
        steps.extend([
            step(IF_EQUAL, *number as u32, 0, 4),
            argument(*nth),
            step(IF_BITS, *bits, 0, 1),
            set,
            unset,
        ]);
    }
    steps.extend([
        step(IF_EQUAL, libc::SYS_ioctl as u32, 0, 3),
        argument(1),
        step(IF_EQUAL, CLONE_FILE, 0, 1),
        ask,
        allow,
    ]);
    steps
}
