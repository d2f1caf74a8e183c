//! The parent's side of a confined program under way: what it is told, and how it is ended.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, UnixStream};

use crate::command::{Ending, Level};
use crate::disk::DiskWatch;
use crate::door::Awaited;
use crate::error::{ConfineError, mend};
use crate::launcher::at;
use crate::pool::{Pool, Started};
use crate::process::Process;
use crate::specification::Status;

/// How long a tree of processes may take to die: one that hangs in the kernel must not take us along.
const DYING: Duration = Duration::from_secs(10);

/// A confined program under way. Dropping it kills it with all that it started.
#[derive(Debug)]
pub struct Child {
    // Dropped in this order: at the end of the socket the init inside ends, and everything with it.
    control: BufReader<UnixStream>,
    line: Vec<u8>,
    process: Process,
    ended: Option<Status>,
    program: PathBuf,
    disk: DiskWatch,
    level: Option<Level>,
    door: Option<Awaited>,
    /// Where the next launcher is to wait, once this program runs.
    pool: Option<Weak<Pool>>,
}

impl Child {
    pub(crate) fn new(
        started: Started,
        program: PathBuf,
        disk: DiskWatch,
        door: Option<Awaited>,
        pool: &Arc<Pool>,
    ) -> std::io::Result<Child> {
        Ok(Child {
            control: BufReader::new(stream(started.control)?),
            line: Vec::new(),
            process: started.process,
            ended: None,
            program,
            disk,
            level: None,
            door,
            pool: Some(Arc::downgrade(pool)),
        })
    }

    /// What a service hangs on as long as it is not released. Its process goes on without this.
    pub(crate) fn into_lifeline(self) -> std::io::Result<OwnedFd> {
        Ok(self.control.into_inner().into_std()?.into())
    }

    pub(crate) fn take_door(&mut self) -> Option<Awaited> {
        self.door.take()
    }

    /// What holds the program, where that has been told.
    pub(crate) fn held_by(&self) -> Option<Level> {
        self.level
    }

    /// The launcher's process id.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// [`ConfineError`] when it was not run.
    pub async fn wait(&mut self) -> Result<Ending, ConfineError> {
        // From its own beginning to its own end: what lies around it is confinement.
        let mut _time = None;
        while let Some(status) = self.told().await? {
            match status {
                Status::Exited { code } if self.level.is_some() => {
                    return Ok(Ending::Exited(code));
                }
                Status::Signalled { signal } if self.level.is_some() => {
                    return Ok(Ending::Signalled(signal));
                }
                Status::Running { .. } => _time = Some(tracing::debug_span!("command")),
                Status::Gone => {}
                failed => return Err(self.failure(failed)),
            }
        }
        Err(self.lost().await)
    }

    /// Waits until the program runs.
    pub(crate) async fn running(&mut self) -> Result<(), ConfineError> {
        self.level().await?;
        // The pipe ends at a successful exec only for the program's copy; a failed one reports before it ends.
        match tokio::time::timeout(Duration::from_millis(200), self.next_status()).await {
            Ok(Ok(Some(status))) => Err(self.failure(status)),
            _ => Ok(()),
        }
    }

    /// What holds the program: waits until that is known, which is before it is executed.
    ///
    /// # Errors
    /// [`ConfineError`] when it is not run.
    pub async fn level(&mut self) -> Result<Level, ConfineError> {
        if let Some(level) = self.level {
            return Ok(level);
        }
        match self.next_status().await? {
            Some(Status::Running { level }) => Ok(level),
            Some(failed) => Err(self.failure(failed)),
            None => Err(self.lost().await),
        }
    }

    /// The listener of its door ([`Network::Door`]), once; it is given before the program is executed.
    ///
    /// # Errors
    /// [`ConfineError`] when it has none, or is not run.
    pub async fn door(&mut self) -> Result<TcpListener, ConfineError> {
        let none = || at("door")(std::io::Error::from_raw_os_error(libc::ENOTCONN));
        let door = self.door.take().ok_or_else(none)?;
        match door.listener().await.map_err(at("door"))? {
            Some(listener) => Ok(listener),
            None => Err(self.level().await.err().unwrap_or_else(none)),
        }
    }

    /// Kills the program with all that it started, and waits until the last of it is gone.
    pub async fn kill(&mut self) {
        // Without its lifeline init kills everything, itself last. Killing the launcher first would end the same, but some time after we return:
        // they could still write to what is read then.
        let _ = self.control.shutdown().await;
        let gone = async {
            while let Ok(Some(status)) = self.next_status().await {
                match status {
                    Status::Gone => return true,
                    Status::Running { .. } => {}
                    // The first says why; how init or the program ended then, only that.
                    ended => drop(self.ended.get_or_insert(ended)),
                }
            }
            false
        };
        match tokio::time::timeout(DYING, gone).await {
            // Of what was confined nothing is left, and the launcher has no more to do.
            Ok(true) => return self.process.dismiss(),
            Ok(false) => {}
            Err(_) => {
                tracing::warn!("what a command started takes long to die: its launcher is killed");
            }
        }
        let _ = self.process.kill().await;
    }

    /// A watch over what the program writes to the host's disk; it lasts as long as somebody polls it.
    pub fn disk_watch(&self) -> DiskWatch {
        self.disk.clone()
    }

    /// The next status, or how it ended when that was read while killing it.
    async fn told(&mut self) -> Result<Option<Status>, ConfineError> {
        match self.ended.take() {
            Some(ended) => Ok(Some(ended)),
            None => self.next_status().await,
        }
    }

    async fn next_status(&mut self) -> Result<Option<Status>, ConfineError> {
        // Bytes that were read stay in `line` if this is not polled to its end: then the rest follows next time.
        let read = self.control.read_until(b'\n', &mut self.line).await;
        match read {
            Ok(0) => return Ok(None),
            // It ended with something unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
            other => other.map_err(at("status"))?,
        };
        let status = serde_json::from_slice(&std::mem::take(&mut self.line))
            .map_err(|e| at("status")(e.into()))?;
        if let Status::Running { level } = status {
            self.level = Some(level);
            self.prepare_next();
        }
        Ok(Some(status))
    }

    /// Not before: it would take the processors from a program that has not begun.
    fn prepare_next(&mut self) {
        if let Some(pool) = self.pool.take() {
            tokio::task::spawn_blocking(move || pool.upgrade().map(|pool| pool.fill()));
        }
    }

    fn failure(&self, status: Status) -> ConfineError {
        match status {
            // Who was to take something over was killed before it began: that says nothing about the machine.
            Status::Setup { step, errno } if step == "handover" && is_gone(errno) => {
                ConfineError::Lost {
                    stderr: "its process was killed before the program had begun".into(),
                }
            }
            Status::Setup { step, errno } => {
                let mend = mend(&step);
                ConfineError::Setup {
                    step,
                    error: std::io::Error::from_raw_os_error(errno),
                    mend,
                }
            }
            Status::Exec { errno } => {
                let program = self.program.display().to_string();
                ConfineError::Exec {
                    program,
                    error: std::io::Error::from_raw_os_error(errno),
                }
            }
            other => ConfineError::Lost {
                stderr: format!("{other:?}"),
            },
        }
    }

    async fn lost(&mut self) -> ConfineError {
        let ended = self.process.wait().await;
        ConfineError::Lost {
            stderr: format!("{ended:?}"),
        }
    }
}

fn is_gone(errno: i32) -> bool {
    [Errno::PIPE, Errno::CONNRESET].contains(&Errno::from_raw_os_error(errno))
}

fn stream(control: OwnedFd) -> std::io::Result<UnixStream> {
    let control = std::os::unix::net::UnixStream::from(control);
    control.set_nonblocking(true)?;
    UnixStream::from_std(control)
}
