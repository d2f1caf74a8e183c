//! The guest as a skill: behind a worker, a broker and a grant.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use capability::{Denial, Grant, Manifest, Policy, RawProjectGrant, Running, Source};
use confine::{Command, Launcher, Limits, Mount, Network, Tree};
use flow::id::Role;
use sandbox::message::effects::{Effect, EffectsError, Standing};
use sandbox::message::http::{self, Head, HttpError, Piece};
use sandbox::message::model::{Alias, ModelError, Request, Response};
use sandbox::message::process::{self, ProcessError, ProjectCommand};
use sandbox::message::release::{Health, ReleaseError, Version};
use sandbox::{
    Answered, Call, Entry, Loaded, Ran, Sandbox, SandboxConfig, Services, Session, View,
};
use serde_json::{Value, json};

/// The same component as a skill.
pub(crate) struct Skill {
    sandbox: Sandbox,
    launcher: Launcher,
    loaded: Loaded,
    grant: Arc<Grant>,
    view: View,
}

impl Skill {
    pub(crate) async fn new(component: &[u8], directory: &Path, view: &Path) -> Skill {
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
                tree: Tree::Directory(view.to_owned()),
                writable: vec![],
            },
        }
    }

    pub(crate) async fn open(&self) -> Session {
        let view = Some(&self.view);
        let opening = self.sandbox.open(&self.loaded, self.grant.clone(), view);
        opening.await.unwrap()
    }

    pub(crate) async fn call(&self, session: &mut Session, input: &str) -> String {
        let input: Value = serde_json::from_str(input).unwrap();
        let answer = session.call(Role::Job, input, vec![], &Nothing, None).await;
        answer.unwrap().output["ok"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn call_cold(&self) {
        let call = Call {
            role: Role::Job,
            input: serde_json::from_str(crate::ECHO).unwrap(),
            view: Some(self.view.clone()),
            grant: self.grant.clone(),
            env: vec![],
            recording: None,
        };
        let answer = self.sandbox.call(&self.loaded, call, Arc::new(Nothing));
        assert_eq!(answer.await.unwrap().output, json!({"ok": "1"}));
    }

    /// What a worker is without the worker: the launcher, the namespaces, as many mounts, the end.
    pub(crate) async fn spawn_true(&self) {
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
            (self.view.tree.changes().to_owned(), "/view"),
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
            since: None,
            stdin: vec![],
            pass: vec![],
        };
        let mut child = self.launcher.spawn(command).unwrap();
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
methods = ["GET"]
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
host-calls = 10000
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
    const PROJECT: &str = r#"{"skill":"probe","read":["."],"commands":["test"],"network":["GET api.example.com"],"models":["small"],"release":true}"#;
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

    fn replayed(&self, _: &Answered, _: &[Value]) {}

    fn requested_before(&self, _: http::Request, _: u64, _: u64) {}

    fn received_before(&self, _: u64, _: u64) {}

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
