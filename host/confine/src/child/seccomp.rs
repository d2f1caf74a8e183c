//! System calls that no build and no test suite needs, and that sandboxes were left through.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op,
    SeccompCondition as Condition, SeccompFilter, SeccompRule as Rule, TargetArch, sock_filter,
};

/// Refused whatever the arguments: tracing, foreign memory, kernel keys and programs, mounts, namespaces, time, modules.
const REFUSED: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_personality,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_fanotify_init,
    libc::SYS_migrate_pages,
    OPEN_TREE_ATTR,
    libc::SYS_move_pages,
];

/// From Linux 6.15; numbers of this age are the same everywhere.
const OPEN_TREE_ATTR: i64 = 467;

const NEW_NAMESPACES: &[i32] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Lets go of the system calls, for this process and all that it starts.
pub(crate) fn apply() -> std::io::Result<()> {
    let failed = |error: String| std::io::Error::other(error);
    for program in programs().map_err(failed)? {
        seccompiler::apply_filter(&program).map_err(|error| match error {
            seccompiler::Error::Prctl(system) | seccompiler::Error::Seccomp(system) => system,
            other => failed(other.to_string()),
        })?;
    }
    Ok(())
}

fn programs() -> Result<Vec<BpfProgram>, String> {
    let arch: TargetArch = std::env::consts::ARCH
        .try_into()
        .map_err(|error| format!("{error:?}"))?;
    let refused = filter(refusals()?, libc::EPERM, arch)?;
    // Its flags lie in memory that a filter cannot read; libraries fall back to `clone`, whose flags it can.
    let clone3 = filter(
        BTreeMap::from([(libc::SYS_clone3, vec![])]),
        libc::ENOSYS,
        arch,
    )?;
    // It takes gigabytes of disk within a microsecond, faster than anybody can watch; not every file system has it, so programs know to
    // write instead.
    let fallocate = filter(
        BTreeMap::from([(libc::SYS_fallocate, vec![])]),
        libc::EOPNOTSUPP,
        arch,
    )?;
    let mut programs = vec![refused, clone3, fallocate];
    if cfg!(target_arch = "x86_64") {
        programs.push(no_x32());
    }
    Ok(programs)
}

fn filter(
    rules: BTreeMap<i64, Vec<Rule>>,
    errno: i32,
    arch: TargetArch,
) -> Result<BpfProgram, String> {
    // A foreign architecture's numbers mean other calls: seccompiler kills the process for them.
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        arch,
    )
    .and_then(BpfProgram::try_from)
    .map_err(|error| error.to_string())
}

fn refusals() -> Result<BTreeMap<i64, Vec<Rule>>, String> {
    let mut rules: BTreeMap<i64, Vec<Rule>> =
        REFUSED.iter().map(|number| (*number, vec![])).collect();
    let rule = |conditions| Rule::new(conditions).map_err(|error| error.to_string());
    let condition = |index, length, op, value| {
        Condition::new(index, length, op, value).map_err(|error| error.to_string())
    };
    let clones = NEW_NAMESPACES
        .iter()
        .map(|flag| {
            rule(vec![condition(
                0,
                Length::Qword,
                Op::MaskedEq(*flag as u64),
                *flag as u64,
            )?])
        })
        .collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_clone, clones);
    // Typing into, or pasting into, a terminal of the host.
    let typing = [libc::TIOCSTI, libc::TIOCLINUX];
    let typing = typing
        .iter()
        .map(|request| rule(vec![condition(1, Length::Dword, Op::Eq, *request)?]))
        .collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_ioctl, typing);
    // Init is process 1; a limit on its processor time would kill it before it could tell how the program ended.
    rules.insert(
        libc::SYS_prlimit64,
        vec![rule(vec![condition(0, Length::Dword, Op::Eq, 1)?])?],
    );
    // UNIX and IP sockets only, and of IP no raw ones: netlink, vsock, packet, alg and the rest have no use here.
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    let others = families
        .iter()
        .map(|family| condition(0, Length::Dword, Op::Ne, *family as u64))
        .collect::<Result<Vec<_>, _>>()?;
    let raw = condition(1, Length::Dword, Op::MaskedEq(0xf), libc::SOCK_RAW as u64)?;
    rules.insert(libc::SYS_socket, vec![rule(others)?, rule(vec![raw])?]);
    Ok(rules)
}

/// Kills for x32 numbers, which share the architecture word and name the same calls once more.
fn no_x32() -> BpfProgram {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32_BIT: u32 = 0x4000_0000;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_IF_AT_LEAST, 0, 1, X32_BIT),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}
