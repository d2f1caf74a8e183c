//! Loading and calling skills: the broker's loop around one worker.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capability::{Denial, Grant, RelPath};
use confine::{Command, Ending, Launcher, Limits as ProcessLimits, Mount, Network};
use flow::id::{Digest, Role};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::broker::Record;
use crate::cache::Cache;
use crate::error::{CallError, LoadError};
use crate::imports::{Imports, imports};
use crate::message::{
    Done, FRAME_BYTES_MAX, Failure, Files, RunRequest, ToBroker, ToWorker, is_sparse,
};
use crate::services::Services;
use crate::transcript::Entry;
use crate::worker;

/// What a compilation may take: an 18 MB Python component needs 20 s and 1.5 GB.
const COMPILE_WALL: Duration = Duration::from_secs(120);
const COMPILE_MEMORY_BYTES: u64 = 4 << 30;

/// What a worker needs beside the guest's memory: the engine, the compiled code, its own stack and threads.
const WORKER_MEMORY_BYTES: u64 = 1 << 30;

/// How much longer than the guest's own deadline the broker waits before it kills.
const GRACE: Duration = Duration::from_millis(250);

/// How the sandbox is set up.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Starts the workers.
    pub launcher: Launcher,
    /// The program that becomes a worker; it calls [`crate::enter_worker_if_asked`].
    pub worker_program: PathBuf,
    /// For compiled components.
    pub cache_dir: PathBuf,
}

/// Loads and calls skills.
#[derive(Debug)]
pub struct Sandbox {
    launcher: Launcher,
    worker_program: PathBuf,
    cache: Cache,
}

/// A component that was checked against a grant and compiled.
#[derive(Debug, Clone)]
pub struct Loaded {
    compiled: PathBuf,
    imports: Imports,
}

/// What the guest sees as its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The host directory that is the guest's `/`.
    pub root: PathBuf,
    /// What of it may be changed.
    pub writable: Vec<RelPath>,
}

/// One call of a role function.
#[derive(Debug, Clone)]
pub struct Call {
    /// The role.
    pub role: Role,
    /// Its parameter, as JSON.
    pub input: Value,
    /// Files, where the grant has any.
    pub view: Option<View>,
    /// What it may do.
    pub grant: Arc<Grant>,
    /// Values of the granted environment variables.
    pub env: Vec<(String, String)>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The role function's WIT result: `{"ok": …}` or `{"err": …}`. For a plain WASI command, what it printed, as `{"ok": …}`.
    pub output: Value,
    /// What was refused, and how often.
    pub denials: Vec<(Denial, u32)>,
    /// What it took.
    pub usage: Usage,
    /// Every host call, in order.
    pub transcript: Vec<Entry>,
    /// What the guest printed: for its author; untrusted.
    pub printed: String,
}

/// What a call took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Units of work.
    pub fuel: u64,
    /// All memories and tables at their most.
    pub peak_memory_bytes: u64,
    /// Host calls, apart from WASI.
    pub host_calls: u64,
    /// Wall clock, with the worker's start.
    pub wall: Duration,
}

impl Sandbox {
    /// Opens the cache.
    ///
    /// # Errors
    /// [`LoadError::Cache`] when the cache directory cannot be used.
    pub fn new(config: SandboxConfig) -> Result<Sandbox, LoadError> {
        let cache = Cache::open(&config.cache_dir).map_err(|error| LoadError::Cache {
            what: "opening",
            error,
        })?;
        Ok(Sandbox {
            launcher: config.launcher,
            worker_program: config.worker_program,
            cache,
        })
    }

    /// Checks a component against a grant and compiles it in a bounded worker, or finds it compiled.
    ///
    /// # Errors
    /// [`LoadError`]: nothing of the component has run.
    pub async fn load(&self, component: &[u8], grant: &Grant) -> Result<Loaded, LoadError> {
        let imports = imports(component)?;
        imports.check(grant)?;
        imports.check_role(grant.role())?;
        let digest = Digest::of(component);
        let identity = worker::identity();
        let compiled = match self.cache.find(&digest, &identity) {
            Some(path) => path,
            None => self.compile(component, &digest, &identity).await?,
        };
        Ok(Loaded { compiled, imports })
    }

    async fn compile(
        &self,
        component: &[u8],
        digest: &Digest,
        identity: &str,
    ) -> Result<PathBuf, LoadError> {
        let failed = |what| move |error| LoadError::Cache { what, error };
        let draft = self.cache.draft().map_err(failed("making a draft"))?;
        let (given, out) = (draft.join("component.wasm"), draft.join("out"));
        std::fs::create_dir(&out)
            .and_then(|()| std::fs::write(&given, component))
            .map_err(failed("writing a draft"))?;
        let mounts = vec![
            Mount::ReadOnly {
                host: given,
                inside: worker::COMPONENT.into(),
            },
            Mount::ReadWrite {
                host: out.clone(),
                inside: worker::OUT.into(),
            },
        ];
        let compiled = self.compile_in_worker(mounts).await;
        let stored = compiled.and_then(|()| {
            self.cache
                .store(digest, identity, &out.join("component.cwasm"))
                .map_err(failed("storing"))
        });
        confine::remove_tree(&draft).map_err(failed("clearing a draft"))?;
        stored
    }

    async fn compile_in_worker(&self, mounts: Vec<Mount>) -> Result<(), LoadError> {
        let compile = |why: &str| LoadError::Compile { why: why.into() };
        let mut worker = self.start(mounts, COMPILE_MEMORY_BYTES, COMPILE_WALL)?;
        let told = tokio::time::timeout(COMPILE_WALL, async {
            worker.send(&ToWorker::Compile).await?;
            worker.receive().await
        });
        let told = told.await;
        worker.child.kill().await;
        match told {
            Err(_) => Err(compile(&format!(
                "it takes longer than {} s",
                COMPILE_WALL.as_secs()
            ))),
            Ok(Ok(Some(ToBroker::Compiled))) => Ok(()),
            Ok(Ok(Some(ToBroker::Done(done)))) => Err(match done.outcome {
                Err(Failure::Compile(why)) => compile(&cut(why, STORY_BYTES_MAX)),
                _ => compile("the worker broke the protocol"),
            }),
            Ok(_) => Err(match worker.ending().await {
                Err(error) => error.into(),
                Ok(how) => compile(&format!("the compiling worker died: {}", ended_by(how))),
            }),
        }
    }

    /// Calls the role function of a loaded component in a fresh worker.
    ///
    /// # Errors
    /// [`CallError`]: of this call only.
    pub async fn call(
        &self,
        loaded: &Loaded,
        call: Call,
        services: Arc<dyn Services>,
    ) -> Result<Answer, CallError> {
        let begun = Instant::now();
        let limits = call.grant.limits();
        let wall = Duration::from_millis(limits.wall_ms);
        let mut mounts = vec![Mount::ReadOnly {
            host: loaded.compiled.clone(),
            inside: worker::COMPILED.into(),
        }];
        let files = view_mounts(&call, &mut mounts);
        let mut worker = self.start(mounts, limits.memory_bytes + WORKER_MEMORY_BYTES, wall)?;
        let disk = worker.child.disk_watch();
        let request = RunRequest {
            role: call.role.to_string(),
            input: call.input,
            limits,
            env: call.env,
            files,
            interfaces: call
                .grant
                .interfaces()
                .into_iter()
                .map(str::to_owned)
                .collect(),
        };
        let mut record = Record::default();
        let conversation = converse(
            &mut worker,
            request,
            &call.grant,
            services.as_ref(),
            &mut record,
        );
        let ended = tokio::select! {
            ended = tokio::time::timeout(wall + GRACE, conversation) => Some(ended),
            () = disk.exceeded() => None,
        };
        worker.child.kill().await;
        let Some(ended) = ended else {
            return Err(CallError::DiskFull);
        };
        let done = match ended {
            Err(_) => {
                return Err(CallError::OutOfTime {
                    wall_ms: limits.wall_ms,
                });
            }
            Ok(Err(Stopped::Call(error))) => return Err(error),
            Ok(Err(Stopped::Gone)) => {
                return Err(match worker.ending().await {
                    Err(error) => error.into(),
                    Ok(Some(Ending::Signalled(FILE_TOO_LARGE))) => CallError::DiskFull,
                    Ok(how) => CallError::WorkerDied { how: ended_by(how) },
                });
            }
            Ok(Ok(done)) => done,
        };
        let command = loaded.imports.is_command()
            && !loaded
                .imports
                .exports
                .iter()
                .any(|name| name.starts_with("moat:skill/"));
        let output = outcome(&done, command, &limits)?;
        Ok(Answer {
            output,
            denials: record.denials.into_iter().collect(),
            usage: Usage {
                fuel: done.fuel,
                peak_memory_bytes: done.peak_memory_bytes,
                host_calls: record.host_calls,
                wall: begun.elapsed(),
            },
            transcript: record.transcript,
            printed: cut(done.printed, limits.output_bytes as usize),
        })
    }

    fn start(
        &self,
        mut mounts: Vec<Mount>,
        memory_bytes: u64,
        wall: Duration,
    ) -> Result<Worker, confine::ConfineError> {
        let failed = |what| move |error| confine::ConfineError::Launcher { what, error };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed("socket"))?;
        ours.set_nonblocking(true).map_err(failed("socket"))?;
        mounts.push(Mount::ReadOnly {
            host: self.worker_program.clone(),
            inside: "/moat".into(),
        });
        mounts.extend(libraries());
        let command = Command {
            program: "/moat".into(),
            args: vec![worker::ASKED.into()],
            env: [("RUST_BACKTRACE".into(), "0".into())].into(),
            directory: "/".into(),
            mounts,
            network: Network::None,
            limits: ProcessLimits {
                memory_bytes: Some(memory_bytes),
                processes: 64,
                file_bytes: 1 << 30,
                disk_bytes: 4 << 30,
                disk_files: 500_000,
                open_files: 512,
                tmp_bytes: 1 << 20,
                wall,
                output_bytes: 4096,
            },
            stdin: vec![],
            pass: vec![theirs.into()],
        };
        let child = self.launcher.spawn(command, Stdio::null())?;
        Ok(Worker {
            child,
            stream: UnixStream::from_std(ours).map_err(failed("socket"))?,
        })
    }
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
fn view_mounts(call: &Call, mounts: &mut Vec<Mount>) -> Files {
    let Some(view) = call.view.as_ref().filter(|_| call.grant.has_files()) else {
        return Files::None;
    };
    let inside = |path: &RelPath| match path.is_root() {
        true => PathBuf::from(worker::VIEW),
        false => Path::new(worker::VIEW).join(path.as_str()),
    };
    mounts.push(Mount::ReadOnly {
        host: view.root.clone(),
        inside: worker::VIEW.into(),
    });
    for path in &view.writable {
        let host = if path.is_root() {
            view.root.clone()
        } else {
            view.root.join(path.as_str())
        };
        mounts.push(Mount::ReadWrite {
            host,
            inside: inside(path),
        });
    }
    if view.writable.is_empty() {
        Files::ReadOnly
    } else {
        Files::ReadWrite
    }
}

struct Worker {
    child: confine::Child,
    stream: UnixStream,
}

/// Why a conversation ended without a result.
enum Stopped {
    Call(CallError),
    Gone,
}

impl Worker {
    async fn send(&mut self, message: &ToWorker) -> std::io::Result<()> {
        let body = serde_json::to_vec(message)?;
        let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
        self.stream.write_all(&length.to_le_bytes()).await?;
        self.stream.write_all(&body).await
    }

    /// The next message; `None` at the end of the stream.
    async fn receive(&mut self) -> std::io::Result<Option<ToBroker>> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length).await {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        };
        let length = u32::from_le_bytes(length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "a frame is too large",
            ));
        }
        // Grown as it arrives: a worker that announces much and sends little costs little.
        let mut body = Vec::new();
        (&mut self.stream)
            .take(length as u64)
            .read_to_end(&mut body)
            .await?;
        if !is_sparse(&body) {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "a frame holds too many values",
            ));
        }
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }

    /// How it ended by itself; none where it was killed.
    async fn ending(&mut self) -> Result<Option<Ending>, confine::ConfineError> {
        match self.child.wait().await {
            Ok(ending) => Ok(Some(ending)),
            Err(confine::ConfineError::Lost { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// SIGXFSZ: one of its files grew beyond what a file may have.
const FILE_TOO_LARGE: i32 = 25;

fn ended_by(ending: Option<Ending>) -> String {
    ending.map_or_else(|| "killed".into(), |ending| format!("{ending:?}"))
}

async fn converse(
    worker: &mut Worker,
    request: RunRequest,
    grant: &Grant,
    services: &dyn Services,
    record: &mut Record,
) -> Result<Done, Stopped> {
    let protocol = |why: &str| Stopped::Call(CallError::Protocol { why: why.into() });
    let max = request.limits.host_calls;
    worker
        .send(&ToWorker::Run(Box::new(request)))
        .await
        .map_err(|_| Stopped::Gone)?;
    loop {
        match worker.receive().await {
            Ok(Some(ToBroker::Call {
                interface,
                function,
                args,
            })) => {
                record.host_calls += 1;
                if record.host_calls > max {
                    return Err(Stopped::Call(CallError::TooManyHostCalls { max }));
                }
                let answer = record
                    .answer(grant, services, &interface, &function, args)
                    .await;
                let answer = answer.ok_or_else(|| protocol("a malformed host call"))?;
                worker
                    .send(&ToWorker::Answer(answer))
                    .await
                    .map_err(|_| Stopped::Gone)?;
            }
            Ok(Some(ToBroker::Done(done))) => return Ok(*done),
            Ok(Some(ToBroker::Compiled)) => return Err(protocol("an unexpected message")),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(protocol(&error.to_string()));
            }
            Ok(None) | Err(_) => return Err(Stopped::Gone),
        }
    }
}

fn outcome(done: &Done, command: bool, limits: &capability::Limits) -> Result<Value, CallError> {
    let output = match &done.outcome {
        // A command's result is what it printed.
        Ok(_) if command => match serde_json::from_str::<Value>(done.printed.trim()) {
            Ok(value) => serde_json::json!({ "ok": value.to_string() }),
            Err(error) => {
                return Err(CallError::InvalidOutput {
                    why: format!("what the command printed is no JSON: {error}"),
                });
            }
        },
        Ok(value) => value.clone(),
        Err(failure) => return Err(failure_of(failure, limits)),
    };
    if output.to_string().len() as u64 > limits.output_bytes {
        return Err(CallError::OutputTooLarge {
            max: limits.output_bytes,
        });
    }
    Ok(output)
}

/// What a worker tells is for the journal and for people: both can do without the rest of a long story.
const STORY_BYTES_MAX: usize = 16 * 1024;

fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let floor = (0..=max)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(floor);
    }
    text
}

fn failure_of(failure: &Failure, limits: &capability::Limits) -> CallError {
    let story = |why: &String| cut(why.clone(), STORY_BYTES_MAX);
    match failure {
        Failure::Compile(why) => CallError::Protocol { why: story(why) },
        Failure::Trap(message) => CallError::Trap {
            message: story(message),
        },
        Failure::OutOfFuel => CallError::OutOfFuel,
        Failure::OutOfTime => CallError::OutOfTime {
            wall_ms: limits.wall_ms,
        },
        Failure::OutOfMemory => CallError::OutOfMemory {
            memory_bytes: limits.memory_bytes,
        },
        Failure::InvalidInput(why) => CallError::InvalidInput { why: story(why) },
        Failure::InvalidOutput(why) => CallError::InvalidOutput { why: story(why) },
    }
}
