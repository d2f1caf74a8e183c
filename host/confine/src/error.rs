//! Why a program was not run. It never runs half-confined.

/// Why a program was not run.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A layer could not be set up.
    #[error("the machine cannot confine at `{step}`: {error} ({mend})")]
    Setup {
        /// The layer.
        step: String,
        /// The system's answer.
        error: std::io::Error,
        /// What to do about it.
        mend: &'static str,
    },
    /// The program could not be executed inside.
    #[error("{program} cannot be executed: {error}")]
    Exec {
        /// The program.
        program: String,
        /// The system's answer.
        error: std::io::Error,
    },
    /// The launcher itself could not be started or talked to.
    #[error("the launcher failed at {what}: {error}")]
    Launcher {
        /// At what.
        what: &'static str,
        /// The system's answer.
        error: std::io::Error,
    },
    /// The launcher died without a report.
    #[error("the launcher died without a report: {stderr}")]
    Lost {
        /// The end of what it printed.
        stderr: String,
    },
    /// No such program on this machine.
    #[error("no program `{name}` on this machine's PATH")]
    NotFound {
        /// Its name.
        name: String,
    },
}

/// What to do when a layer is missing.
pub(crate) fn mend(step: &str) -> &'static str {
    match step {
        "user namespace" => {
            "allow unprivileged user namespaces: sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces>0; on Ubuntu, kernel.apparmor_restrict_unprivileged_userns=0 or an AppArmor profile for moat"
        }
        "landlock" => {
            "boot a kernel with Landlock (6.2 or newer, `landlock` in the lsm= list), or accept namespaces and seccomp alone: least-confinement = \"namespaces\" in policy.toml"
        }
        "seccomp" => "use a kernel with CONFIG_SECCOMP_FILTER",
        "proc" => "a container must not mask /proc: run moat outside it, or with an unmasked /proc",
        "overlay" => "use a kernel that mounts overlayfs in user namespaces (5.11 or newer)",
        "process limit" => {
            "as root, a kernel of 6.14 or newer is needed, or run moat as an ordinary user"
        }
        _ => "run `moat doctor`",
    }
}
