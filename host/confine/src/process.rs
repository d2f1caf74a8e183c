//! A launcher's process as its parent holds it. It belongs to no runtime: one that was started ahead may be used in another.

use std::process::ExitStatus;

use rustix::process::{Pid, PidfdFlags};
use tokio::io::unix::AsyncFd;

/// A child process that is waited for, however it is let go: no zombie stays behind.
#[derive(Debug)]
pub(crate) struct Process {
    child: Option<std::process::Child>,
    /// A service goes on without its handle.
    kill_on_drop: bool,
}

impl Process {
    pub(crate) fn new(child: std::process::Child, kill_on_drop: bool) -> Process {
        Process {
            child: Some(child),
            kill_on_drop,
        }
    }

    /// Absent once it is gone.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(std::process::Child::id)
    }

    /// Kills it and leaves the waiting to somebody else.
    pub(crate) fn dismiss(&mut self) {
        let mut dismissed = Process {
            child: self.child.take(),
            kill_on_drop: true,
        };
        if let Some(child) = &mut dismissed.child
            && child.kill().is_ok()
        {
            tokio::spawn(async move { dismissed.wait().await });
        }
    }

    /// Kills it and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> std::io::Result<()> {
        if let Some(child) = &mut self.child {
            child.kill()?;
        }
        self.wait().await.map(drop)
    }

    /// Waits until it is gone; no status where that was known before.
    pub(crate) async fn wait(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = match child.try_wait()? {
            Some(status) => status,
            None => {
                // The number is this child's: nobody else has waited for it.
                let pid = Pid::from_child(child);
                let flags = PidfdFlags::NONBLOCK;
                let pidfd = rustix::process::pidfd_open(pid, flags)?;
                #[expect(
                    unsafe_code,
                    reason = "the reactor must forget a descriptor before it is closed"
                )]
                // SAFETY: it owns the descriptor, gives it to nobody, and closes it after it has deregistered it.
                let ended = unsafe { AsyncFd::register(pidfd) }?;
                drop(ended.readable().await?);
                child.wait()?
            }
        };
        self.child = None;
        Ok(Some(status))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if self.kill_on_drop {
            let _ = child.kill();
        }
        if matches!(child.try_wait(), Ok(None)) {
            // Not here: a process that hangs in the kernel must not take us along.
            let waiting = std::thread::Builder::new().name("reaper".into());
            let _ = waiting.spawn(move || child.wait());
        }
    }
}
