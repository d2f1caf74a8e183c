//! A skill call against what it is made of, alternating in one run: `cargo bench -p sandbox`.
//!
//! Warm: a call in a session against bare wasmtime in this process, which does the same without a process border. Cold: a call with a worker of
//! its own against a confined start of a program that does nothing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints"
)]

#[allow(
    dead_code,
    reason = "the worker's own file: here only its engine is needed"
)]
#[path = "../src/worker/engine.rs"]
mod engine;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use capability::{Denial, Grant, Manifest, Policy, RawProjectGrant, Running, Source};
use confine::{Command, Launcher, Limits, Mount, Network};
use flow::id::Role;
use sandbox::message::http::{self, Head, HttpError, Piece};
use sandbox::message::model::{Alias, ModelError, Request, Response};
use sandbox::message::process::{self, ProcessError, ProjectCommand};
use sandbox::message::release::{Health, ReleaseError, Version};
use sandbox::{
    Call, Entry, Loaded, Question, Ran, Sandbox, SandboxConfig, Services, Session, View,
};
use serde_json::{Value, json};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentType, InstancePre, Lift, Linker, ResourceTable, Val,
};
use wasmtime::{Engine, Store, StoreContextMut};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};

const ROUNDS: usize = 200;

/// Warm calls are a hundred times shorter than cold ones.
const WARM_PER_ROUND: usize = 10;

fn main() {
    confine::enter_if_asked();
    sandbox::enter_worker_if_asked();
    // As the program has it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let component = probe();
    let directory = tempfile::tempdir().unwrap();
    let view = directory.path().join("view");
    std::fs::create_dir(&view).unwrap();
    let bare = Bare::new(&component, &view);
    let skill = Skill::new(&component, directory.path(), &view).await;
    let mut session = skill.open().await;
    let mut echo = Echo::new();

    let mut times: [Vec<Duration>; 6] = Default::default();
    let [round_trip, bare_call, warm, spawn, open, cold] = &mut times;
    for _ in 0..ROUNDS {
        for _ in 0..WARM_PER_ROUND {
            let begun = Instant::now();
            echo.once();
            round_trip.push(begun.elapsed());
            let begun = Instant::now();
            bare.call();
            bare_call.push(begun.elapsed());
            let begun = Instant::now();
            skill.call(&mut session).await;
            warm.push(begun.elapsed());
        }
        let begun = Instant::now();
        skill.spawn_true().await;
        spawn.push(begun.elapsed());
        let begun = Instant::now();
        let opened = skill.open().await;
        open.push(begun.elapsed());
        opened.close().await;
        let begun = Instant::now();
        skill.call_cold().await;
        cold.push(begun.elapsed());
    }
    session.close().await;
    tell(times);
}

fn tell(times: [Vec<Duration>; 6]) {
    let names = [
        "socket round trip between two threads",
        "bare wasmtime: store, WASI, instance, call, drop",
        "session: warm call",
        "confined /bin/true, same mounts",
        "session: open",
        "cold call: open, call, close",
    ];
    println!("{:50} {:>10} {:>10}", "", "min us", "median us");
    let mut medians = [0.0; 6];
    for ((name, mut times), median) in names.iter().zip(times).zip(&mut medians) {
        times.sort();
        let micros = |at: usize| times[at].as_secs_f64() * 1e6;
        *median = micros(times.len() / 2);
        println!("{name:50} {:10.1} {median:10.1}", micros(0));
    }
    let [round_trip, bare, warm, spawn, open, cold] = medians;
    println!(
        "warm call / bare wasmtime                {:.2}",
        warm / bare
    );
    println!(
        "warm call / (bare wasmtime + round trip) {:.2}",
        warm / (bare + round_trip)
    );
    println!(
        "open / confined /bin/true                {:.2}",
        open / spawn
    );
    println!(
        "cold call / confined /bin/true           {:.2}",
        cold / spawn
    );
}

/// The same guest that the tests use, built as the catalog builds skills.
fn probe() -> Vec<u8> {
    let own = PathBuf::from(env!("CARGO_BIN_EXE_sandbox-worker"));
    let target = own.ancestors().nth(2).unwrap().join("skills");
    let args = "build --quiet --locked -p guests --target wasm32-wasip2 --profile skill";
    let built = Program::new(env!("CARGO"))
        .args(args.split(' '))
        .arg("--target-dir")
        .arg(&target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(built.success(), "rustup target add wasm32-wasip2");
    std::fs::read(target.join("wasm32-wasip2/skill/probe.wasm")).unwrap()
}

const INPUT: &str = r#"{"do":"echo","value":1}"#;

/// A thread that sends back what it gets: the least that a call across a border costs.
struct Echo(UnixStream);

impl Echo {
    fn new() -> Echo {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut byte = [0];
            while theirs.read_exact(&mut byte).is_ok() && theirs.write_all(&byte).is_ok() {}
        });
        Echo(ours)
    }

    fn once(&mut self) {
        self.0.write_all(&[1]).unwrap();
        self.0.read_exact(&mut [0]).unwrap();
    }
}

/// wasmtime without a worker, a broker, a grant or JSON.
struct Bare {
    engine: Engine,
    component: InstancePre<Guest>,
    view: PathBuf,
}

struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

#[derive(Debug, ComponentType, Lift)]
#[component(variant)]
#[allow(
    dead_code,
    reason = "the contract's cases; the bench meets none of them"
)]
enum SkillError {
    #[component(name = "denied")]
    Denied(String),
    #[component(name = "out-of-budget")]
    OutOfBudget(String),
    #[component(name = "invalid-input")]
    InvalidInput(String),
    #[component(name = "retryable")]
    Retryable(String),
    #[component(name = "failed")]
    Failed(String),
}

impl Bare {
    fn new(component: &[u8], view: &Path) -> Bare {
        let engine = engine::engine().unwrap();
        let component = Component::new(&engine, component).unwrap();
        let mut linker: Linker<Guest> = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
        for (name, item) in component.component_type().imports(&engine) {
            if let ComponentItem::ComponentInstance(host) = item.ty
                && name.starts_with("moat:host/")
            {
                let mut link = linker.instance(name).unwrap();
                for (function, _) in host.exports(&engine) {
                    let unused = |_: StoreContextMut<'_, Guest>, _, _: &[Val], _: &mut [Val]| {
                        Err(wasmtime::Error::msg("the guest asks for nothing"))
                    };
                    link.func_new(function, unused).unwrap();
                }
            }
        }
        linker.define_unknown_imports_as_traps(&component).unwrap();
        Bare {
            component: linker.instantiate_pre(&component).unwrap(),
            engine,
            view: view.to_owned(),
        }
    }

    fn call(&self) {
        let mut wasi = WasiCtx::builder();
        wasi.allow_blocking_current_thread(true);
        wasi.preopened_dir(&self.view, "/", FsPerms::ReadOnly)
            .unwrap();
        let guest = Guest {
            wasi: wasi.build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&self.engine, guest);
        store.set_fuel(u64::MAX / 2).unwrap();
        store.set_epoch_deadline(1000);
        let instance = self.component.instantiate(&mut store).unwrap();
        let outer = instance
            .get_export_index(&mut store, None, "moat:skill/job@0.1.0")
            .unwrap();
        let inner = instance
            .get_export_index(&mut store, Some(&outer), "run")
            .unwrap();
        let run = instance
            .get_typed_func::<(&str,), (Result<String, SkillError>,)>(&mut store, &inner)
            .unwrap();
        let (answer,) = run.call(&mut store, (INPUT,)).unwrap();
        assert_eq!(answer.unwrap(), "1");
    }
}

/// The same component as a skill.
struct Skill {
    sandbox: Sandbox,
    launcher: Launcher,
    loaded: Loaded,
    grant: Arc<Grant>,
    view: View,
}

impl Skill {
    async fn new(component: &[u8], directory: &Path, view: &Path) -> Skill {
        // Not this program, which is larger by all that it measures with.
        let program = PathBuf::from(env!("CARGO_BIN_EXE_sandbox-worker"));
        let launcher = Launcher::new(&program);
        let config = SandboxConfig {
            launcher: launcher.clone(),
            worker_program: program,
            cache_dir: directory.join("cache"),
        };
        let sandbox = Sandbox::new(config).unwrap();
        let grant = grant();
        Skill {
            loaded: sandbox.load(component, &grant).await.unwrap(),
            sandbox,
            launcher,
            grant,
            view: View {
                root: view.to_owned(),
                writable: vec![],
            },
        }
    }

    async fn open(&self) -> Session {
        let view = Some(&self.view);
        let opening = self.sandbox.open(&self.loaded, self.grant.clone(), view);
        opening.await.unwrap()
    }

    async fn call(&self, session: &mut Session) {
        let input: Value = serde_json::from_str(INPUT).unwrap();
        let answer = session.call(Role::Job, input, vec![], &Nothing, None).await;
        assert_eq!(answer.unwrap().output, json!({"ok": "1"}));
    }

    async fn call_cold(&self) {
        let call = Call {
            role: Role::Job,
            input: serde_json::from_str(INPUT).unwrap(),
            view: Some(self.view.clone()),
            grant: self.grant.clone(),
            env: vec![],
            recording: None,
        };
        let answer = self.sandbox.call(&self.loaded, call, Arc::new(Nothing));
        assert_eq!(answer.await.unwrap().output, json!({"ok": "1"}));
    }

    /// What a worker is without the worker: the launcher, the namespaces, as many mounts, the end.
    async fn spawn_true(&self) {
        let host = |path: &str| std::fs::canonicalize(path).ok();
        let mut mounts: Vec<Mount> = [
            "/lib",
            "/lib64",
            "/usr/lib",
            "/usr/lib64",
            "/etc/ld.so.cache",
        ]
        .into_iter()
        .filter_map(|inside| {
            Some(Mount::ReadOnly {
                host: host(inside)?,
                inside: inside.into(),
            })
        })
        .collect();
        for (path, inside) in [
            (host("/bin/true").unwrap(), "/true"),
            (host("/bin/true").unwrap(), "/component.cwasm"),
            (self.view.root.clone(), "/view"),
        ] {
            mounts.push(Mount::ReadOnly {
                host: path,
                inside: inside.into(),
            });
        }
        let command = Command {
            program: "/true".into(),
            args: vec![],
            env: Default::default(),
            directory: "/".into(),
            mounts,
            network: Network::None,
            limits: Limits::for_builds(Duration::MAX),
            stdin: vec![],
            pass: vec![],
        };
        let mut child = self.launcher.spawn(command, Stdio::null()).unwrap();
        child.wait().await.unwrap();
        child.kill().await;
    }
}

fn grant() -> Arc<Grant> {
    const MANIFEST: &str = r#"
[skill]
name = "probe"
version = "0.1.0"
role = "job"
description = "Answers."

[[files]]
path = "."
access = "read"
reason = "bench"

[[processes]]
project = "test"
reason = "bench"

[[network]]
host = "api.example.com"
reason = "bench"

[model]
aliases = ["small"]
max-tokens = 10
reason = "bench"

[release]
reason = "bench"

[limits]
memory = "64MiB"
time = "10s"
"#;
    const POLICY: &str = r#"
hidden = []
[[ceiling]]
read = ["."]
commands = ["*"]
network = ["*"]
models = ["*"]
max-tokens = 10
release = true
memory = "256MiB"
time = "20s"
"#;
    const PROJECT: &str = r#"{"skill":"probe","read":["."],"commands":["test"],"network":["api.example.com"],"models":["small"],"release":true}"#;
    let raw: RawProjectGrant = serde_json::from_str(PROJECT).unwrap();
    let source = Source {
        file: "moat.toml",
        text: "",
    };
    Arc::new(Grant::compute(
        &Manifest::parse(MANIFEST, "skill.toml").unwrap(),
        Some(&raw.check(source, 0..0).unwrap()),
        &Policy::parse(POLICY, "policy.toml").unwrap(),
    ))
}

/// The guest asks the host for nothing.
struct Nothing;

#[async_trait]
impl Services for Nothing {
    async fn heard(&self, _: &Entry, _: Option<&Denial>) -> Result<(), String> {
        Ok(())
    }

    async fn run_command(&self, _: process::Command, _: Running) -> Result<Ran, ProcessError> {
        Err(ProcessError::NotFound)
    }

    fn project_command(&self, _: &str) -> Option<ProjectCommand> {
        None
    }

    fn replayed(&self, _: &Question, _: &[Value], _: &[(Denial, u32)]) {}

    async fn chat(&self, _: Request, _: u64) -> Result<Response, ModelError> {
        Err(ModelError::NotConfigured)
    }

    fn alias(&self, _: &str) -> Option<Alias> {
        None
    }

    async fn request(&self, _: http::Request, _: u64) -> Result<Head, HttpError> {
        Err(HttpError::Denied)
    }

    async fn read_body(&self, _: u64) -> Result<Piece, HttpError> {
        Err(HttpError::Invalid)
    }

    fn close_body(&self, _: u64) {}

    fn note(&self, _: String) {}

    async fn versions(&self) -> Result<Vec<Version>, ReleaseError> {
        Err(ReleaseError::NotConfigured)
    }

    async fn stage(&self) -> Result<String, ReleaseError> {
        Err(ReleaseError::NotConfigured)
    }

    async fn activate(&self, _: String) -> Result<(), ReleaseError> {
        Err(ReleaseError::NotConfigured)
    }

    async fn deactivate(&self) -> Result<(), ReleaseError> {
        Err(ReleaseError::NotConfigured)
    }

    async fn probe(&self) -> Result<Health, ReleaseError> {
        Err(ReleaseError::NotConfigured)
    }
}
