//! Components checked against a grant and compiled, and the sessions in which they are called.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use capability::Grant;
use confine::{ConfineError, Ending, Launcher, Mount};
use flow::id::{Digest, Role};
use serde_json::Value;

use crate::cache::Cache;
use crate::error::{CallError, LoadError};
use crate::imports::{Imports, imports};
use crate::launch::{Worker, ended_by, view_mounts};
use crate::message::{Files, OpenRequest, ToBroker, ToWorker};
use crate::recording::Recording;
use crate::services::Services;
use crate::session::{Answer, Session, View};
use crate::story::{STORY_BYTES_MAX, cut};
use crate::worker;

/// What a compilation may take at most: an 18 MB Python component needs 20 s and 1.5 GB.
const COMPILE_WALL_MAX: Duration = Duration::from_secs(120);
/// And at least. Honest components need a second for each megabyte; 40 KB of nothing but loops would need minutes.
const COMPILE_WALL_MIN: Duration = Duration::from_secs(30);
const COMPILE_WALL_PER_MEBIBYTE: Duration = Duration::from_secs(6);
const COMPILE_MEMORY_BYTES: u64 = 4 << 30;

/// SIGKILL: no process sends it to itself by mistake, and running out of its own memory ends it by another.
const KILLED: i32 = 9;

/// What a worker needs beside the guest's memory: the engine, the compiled code, its own stack and threads.
const WORKER_MEMORY_BYTES: u64 = 1 << 30;

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
    /// Components that are being compiled in this process, or were: who needs the same one waits instead of doing it again.
    compiling: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// A component that was checked against a grant and compiled.
#[derive(Debug, Clone)]
pub struct Loaded {
    compiled: PathBuf,
    imports: Imports,
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
    /// Where it is recorded, and how far it went before; absent, it is not recorded.
    pub recording: Option<Recording>,
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
            compiling: Mutex::default(),
        })
    }

    /// Takes away what processes left that were killed while they compiled. What cannot be taken away is tried again when something is compiled.
    pub fn sweep(&self) {
        if let Err(error) = self.cache.sweep_if_free() {
            tracing::warn!(%error, "drafts of compilations are left");
        }
    }

    /// Checks a component against a grant and compiles it in a bounded worker, or finds it compiled.
    ///
    /// # Errors
    /// [`LoadError`]: nothing of the component has run.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn load(&self, component: &[u8], grant: &Grant) -> Result<Loaded, LoadError> {
        let imports = imports(component)?;
        imports.check(grant)?;
        imports.check_role(grant.role())?;
        let digest = Digest::of(component);
        let identity = worker::identity();
        let compiled = match self.cache.find(&digest, &identity) {
            Some(path) => path,
            None => self.compile_once(component, &digest, &identity).await?,
        };
        Ok(Loaded { compiled, imports })
    }

    /// Many runs that begin at the same time need the same components: compiled by each of them, none would be done in its time.
    async fn compile_once(
        &self,
        component: &[u8],
        digest: &Digest,
        identity: &str,
    ) -> Result<PathBuf, LoadError> {
        let turn = {
            let mut all = self
                .compiling
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            all.entry(digest.clone()).or_default().clone()
        };
        let _turn = turn.lock().await;
        match self.cache.find(digest, identity) {
            Some(path) => Ok(path),
            None => self.compile(component, digest, identity).await,
        }
    }

    async fn compile(
        &self,
        component: &[u8],
        digest: &Digest,
        identity: &str,
    ) -> Result<PathBuf, LoadError> {
        let failed = |what| move |error| LoadError::Cache { what, error };
        let draft = self.cache.draft().map_err(failed("making a draft"))?;
        let (given, out) = (
            draft.path().join("component.wasm"),
            draft.path().join("out"),
        );
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
        let compiled = self
            .compile_in_worker(mounts, compile_wall(component.len()))
            .await;
        let stored = compiled.and_then(|()| {
            self.cache
                .store(digest, identity, &out.join("component.cwasm"))
                .map_err(failed("storing"))
        });
        confine::remove_tree(draft.path()).map_err(failed("clearing a draft"))?;
        stored
    }

    async fn compile_in_worker(&self, mounts: Vec<Mount>, wall: Duration) -> Result<(), LoadError> {
        let compile = |why: &str| LoadError::Compile { why: why.into() };
        let mut worker = self.start(mounts, COMPILE_MEMORY_BYTES)?;
        let told = tokio::time::timeout(wall, async {
            worker.send(&ToWorker::Compile).await?;
            worker.receive().await
        });
        let told = told.await;
        let is_gone = match &told {
            Ok(Ok(None)) => true,
            Ok(Err(error)) => error.kind() != std::io::ErrorKind::InvalidData,
            _ => false,
        };
        if is_gone {
            return Err(died(worker.gone().await));
        }
        worker.kill().await;
        match told {
            Err(_) => Err(compile(&format!(
                "it takes longer than {} s",
                wall.as_secs()
            ))),
            Ok(Ok(Some(ToBroker::Compiled))) => Ok(()),
            Ok(Ok(Some(ToBroker::Failed(why)))) => Err(compile(&cut(why, STORY_BYTES_MAX))),
            Ok(_) => Err(compile("the worker broke the protocol")),
        }
    }

    /// Starts a worker for a loaded component: warm, and bound to this component, this grant and this view for good.
    ///
    /// # Errors
    /// [`CallError`]: of this session only; nothing of the component has run.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn open(
        &self,
        loaded: &Loaded,
        grant: Arc<Grant>,
        view: Option<&View>,
    ) -> Result<Session, CallError> {
        let mut mounts = vec![Mount::ReadOnly {
            host: loaded.compiled.clone(),
            inside: worker::COMPILED.into(),
        }];
        let files = view
            .filter(|_| grant.has_files())
            .map_or(Files::None, |view| view_mounts(view, &mut mounts));
        let interfaces = grant.interfaces().into_iter().map(str::to_owned);
        let request = OpenRequest {
            files,
            interfaces: interfaces.collect(),
        };
        let memory_bytes = grant.limits().memory_bytes + WORKER_MEMORY_BYTES;
        let worker = self.start(mounts, memory_bytes)?;
        Session::open(worker, request, grant, loaded.is_command()).await
    }

    /// Calls the role function of a loaded component in a session of its own.
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
        let mut session = self.open(loaded, call.grant, call.view.as_ref()).await?;
        let answer = session
            .call(
                call.role,
                call.input,
                call.env,
                services.as_ref(),
                call.recording,
            )
            .await;
        session.close().await;
        let mut answer = answer?;
        answer.usage.wall = begun.elapsed();
        Ok(answer)
    }

    fn start(&self, mounts: Vec<Mount>, memory_bytes: u64) -> Result<Worker, ConfineError> {
        Worker::start(&self.launcher, &self.worker_program, mounts, memory_bytes)
    }
}

/// A compiling worker that was killed from outside says nothing of its component; one that ended in any other way was ended by it.
fn died(ending: Result<Option<Ending>, ConfineError>) -> LoadError {
    match ending {
        Err(error) => error.into(),
        Ok(how @ (None | Some(Ending::Signalled(KILLED)))) => {
            LoadError::WorkerDied { how: ended_by(how) }
        }
        Ok(how) => LoadError::Compile {
            why: format!("the compiling worker died: {}", ended_by(how)),
        },
    }
}

/// How long a component of this size may be compiled for.
fn compile_wall(bytes: usize) -> Duration {
    let mebibytes = u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
    let for_its_size = COMPILE_WALL_PER_MEBIBYTE.saturating_mul(mebibytes);
    (COMPILE_WALL_MIN + for_its_size).min(COMPILE_WALL_MAX)
}

impl Loaded {
    /// Whether it is called as a plain WASI command, not as a role.
    fn is_command(&self) -> bool {
        let exports = &self.imports.exports;
        self.imports.is_command() && !exports.iter().any(|name| name.starts_with("moat:skill/"))
    }
}
