//! Child processes: the only door through which moat starts anything.
//!
//! A program runs in user, mount, pid, ipc, uts, cgroup and (services apart) network namespaces of its own, under Landlock and seccomp,
//! with limits, and dies with all that it started. Where one of these is missing it is not run; the machine's owner may do without Landlock,
//! in so many words. [`owner`] is the one exception, for the programs that the machine's owner configured.

mod child;
mod command;
mod disk;
mod door;
mod error;
mod handover;
mod idle;
mod launcher;
mod output;
pub mod owner;
mod pool;
mod probe;
mod process;
mod removal;
mod running;
mod service;
mod shield;
mod specification;
mod toolchain;

pub use command::{Command, Ending, Finished, Level, Limits, Mount, Network, Tree};
pub use disk::{DiskMark, DiskWatch, weigh};
pub use door::DOOR_PORT;
pub use error::ConfineError;
pub use launcher::Launcher;
pub use probe::{Found, Probe, probe, probe_layers};
pub use removal::remove_tree;
pub use running::Child;
pub use service::{ServiceHandle, Started};
pub use shield::shield;
pub use toolchain::Toolchains;

/// Becomes the launcher when this process was started as one. Call it first of all in `main`, before any thread exists.
pub fn enter_if_asked() {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == child::ASKED) {
        match specification::Birth::of(words) {
            Some(birth) => child::launch(birth),
            None => child::sys::exit(125),
        }
    }
}
