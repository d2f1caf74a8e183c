//! Keeps this process's memory from everybody else of the same user: no core file, no tracing, no look into `/proc/PID`.

use crate::child::sys;

/// Makes this process one that leaves no core file and cannot be traced or looked into by others, root aside. Call it at the start of `main`, but
/// after [`crate::enter_if_asked`]: a launcher writes files of `/proc/self` that then belong to root.
///
/// What is executed later begins as usual, but for the core file: a launcher can still confine.
///
/// # Errors
/// When the system does not let it.
pub fn shield() -> std::io::Result<()> {
    sys::rlimit(libc::RLIMIT_CORE, 0)?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0)
}
