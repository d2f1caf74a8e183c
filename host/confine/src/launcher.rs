//! The parent's side: starts the launcher, watches over it, and takes what it reports.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::pipe::PipeFlags;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;

use crate::child::{self, ASKED};
use crate::command::{Command, Ending, Finished, Level, Network};
use crate::disk::DiskWatch;
use crate::door::{self, Awaited};
use crate::error::{ConfineError, mend};
use crate::idle::{IdleWatch, Printed};
use crate::output;
use crate::service::ServiceHandle;
use crate::specification::{Specification, Status};

/// How long a tree of processes may take to die: one that hangs in the kernel must not take us along.
const DYING: Duration = Duration::from_secs(10);

/// Starts confined programs through a re-executed copy of this program.
#[derive(Debug, Clone)]
pub struct Launcher {
    program: PathBuf,
    least: Level,
}

/// A confined program under way. Dropping it kills it with all that it started.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    status: tokio::io::Lines<BufReader<tokio::net::unix::pipe::Receiver>>,
    // At its end the init inside ends, and everything with it.
    lifeline: Option<OwnedFd>,
    ended: Option<Status>,
    program: PathBuf,
    disk: DiskWatch,
    level: Option<Level>,
    door: Option<Awaited>,
}

fn at(what: &'static str) -> impl Fn(std::io::Error) -> ConfineError {
    move |error| ConfineError::Launcher { what, error }
}

impl Launcher {
    /// `program` must call [`crate::enter_if_asked`] first of all; `/proc/self/exe` where that is this program.
    pub fn new(program: impl Into<PathBuf>) -> Launcher {
        Launcher {
            program: program.into(),
            least: Level::Full,
        }
    }

    /// Accepts this level where the kernel has no more, instead of the full one alone. What held is in [`Finished::level`].
    pub fn accepting(self, least: Level) -> Launcher {
        Launcher { least, ..self }
    }

    /// What this machine's kernel will hold programs with. Where that is less than is accepted, none is run.
    pub fn attainable(&self) -> Level {
        child::attainable(Level::Namespaces).unwrap_or(Level::Namespaces)
    }

    /// Runs a program to its end. Dropping the future kills it with all that it started.
    ///
    /// # Errors
    /// [`ConfineError`] when it was not run, because a layer is missing or it could not be executed.
    pub async fn run(&self, command: Command) -> Result<Finished, ConfineError> {
        self.complete(command, |listener| async { drop(listener) })
            .await
    }

    /// Runs a program that has a door ([`Network::Door`]) and nothing else of a network. `serve` is given the door's listener before the
    /// program is executed, and is dropped with it.
    ///
    /// # Errors
    /// [`ConfineError`] when it was not run, because a layer is missing or it could not be executed.
    pub async fn run_with_door<S: Future<Output = ()>>(
        &self,
        mut command: Command,
        serve: impl FnOnce(TcpListener) -> S,
    ) -> Result<Finished, ConfineError> {
        command.network = Network::Door;
        self.complete(command, serve).await
    }

    #[tracing::instrument(name = "confine", level = "debug", skip_all)]
    async fn complete<S: Future<Output = ()>>(
        &self,
        command: Command,
        serve: impl FnOnce(TcpListener) -> S,
    ) -> Result<Finished, ConfineError> {
        let begun = Instant::now();
        let (wall, max) = (command.limits.wall, command.limits.output_bytes);
        let (idle, printed) = (command.limits.idle, Printed::default());
        let mut child = self.begin(command, Stdio::piped(), Stdio::piped(), true)?;
        let disk = child.disk_watch();
        let idle = IdleWatch::new(child.id(), printed.clone(), idle);
        let served = serve_door(child.door.take(), serve);
        let stdout = child.process.stdout.take();
        let stderr = child.process.stderr.take();
        let drained = tokio::spawn(async move {
            let out = async {
                if let Some(stream) = stdout {
                    output::drain(stream, max, printed.clone()).await
                } else {
                    Default::default()
                }
            };
            let err = async {
                if let Some(stream) = stderr {
                    output::drain(stream, max, printed.clone()).await
                } else {
                    Default::default()
                }
            };
            tokio::join!(out, err)
        });
        let ending = tokio::select! {
            ending = child.wait() => ending?,
            () = tokio::time::sleep(wall) => { child.kill().await; Ending::Deadline }
            () = idle.passed() => { child.kill().await; Ending::Idle }
            () = disk.exceeded() => { child.kill().await; Ending::DiskFull }
            failed = served => match failed? {},
        };
        child.kill().await;
        let ((stdout, cut_out), (stderr, cut_err)) = drained.await.unwrap_or_default();
        Ok(Finished {
            ending,
            stdout,
            stderr,
            truncated: cut_out || cut_err,
            duration: begun.elapsed(),
            level: child.level.unwrap_or(self.least),
        })
    }

    /// Starts a program whose descriptors 3, 4, … are the ones passed; its output goes nowhere, its errors to `errors`.
    ///
    /// # Errors
    /// [`ConfineError::Launcher`]; what goes wrong inside is told by [`Child::wait`].
    pub fn spawn(&self, command: Command, errors: Stdio) -> Result<Child, ConfineError> {
        self.begin(command, Stdio::null(), errors, true)
    }

    /// Starts a service that outlives this process; what it prints goes to `log`.
    ///
    /// # Errors
    /// [`ConfineError`] when it was not started.
    pub async fn start_service(
        &self,
        command: Command,
        log: File,
    ) -> Result<ServiceHandle, ConfineError> {
        let errors = log.try_clone().map_err(at("log"))?;
        let mut child = self.begin(command, Stdio::from(log), Stdio::from(errors), false)?;
        child.running().await?;
        let pid = child.process.id().ok_or(ConfineError::Lost {
            stderr: "the service ended at once".into(),
        })?;
        ServiceHandle::of(pid).map_err(at("service"))
        // `Child` is dropped here; a service has no lifeline and is not killed with it.
    }

    fn begin(
        &self,
        command: Command,
        stdout: Stdio,
        stderr: Stdio,
        bound: bool,
    ) -> Result<Child, ConfineError> {
        let disk = DiskWatch::new(&command.mounts, &command.limits);
        let (status_in, status_out) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|e| at("pipe")(e.into()))?;
        let (lifeline_in, lifeline_out) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|e| at("pipe")(e.into()))?;
        let stdin = memory_file(&command.stdin).map_err(at("standard input"))?;
        // Copies that survive the exec; they are closed here as soon as the launcher has them.
        let copy = |fd: &OwnedFd| rustix::io::dup(fd).map_err(|e| at("descriptor")(e.into()));
        let given = [copy(&stdin)?, copy(&status_out)?];
        let life = if bound {
            Some(copy(&lifeline_in)?)
        } else {
            None
        };
        let (door, door_inside) = match command.network {
            Network::Door => {
                let (ours, theirs) = door::pair().map_err(at("door"))?;
                (Some(ours), Some(copy(&theirs)?))
            }
            Network::None | Network::Host => (None, None),
        };
        let passed = command
            .pass
            .iter()
            .map(copy)
            .collect::<Result<Vec<_>, _>>()?;
        let specification = Specification {
            program: command.program.clone(),
            args: command.args,
            env: command.env,
            directory: command.directory,
            mounts: command.mounts,
            network: command.network,
            limits: command.limits,
            least: self.least,
            by_root: rustix::process::getuid().is_root(),
            stdin_fd: given[0].as_raw_fd(),
            status_fd: given[1].as_raw_fd(),
            lifeline_fd: life.as_ref().map(|fd| fd.as_raw_fd()),
            door_fd: door_inside.as_ref().map(|fd| fd.as_raw_fd()),
            pass_fds: passed.iter().map(|fd| fd.as_raw_fd()).collect(),
        };
        let text = serde_json::to_vec(&specification).map_err(|e| at("specification")(e.into()))?;
        let specification = memory_file(&text).map_err(at("specification"))?;
        let mut launcher = tokio::process::Command::new(&self.program);
        launcher
            .arg(ASKED)
            .env_clear()
            .stdin(Stdio::from(specification))
            .stdout(stdout)
            .stderr(stderr)
            // A Ctrl-C at the terminal is for us alone: a launcher that dies of it looks like a machine that cannot confine.
            .process_group(0)
            .kill_on_drop(bound);
        let process = launcher.spawn().map_err(at("spawn"))?;
        let status = tokio::net::unix::pipe::Receiver::from_owned_fd(
            nonblocking(status_in).map_err(at("pipe"))?,
        );
        let status = BufReader::new(status.map_err(at("pipe"))?).lines();
        Ok(Child {
            process,
            status,
            lifeline: bound.then_some(lifeline_out),
            ended: None,
            program: command.program,
            disk,
            level: None,
            door,
        })
    }
}

/// Lasts as long as somebody polls it, however soon the service ends.
async fn serve_door<S: Future<Output = ()>>(
    door: Option<Awaited>,
    serve: impl FnOnce(TcpListener) -> S,
) -> Result<Infallible, ConfineError> {
    if let Some(door) = door
        && let Some(listener) = door.listener().await.map_err(at("door"))?
    {
        serve(listener).await;
    }
    std::future::pending().await
}

fn nonblocking(fd: OwnedFd) -> std::io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}

fn memory_file(content: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("moat", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

impl Child {
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
        self.lifeline.take();
        let gone = async {
            while let Ok(Some(status)) = self.next_status().await {
                match status {
                    Status::Gone => return,
                    Status::Running { .. } => {}
                    // The first says why; how init or the program ended then, only that.
                    ended => drop(self.ended.get_or_insert(ended)),
                }
            }
        };
        if tokio::time::timeout(DYING, gone).await.is_err() {
            tracing::warn!("what a command started takes long to die: its launcher is killed");
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
        let Some(line) = self.status.next_line().await.map_err(at("status"))? else {
            return Ok(None);
        };
        let status = serde_json::from_str(&line).map_err(|e| at("status")(e.into()))?;
        if let Status::Running { level } = status {
            self.level = Some(level);
        }
        Ok(Some(status))
    }

    fn failure(&self, status: Status) -> ConfineError {
        match status {
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
