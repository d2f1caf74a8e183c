//! What the program's own process gives up before it executes: limits, capabilities, Landlock, seccomp.

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};

use crate::child::{At as _, Failed, seccomp, sys};
use crate::command::{Level, Mount};
use crate::specification::Specification;

/// Gives up what no program is granted. What is left to do needs none of it.
pub(crate) fn ahead() -> Result<(), Failed> {
    sys::default_signals().at("signals")?;
    sys::setsid().at("session")?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).at("no new privileges")?;
    sys::drop_capabilities().at("capabilities")?;
    seccomp::apply().at("seccomp")
}

/// Gives up, once the file system stands, what of it is not granted. Says what holds from now on.
pub(crate) fn files(specification: &Specification) -> Result<Level, Failed> {
    std::env::set_current_dir(&specification.directory).at("working directory")?;
    let level = attainable(specification.least).at("landlock")?;
    landlock(specification, level).at("landlock")?;
    Ok(level)
}

/// The least ABI of Landlock that is one of the layers (Linux 6.2): the first that governs truncation.
const LANDLOCK_ABI_MIN: i32 = 3;

/// What the kernel can do, asked of it without a side effect: what goes wrong with a Landlock that is there is never taken for its absence.
pub(crate) fn attainable(least: Level) -> std::io::Result<Level> {
    match (sys::landlock_abi(), least) {
        (Ok(LANDLOCK_ABI_MIN..), _) => Ok(Level::Full),
        (_, Level::Namespaces) => Ok(Level::Namespaces),
        (Ok(_), Level::Full) => Err(std::io::Error::from_raw_os_error(libc::ENOSYS)),
        (Err(error), Level::Full) => Err(error),
    }
}

/// What each of its processes may use.
pub(crate) fn limits(specification: &Specification) -> Result<(), Failed> {
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

/// A second layer beneath the mounts: should one of them be writable by mistake, this is not. Below the full level what the kernel has of it.
fn landlock(specification: &Specification, level: Level) -> std::io::Result<()> {
    // Later scopes are taken where the kernel has them.
    let abi = ABI::V6;
    let required = match level {
        Level::Full => CompatLevel::HardRequirement,
        Level::Namespaces => CompatLevel::BestEffort,
    };
    let other = |error: landlock::RulesetError| std::io::Error::other(error.to_string());
    let fd = |path: &std::path::Path| {
        PathFd::new(path).map_err(|error| std::io::Error::other(error.to_string()))
    };
    let read = AccessFs::from_read(abi);
    let mut rules = Ruleset::default()
        .set_compatibility(required)
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
    let writable = specification.mounts.iter().flat_map(Mount::writable);
    for path in writable.chain(["/tmp".into(), "/dev".into()]) {
        let access = if std::fs::metadata(&path)?.is_dir() {
            AccessFs::from_all(abi)
        } else {
            AccessFs::from_file(abi)
        };
        rules = rules
            .add_rule(PathBeneath::new(fd(&path)?, access))
            .map_err(other)?;
    }
    let status = rules.restrict_self().map_err(other)?;
    if level == Level::Full && status.ruleset == RulesetStatus::NotEnforced {
        return Err(std::io::Error::from_raw_os_error(libc::ENOSYS));
    }
    Ok(())
}
