//! Services that outlive this process, known again by process id and start time.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

/// A service that ends with this process, or when this is dropped: until it is released, which is when its handle is where it will be found again.
#[derive(Debug)]
pub struct Started {
    handle: ServiceHandle,
    lifeline: OwnedFd,
}

impl Started {
    pub(crate) fn new(handle: ServiceHandle, lifeline: OwnedFd) -> Started {
        Started { handle, lifeline }
    }

    /// By what it is known again.
    pub fn handle(&self) -> &ServiceHandle {
        &self.handle
    }

    /// Lets it outlive this process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn release(self) -> std::io::Result<()> {
        rustix::io::write(&self.lifeline, b"r")?;
        Ok(())
    }
}

/// A running service. The start time tells it from a stranger that was given the same process id later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHandle {
    /// The launcher's process id; its death is the service's.
    pub pid: u32,
    /// In clock ticks since boot (field 22 of `/proc/<pid>/stat`, proc(5)).
    pub start_ticks: u64,
}

impl ServiceHandle {
    pub(crate) fn of(pid: u32) -> std::io::Result<ServiceHandle> {
        let start_ticks =
            start_ticks(pid).ok_or_else(|| std::io::Error::from_raw_os_error(libc::ESRCH))?;
        Ok(ServiceHandle { pid, start_ticks })
    }

    /// Whether it still runs.
    pub fn alive(&self) -> bool {
        start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Kills it with all that it started, and waits until it is gone.
    pub async fn stop(&self) {
        let Some(pid) = i32::try_from(self.pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        else {
            return;
        };
        // Init inside is bound to the launcher by its parent death signal; the kernel kills the rest with init.
        if self.alive() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        while self.alive() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// Absent for a process that is gone or only waits to be reaped.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets: fields are counted from its last bracket.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}
