//! The guest, its manifest and grant, and a place to call it in.

use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use capability::denial::Capability;
use capability::{Denial, Grant, Manifest, Policy, RawProjectGrant, Running, Source};
use confine::{Launcher, Tree};
use sandbox::message::effects::{Effect, EffectsError, Standing};
use sandbox::message::http::{self, Head, HttpError, Piece};
use sandbox::message::model::{Alias, ModelError, Request, Response, StopReason, Usage};
use sandbox::message::process::{Command, Ending, Output, ProcessError, ProjectCommand};
use sandbox::message::release::{Health, ReleaseError, Version};
use sandbox::{
    Answer, Answered, Call, CallError, Entry, Ran, Recording, Sandbox, SandboxConfig, Services,
    Traffic, View,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::web::Web;

/// Built once, as the catalog builds skills: for WebAssembly, in a target directory of its own.
pub static PROBE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    if let Some(built) = std::env::var_os("MOAT_TEST_PROBE") {
        return std::fs::read(built).unwrap();
    }
    let own = PathBuf::from(env!("CARGO_BIN_EXE_sandbox-worker"));
    let target = own.ancestors().nth(2).unwrap().join("skills");
    let built = Program::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--locked",
            "-p",
            "guests",
            "--target",
            "wasm32-wasip2",
            "--profile",
            "skill",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(
        built.success(),
        "the guests do not build; is the target there? rustup target add wasm32-wasip2"
    );
    std::fs::read(target.join("wasm32-wasip2/skill/probe.wasm")).unwrap()
});

/// Notes what reached it.
#[derive(Default)]
pub struct Seen {
    pub commands: Mutex<Vec<(Command, Running)>>,
    pub chats: Mutex<Vec<Request>>,
    /// Of the chats.
    pub numbers: Mutex<Vec<u64>>,
    /// Answers that were given from a record.
    pub replayed: Mutex<u64>,
    /// What requests and commands used before.
    pub before: Mutex<Traffic>,
    pub notes: Mutex<u64>,
    pub web: Web,
    pub heard: Mutex<Vec<(Entry, Option<Denial>)>>,
    /// As a record that cannot be kept.
    pub deaf: Mutex<Option<String>>,
}

#[async_trait]
impl Services for Seen {
    async fn heard(&self, call: &Entry, denial: Option<&Denial>) -> Result<(), String> {
        let heard = (call.clone(), denial.cloned());
        self.heard.lock().unwrap().push(heard);
        self.deaf.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    async fn run_command(&self, command: Command, terms: Running) -> Result<Ran, ProcessError> {
        self.commands.lock().unwrap().push((command, terms));
        let output = Output {
            ending: Ending::Exited(0),
            stdout: "ran".into(),
            stderr: String::new(),
            truncated: false,
            duration_ms: 1,
        };
        let denial = Denial::new(Capability::Network, "GET https://elsewhere", "a line");
        Ok(Ran {
            output,
            denials: terms.network.then_some((denial, 3)).into_iter().collect(),
            traffic: Traffic {
                requests: 4,
                ..Traffic::default()
            },
        })
    }

    fn project_command(&self, name: &str) -> Option<ProjectCommand> {
        Some(ProjectCommand {
            name: name.into(),
            argv: vec!["true".into()],
        })
    }

    fn replayed(&self, answered: &Answered, _args: &[Value]) {
        *self.replayed.lock().unwrap() += 1;
        self.before.lock().unwrap().requests += answered.traffic.requests;
    }

    fn requested_before(&self, request: http::Request, _number: u64, received: u64) {
        let mut before = self.before.lock().unwrap();
        before.requests += 1;
        before.sent += request.body.len() as u64;
        before.received += received;
    }

    fn received_before(&self, _number: u64, bytes: u64) {
        self.before.lock().unwrap().received += bytes;
    }

    async fn chat(&self, request: Request, number: u64) -> Result<Response, ModelError> {
        self.chats.lock().unwrap().push(request);
        self.numbers.lock().unwrap().push(number);
        Ok(Response {
            content: vec![],
            stop: StopReason::EndTurn,
            usage: Usage::default(),
        })
    }

    fn alias(&self, name: &str) -> Option<Alias> {
        Some(Alias {
            name: name.into(),
            context_tokens: 1000,
        })
    }

    async fn request(&self, request: http::Request, _number: u64) -> Result<Head, HttpError> {
        self.web.request(request).await
    }

    async fn read_body(&self, id: u64) -> Result<Piece, HttpError> {
        self.web.read_body(id)
    }

    fn close_body(&self, id: u64) {
        self.web.close_body(id);
    }

    fn note(&self, _text: String) {
        *self.notes.lock().unwrap() += 1;
    }

    async fn intend(&self, _: String, _: String, _: u64) -> Result<Standing, EffectsError> {
        Err(EffectsError::NotIntended)
    }

    async fn confirm(&self, _: String, _: String) -> Result<(), EffectsError> {
        Err(EffectsError::NotIntended)
    }

    async fn withdraw(&self, _: String) -> Result<(), EffectsError> {
        Err(EffectsError::NotIntended)
    }

    async fn effects(&self) -> Result<Vec<Effect>, EffectsError> {
        Ok(vec![])
    }

    async fn versions(&self) -> Result<Vec<Version>, ReleaseError> {
        Ok(vec![])
    }

    async fn stage(&self) -> Result<String, ReleaseError> {
        Err(ReleaseError::NotConfigured)
    }

    async fn activate(&self, _name: String) -> Result<(), ReleaseError> {
        Err(ReleaseError::NotConfigured)
    }

    async fn deactivate(&self) -> Result<(), ReleaseError> {
        Err(ReleaseError::NotConfigured)
    }

    async fn probe(&self) -> Result<Health, ReleaseError> {
        Err(ReleaseError::NotConfigured)
    }
}

pub const MANIFEST: &str = r#"
[skill]
name = "probe"
version = "0.1.0"
role = "job"
description = "Does what it is told."

[[files]]
path = "."
access = "read"
reason = "test"

[[processes]]
project = "test"
reason = "test"

[[processes]]
program = "cargo"
args = [["metadata"]]
reason = "test"

[[network]]
host = "api.example.com"
methods = ["GET", "POST"]
paths = ["/v1"]
reason = "test"

[model]
aliases = ["small"]
max-tokens = 10
reason = "test"

[release]
reason = "test"

[limits]
memory = "64MiB"
time = "2s"
"#;

const POLICY: &str = r#"
hidden = ["**/.env"]
[[ceiling]]
read = ["."]
write = ["."]
commands = ["*"]
programs = ["*"]
network = ["*"]
online = ["*"]
models = ["*"]
env = ["*"]
max-tokens = 10
release = true
memory = "256MiB"
time = "5m"
"#;

pub fn grant(manifest: &str) -> Arc<Grant> {
    let manifest = Manifest::parse(manifest, "skill.toml").unwrap();
    let text = r#"{"skill":"probe","read":["."],"write":["."],"commands":["test"],"programs":["cargo"],"online":["test"],"network":["api.example.com"],"models":["small"],"env":["SHOWN"],"release":true}"#;
    let raw: RawProjectGrant = serde_json::from_str(text).unwrap();
    let project = raw
        .check(
            Source {
                file: "moat.toml",
                text: "",
            },
            0..0,
        )
        .unwrap();
    Arc::new(Grant::compute(
        &manifest,
        Some(&project),
        &Policy::parse(POLICY, "policy.toml").unwrap(),
    ))
}

pub fn without(section: &str) -> String {
    let start = MANIFEST.find(section).unwrap();
    let end = MANIFEST[start + 1..]
        .find("\n[")
        .map_or(MANIFEST.len(), |at| start + 1 + at);
    format!("{}{}", &MANIFEST[..start], &MANIFEST[end..])
}

/// A sandbox with a view and services that take notes.
pub struct Place {
    pub sandbox: Sandbox,
    pub cache: PathBuf,
    /// Where the view's files are; with a layer, those that it does not change.
    pub view: TempDir,
    /// Takes the guest's changes, where the view itself does not.
    pub layer: Option<TempDir>,
    pub seen: Arc<Seen>,
}

/// One cache for all tests: the component is compiled once.
static CACHE: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().unwrap());

impl Place {
    pub fn new() -> Place {
        Place::with_cache(CACHE.path())
    }

    pub fn with_cache(cache: &Path) -> Place {
        Place::with_worker(cache, &worker())
    }

    pub fn with_worker(cache: &Path, worker_program: &Path) -> Place {
        let config = SandboxConfig {
            launcher: Launcher::new(worker()),
            worker_program: worker_program.into(),
            cache_dir: cache.into(),
        };
        let view = TempDir::new().unwrap();
        std::fs::write(view.path().join("a"), "content of a").unwrap();
        std::fs::create_dir(view.path().join("src")).unwrap();
        Place {
            sandbox: Sandbox::new(config).unwrap(),
            cache: cache.into(),
            view,
            layer: None,
            seen: Arc::default(),
        }
    }

    /// A view whose changes go to a layer over it.
    pub fn layered() -> Place {
        let mut place = Place::new();
        place.layer = Some(TempDir::new().unwrap());
        place.clear_layer();
        place
    }

    /// Takes back what was changed, where that is in a layer.
    pub fn clear_layer(&self) {
        for part in ["upper", "work"] {
            if let Some(layer) = &self.layer {
                let path = layer.path().join(part);
                confine::remove_tree(&path).unwrap();
                std::fs::create_dir(path).unwrap();
            }
        }
    }

    /// Where the guest's changes are.
    pub fn changes(&self) -> PathBuf {
        self.tree().changes().to_owned()
    }

    pub fn tree(&self) -> Tree {
        let view = self.view.path().to_owned();
        match &self.layer {
            None => Tree::Directory(view),
            Some(layer) => Tree::Layers {
                lower: vec![view],
                upper: layer.path().join("upper"),
                work: layer.path().join("work"),
            },
        }
    }

    /// The view, read-only.
    pub fn view(&self) -> View {
        View {
            tree: self.tree(),
            writable: vec![],
        }
    }

    pub async fn call_with(&self, grant: Arc<Grant>, input: Value) -> Result<Answer, CallError> {
        self.recorded(grant, input, None).await
    }

    pub async fn recorded(
        &self,
        grant: Arc<Grant>,
        input: Value,
        recording: Option<Recording>,
    ) -> Result<Answer, CallError> {
        let loaded = self.sandbox.load(&PROBE, &grant).await.unwrap();
        let view = View {
            writable: grant.writable(),
            ..self.view()
        };
        let env = grant
            .env()
            .map(|name| (name.to_owned(), "value".to_owned()))
            .collect();
        let call = Call {
            role: grant.role(),
            input,
            view: Some(view),
            grant,
            env,
            recording,
        };
        self.sandbox.call(&loaded, call, self.seen.clone()).await
    }

    pub async fn call(&self, input: Value) -> Result<Answer, CallError> {
        self.call_with(grant(MANIFEST), input).await
    }

    /// The job's own answer, or its failure as text.
    pub async fn job(&self, grant: Arc<Grant>, input: Value) -> Value {
        let answer = self.call_with(grant, input).await.unwrap();
        match answer.output["ok"].as_str() {
            Some(text) => serde_json::from_str(text).unwrap(),
            None => answer.output["err"].clone(),
        }
    }
}

pub fn writing(path: &str) -> Arc<Grant> {
    grant(&MANIFEST.replace(
        "path = \".\"\naccess = \"read\"",
        &format!("path = \"{path}\"\naccess = \"write\""),
    ))
}

fn program(name: &str, built: &str) -> PathBuf {
    std::env::var_os("MOAT_TEST_PROGRAMS")
        .map_or_else(|| built.into(), |place| PathBuf::from(place).join(name))
}

/// The program that becomes launcher and worker; another copy where the tests run as somebody else (see `ordinary`).
pub fn worker() -> PathBuf {
    program("sandbox-worker", env!("CARGO_BIN_EXE_sandbox-worker"))
}

/// The worker that its guest has taken over.
pub fn hostile_worker() -> PathBuf {
    program(
        "sandbox-hostile-worker",
        env!("CARGO_BIN_EXE_sandbox-hostile-worker"),
    )
}

impl Drop for Place {
    fn drop(&mut self) {
        // The kernel leaves a directory without permissions in it.
        self.clear_layer();
    }
}
