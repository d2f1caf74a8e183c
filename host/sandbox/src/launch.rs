//! The worker's process as the broker holds it: how it is started, what it sees, and the frames that go to and fro.

use std::path::{Path, PathBuf};
use std::time::Duration;

use capability::RelPath;
use confine::{Command, ConfineError, DiskWatch, Ending, Launcher, Limits, Mount, Network};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::message::{FRAME_BYTES_MAX, Files, ToBroker, ToWorker, frame, is_sparse};
use crate::patience::Patience;
use crate::session::View;
use crate::worker;

/// How long a worker that no longer answers may take to end by itself: longer than it takes the disk to have what it wrote.
const ENDING: Duration = Duration::from_secs(20);

/// A confined process that serves one compilation or one session. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Worker {
    child: confine::Child,
    stream: BufReader<UnixStream>,
    patience: Patience,
}

impl Worker {
    /// Starts `program` as a worker that sees `mounts` and its own program, and nothing else.
    pub(crate) fn start(
        launcher: &Launcher,
        program: &Path,
        mut mounts: Vec<Mount>,
        memory_bytes: u64,
    ) -> Result<Worker, ConfineError> {
        let failed = |what| move |error| ConfineError::Launcher { what, error };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed("socket"))?;
        ours.set_nonblocking(true).map_err(failed("socket"))?;
        mounts.push(Mount::ReadOnly {
            host: program.to_owned(),
            inside: "/moat".into(),
        });
        mounts.extend(libraries());
        let command = Command {
            program: "/moat".into(),
            args: vec![worker::ASKED.into()],
            // Threads for what a guest waits for: by itself the runtime takes one for each processor, which may be more than it can have.
            env: [
                ("RUST_BACKTRACE".into(), "0".into()),
                ("TOKIO_WORKER_THREADS".into(), "2".into()),
            ]
            .into(),
            directory: "/".into(),
            mounts,
            network: Network::None,
            limits: Limits {
                memory_bytes: Some(memory_bytes),
                processes: 64,
                file_bytes: 1 << 30,
                disk_bytes: 4 << 30,
                disk_files: 500_000,
                open_files: 512,
                tmp_bytes: 1 << 20,
                // Each request has a deadline of its own, which whoever waits for its answer keeps.
                wall: Duration::MAX,
                idle: None,
                output_bytes: 4096,
            },
            since: None,
            stdin: vec![],
            pass: vec![theirs.into()],
        };
        let child = launcher.spawn(command)?;
        let stream = UnixStream::from_std(ours).map_err(failed("socket"))?;
        Ok(Worker {
            child,
            stream: BufReader::new(stream),
            patience: Patience::new(),
        })
    }

    pub(crate) async fn send(&mut self, message: &ToWorker) -> std::io::Result<()> {
        // In one write: two would wake the worker twice.
        self.stream.write_all(&frame(message)?).await
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) async fn receive(&mut self) -> std::io::Result<Option<ToBroker>> {
        let invalid = |why: String| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
        if self.stream.buffer().is_empty() {
            self.patience.wait(self.stream.get_ref());
        }
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length).await {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        };
        let length = u32::from_le_bytes(length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(invalid("a frame is too large".into()));
        }
        // Grown as it arrives: a worker that announces much and sends little costs little.
        let mut body = Vec::new();
        (&mut self.stream)
            .take(length as u64)
            .read_to_end(&mut body)
            .await?;
        // It ended while it wrote: that is no protocol to break.
        if body.len() < length {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if !is_sparse(&body) {
            return Err(invalid("a frame holds too many values".into()));
        }
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|error| invalid(error.to_string()))
    }

    /// Kills it and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await;
    }

    /// A watch over what it writes to the host's disk.
    pub(crate) fn disk_watch(&self) -> DiskWatch {
        self.child.disk_watch()
    }

    /// How it came to its end, once it no longer answers; none where it was killed. Its files are closed before that is known, and closing them can
    /// take its time: who killed it at once would not hear why it ended.
    pub(crate) async fn gone(&mut self) -> Result<Option<Ending>, ConfineError> {
        let by_itself = tokio::time::timeout(ENDING, self.ending()).await;
        self.kill().await;
        match by_itself {
            Ok(ending) => ending,
            Err(_) => self.ending().await,
        }
    }

    /// How it ended by itself; none where it was killed.
    async fn ending(&mut self) -> Result<Option<Ending>, ConfineError> {
        match self.child.wait().await {
            Ok(ending) => Ok(Some(ending)),
            Err(ConfineError::Lost { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// How a worker ended, for people.
pub(crate) fn ended_by(ending: Option<Ending>) -> String {
    ending.map_or_else(|| "killed".into(), |ending| format!("{ending:?}"))
}

/// The libraries that the worker's program is linked with; no programs, no configuration.
fn libraries() -> impl Iterator<Item = Mount> {
    [
        "/lib",
        "/lib64",
        "/usr/lib",
        "/usr/lib64",
        "/etc/ld.so.cache",
    ]
    .into_iter()
    .filter_map(|inside| {
        let data = std::fs::symlink_metadata(inside).ok()?;
        if data.is_symlink() {
            return Some(Mount::Link {
                target: std::fs::read_link(inside).ok()?,
                inside: inside.into(),
            });
        }
        Some(Mount::ReadOnly {
            host: inside.into(),
            inside: inside.into(),
        })
    })
}

/// The view read-only, and over it what may be changed: should the engine fail, the kernel still refuses.
pub(crate) fn view_mounts(view: &View, mounts: &mut Vec<Mount>) -> Files {
    let part = |path: &RelPath| match path.is_root() {
        true => PathBuf::new(),
        false => PathBuf::from(path.as_str()),
    };
    mounts.push(Mount::Tree {
        tree: view.tree.clone(),
        writable: view.writable.iter().map(part).collect(),
        inside: worker::VIEW.into(),
    });
    if view.writable.is_empty() {
        Files::ReadOnly
    } else {
        Files::ReadWrite
    }
}
