//! What the program's own process gives up before it executes: limits, capabilities, Landlock, seccomp.

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};

use crate::child::{At as _, Failed, seccomp, sys};
use crate::command::Mount;
use crate::specification::Specification;

/// Gives up everything that is not granted, in an order in which each step is still possible.
pub(crate) fn all(specification: &Specification) -> Result<(), Failed> {
    sys::default_signals().at("signals")?;
    sys::setsid().at("session")?;
    std::env::set_current_dir(&specification.directory).at("working directory")?;
    limits(specification)?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).at("no new privileges")?;
    sys::drop_capabilities().at("capabilities")?;
    landlock(specification).map_err(|error| Failed {
        step: "landlock".into(),
        error,
    })?;
    seccomp::apply().map_err(|error| Failed {
        step: "seccomp".into(),
        error,
    })
}

fn limits(specification: &Specification) -> Result<(), Failed> {
    let limits = &specification.limits;
    sys::rlimit(libc::RLIMIT_CORE, 0).at("limits")?;
    sys::rlimit(libc::RLIMIT_FSIZE, limits.file_bytes).at("limits")?;
    sys::rlimit(libc::RLIMIT_NOFILE, u64::from(limits.open_files)).at("limits")?;
    sys::rlimit(libc::RLIMIT_NPROC, u64::from(limits.processes)).at("limits")?;
    sys::rlimit(libc::RLIMIT_MEMLOCK, 1 << 20).at("limits")?;
    sys::rlimit(libc::RLIMIT_MSGQUEUE, 0).at("limits")?;
    if let Some(bytes) = limits.memory_bytes {
        sys::rlimit(libc::RLIMIT_DATA, bytes).at("limits")?;
    }
    Ok(())
}

/// A second layer beneath the mounts: should one of them be writable by mistake, this is not.
fn landlock(specification: &Specification) -> std::io::Result<()> {
    // ABI 3 (Linux 6.2) is the least that also governs truncation; later scopes are taken where the kernel has them.
    let abi = ABI::V6;
    let other = |error: landlock::RulesetError| std::io::Error::other(error.to_string());
    let fd = |path: &std::path::Path| {
        PathFd::new(path).map_err(|error| std::io::Error::other(error.to_string()))
    };
    let read = AccessFs::from_read(abi);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V3))
        .map_err(other)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(other)?
        .scope(Scope::from_all(abi))
        .map_err(other)?
        .create()
        .map_err(other)?
        .add_rule(PathBeneath::new(fd("/".as_ref())?, read))
        .map_err(other)?;
    let writable = specification.mounts.iter().filter_map(|mount| match mount {
        Mount::ReadWrite { inside, .. }
        | Mount::Overlay { inside, .. }
        | Mount::Tmpfs { inside, .. } => Some(inside.as_path()),
        Mount::ReadOnly { .. } | Mount::Link { .. } | Mount::Text { .. } => None,
    });
    for path in writable.chain(["/tmp".as_ref(), "/dev".as_ref()]) {
        let access = if path.is_dir() {
            AccessFs::from_all(abi)
        } else {
            AccessFs::from_file(abi)
        };
        rules = rules
            .add_rule(PathBeneath::new(fd(path)?, access))
            .map_err(other)?;
    }
    let status = rules.restrict_self().map_err(other)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(std::io::Error::from_raw_os_error(libc::ENOSYS));
    }
    Ok(())
}
