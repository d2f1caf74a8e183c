//! The parent's side: gives programs to launchers.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::MemfdFlags;
use tokio::net::TcpListener;

use crate::child;
use crate::command::{Command, Ending, Finished, Level, Network};
use crate::disk::DiskWatch;
use crate::door::{self, Awaited};
use crate::error::ConfineError;
use crate::idle::{IdleWatch, Printed};
use crate::output;
use crate::pool::Pool;
use crate::running::Child;
use crate::service::{ServiceHandle, Started};
use crate::specification::{Birth, Specification};

/// Starts confined programs through a re-executed copy of this program.
///
/// After the first program one such copy waits for the next, as long as this or a clone of it is there.
#[derive(Debug, Clone)]
pub struct Launcher {
    pool: Arc<Pool>,
    least: Level,
}

pub(crate) fn at(what: &'static str) -> impl Fn(std::io::Error) -> ConfineError {
    move |error| ConfineError::Launcher { what, error }
}

impl Launcher {
    /// `program` must call [`crate::enter_if_asked`] first of all; `/proc/self/exe` where that is this program.
    pub fn new(program: impl Into<PathBuf>) -> Launcher {
        Launcher {
            pool: Arc::new(Pool::new(program.into())),
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
        let (stdout, stdout_inside) = output::pipe().map_err(at("pipe"))?;
        let (stderr, stderr_inside) = output::pipe().map_err(at("pipe"))?;
        let mut child = self.begin(command, stdout_inside, stderr_inside, false)?;
        let disk = child.disk_watch();
        let idle = IdleWatch::new(child.id(), printed.clone(), idle);
        let served = serve_door(child.take_door(), serve);
        // Each pipe ends with its last writer.
        let drained = async {
            Ok(tokio::join!(
                output::drain(stdout, max, printed.clone()),
                output::drain(stderr, max, printed.clone())
            ))
        };
        let ended = async {
            let ending = tokio::select! {
                ending = child.wait() => ending?,
                () = tokio::time::sleep(wall) => Ending::Deadline,
                () = idle.passed() => Ending::Idle,
                () = disk.exceeded() => Ending::DiskFull,
                failed = served => match failed? {},
            };
            child.kill().await;
            Ok(ending)
        };
        let (ending, ((stdout, cut_out), (stderr, cut_err))) = tokio::try_join!(ended, drained)?;
        Ok(Finished {
            ending,
            stdout,
            stderr,
            truncated: cut_out || cut_err,
            duration: begun.elapsed(),
            level: child.held_by().unwrap_or(self.least),
        })
    }

    /// Starts a program whose descriptors 3, 4, … are the ones passed; its output and its errors go nowhere.
    ///
    /// # Errors
    /// [`ConfineError::Launcher`]; what goes wrong inside is told by [`Child::wait`].
    pub fn spawn(&self, command: Command) -> Result<Child, ConfineError> {
        let nowhere = || {
            File::options()
                .write(true)
                .open("/dev/null")
                .map_err(at("output"))
        };
        self.begin(command, nowhere()?.into(), nowhere()?.into(), false)
    }

    /// Starts a service; what it prints goes to `log`. It outlives this process once it is released, and ends with it until then.
    ///
    /// # Errors
    /// [`ConfineError`] when it was not started.
    pub async fn start_service(
        &self,
        command: Command,
        log: File,
    ) -> Result<Started, ConfineError> {
        let errors = log.try_clone().map_err(at("log"))?;
        let mut child = self.begin(command, log.into(), errors.into(), true)?;
        child.running().await?;
        let pid = child.id().ok_or(ConfineError::Lost {
            stderr: "the service ended at once".into(),
        })?;
        let handle = ServiceHandle::of(pid).map_err(at("service"))?;
        let lifeline = child.into_lifeline().map_err(at("service"))?;
        Ok(Started::new(handle, lifeline))
    }

    fn begin(
        &self,
        command: Command,
        stdout: OwnedFd,
        stderr: OwnedFd,
        service: bool,
    ) -> Result<Child, ConfineError> {
        let disk = DiskWatch::new(&command.mounts, &command.limits, command.since.as_ref());
        let stdin = memory_file(&command.stdin).map_err(at("standard input"))?;
        let (door, door_inside) = match command.network {
            Network::Door => {
                let (ours, theirs) = door::pair().map_err(at("door"))?;
                (Some(ours), Some(theirs))
            }
            Network::None | Network::Host => (None, None),
        };
        let birth = Birth {
            host_network: command.network == Network::Host,
            service,
        };
        let specification = Specification {
            program: command.program.clone(),
            args: command.args,
            env: command.env,
            directory: command.directory,
            mounts: command.mounts,
            network: command.network,
            limits: command.limits,
            least: self.least,
        };
        let text = serde_json::to_vec(&specification).map_err(|e| at("specification")(e.into()))?;
        let specification = memory_file(&text).map_err(at("specification"))?;
        let given: Vec<_> = [&specification, &stdin, &stdout, &stderr]
            .into_iter()
            .chain(&door_inside)
            .chain(&command.pass)
            .map(OwnedFd::as_fd)
            .collect();
        let started = self.pool.launch(birth, &given).map_err(at("spawn"))?;
        Child::new(started, command.program, disk, door, &self.pool).map_err(at("status"))
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

fn memory_file(content: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("moat", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}
