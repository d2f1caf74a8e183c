//! What is crashed: a repository, a report and a pipeline, set up once and copied for each crash.

mod demo;
mod effects;
mod outside;
mod red;
mod tasks;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::http::{Request, Server};
use tempfile::TempDir;

use crate::call::Places;
use crate::house::{MOAT, git, told};
pub use outside::{Deeds, Outside};

/// Which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A search mends it, and it is deployed.
    Demo,
    /// A model's first three attempts are red, the fourth is green.
    ThreeRed,
    /// A plan splits it into eight tasks, which are done at the same time.
    EightTasks,
    /// Its triage does things outside, some of them where no key is taken; a model is asked, and it is deployed.
    Effects,
}

/// Set up once.
pub struct Subject {
    pub kind: Kind,
    /// Has `home`, and the repository beside it.
    template: PathBuf,
    /// The repository's directory.
    repo: &'static str,
    report: String,
    model: Option<Server>,
    outside: Option<Outside>,
    /// Of the service that is deployed.
    port: Option<u16>,
    /// Whatever has to live as long.
    _kept: Box<dyn Send + Sync>,
}

/// A copy of it, for one crash.
pub struct World {
    directory: TempDir,
    repo: &'static str,
    report: String,
}

/// In memory, where the machine has such a place: a crash of a process loses nothing there either, and a thousand of them are sooner done.
fn directory() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap_or_else(|_| TempDir::new().unwrap())
}

impl Subject {
    pub fn new(kind: Kind) -> Subject {
        match kind {
            Kind::Demo => demo::subject(),
            Kind::ThreeRed => red::subject(),
            Kind::EightTasks => tasks::subject(),
            Kind::Effects => effects::subject(),
        }
    }

    /// Whether what its runs do follows one order. Where work is done at the same time, it does not.
    pub fn is_ordered(&self) -> bool {
        self.kind != Kind::EightTasks
    }

    pub fn deploys(&self) -> bool {
        self.port.is_some()
    }

    /// Kills services that nobody knows of, or they would answer for the next one.
    pub fn stop_strays(&self) {
        let port = self.port.unwrap_or_default().to_string();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<&str> = line.split('\0').collect();
            if words.contains(&"meter.server") && words.contains(&port.as_str()) {
                let _ = kill_process(pid.and_then(Pid::from_raw).unwrap(), Signal::KILL);
            }
        }
    }

    /// What the service says of one hour.
    pub fn quote(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port?)).ok()?;
        stream
            .write_all(b"GET /quote?minutes=60 HTTP/1.0\r\n\r\n")
            .ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        Some(said)
    }

    /// Requests to the model so far.
    pub fn asked(&self) -> Vec<Request> {
        self.model.as_ref().map(Server::seen).unwrap_or_default()
    }

    /// What was done outside so far.
    pub fn deeds(&self) -> Deeds {
        self.outside
            .as_ref()
            .map(Outside::deeds)
            .unwrap_or_default()
    }

    /// Keeps what a run compiled: warm ones need not.
    pub fn keep_compiled(&self, of: &World) {
        copy(&of.home().join("compiled"), &self.compiled());
    }

    fn compiled(&self) -> PathBuf {
        self.template.join("compiled")
    }

    /// A copy, in which skills are compiled already when it is warm.
    pub fn world(&self, warm: bool) -> World {
        let world = World {
            directory: directory(),
            repo: self.repo,
            report: self.report.clone(),
        };
        for name in ["home", self.repo] {
            copy(
                &self.template.join(name),
                &world.directory.path().join(name),
            );
        }
        if warm {
            copy(&self.compiled(), &world.home().join("compiled"));
        }
        // The copies have other inodes than the index knows.
        git(&world.repo(), &["status", "--porcelain"]);
        world
    }
}

impl World {
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    pub fn repo(&self) -> PathBuf {
        self.directory.path().join(self.repo)
    }

    pub fn places(&self) -> Places {
        vec![
            (self.directory.path().join("said"), None),
            (self.home(), Some("home")),
            (self.repo(), Some("repo")),
            ("/".into(), Some("")),
        ]
    }

    pub fn run(&self) -> Command {
        self.moat(&["run", "--repo", self.repo, &self.report])
    }

    pub fn moat(&self, args: &[&str]) -> Command {
        moat(self.directory.path(), args)
    }

    /// A fresh file for what is said.
    pub fn said(&self) -> File {
        File::create(self.directory.path().join("said")).unwrap()
    }

    pub fn was_said(&self) -> String {
        let bytes = std::fs::read(self.directory.path().join("said")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Stops the service that moat knows of; false when it knows of none that lives.
    pub fn stop_service(&self) -> bool {
        let repositories = std::fs::read_dir(self.home().join("repositories"));
        let noted = repositories
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path().join("releases/service.json")).ok());
        let services = noted.filter_map(|text| serde_json::from_slice::<Value>(&text).ok());
        let pids = services.filter_map(|service| service["pid"].as_i64());
        let pids: Vec<Pid> = pids.filter_map(|pid| Pid::from_raw(pid as i32)).collect();
        !pids.is_empty()
            && pids
                .into_iter()
                .all(|pid| kill_process(pid, Signal::KILL).is_ok())
    }
}

fn moat(directory: &Path, args: &[&str]) -> Command {
    let program = std::env::var_os("MOAT_TEST_PROGRAM").unwrap_or_else(|| MOAT.into());
    let mut command = Command::new(program);
    command
        .args(args)
        .env("MOAT_HOME", directory.join("home"))
        .env("USER", "tester")
        .current_dir(directory);
    command
}

/// One that nobody else has now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn copy(from: &Path, to: &Path) {
    let permissions = std::fs::metadata(from).unwrap().permissions();
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
    std::fs::set_permissions(to, permissions).unwrap();
}

/// A model of this price behind `large`, which charges for a key once.
fn models(home: &Path, key: &Path, port: u16) {
    std::fs::create_dir_all(home).unwrap();
    std::fs::write(key, "sk-canary-77aa").unwrap();
    let models = format!(
        "[provider.here]\napi = \"anthropic\"\nurl = \"http://127.0.0.1:{port}\"\ncharges-once = true\nkey-file = {key:?}\n\n\
         [model.large]\nprovider = \"here\"\nid = \"large-1\"\ncontext-tokens = 100000\noutput-tokens = 8000\n\
         price = {{ input = 3, output = 15, cache-read = 0.3, cache-write = 3.75 }}\n",
    );
    std::fs::write(home.join("models.toml"), models).unwrap();
}

/// Changes a file, where every text that is to be replaced is there.
fn edit(path: &Path, from: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in from {
        assert!(text.contains(from), "{from:?} is not in {text}");
        text = text.replace(from, to);
    }
    std::fs::write(path, text).unwrap();
}

/// The parking meter with its bug, and the moat.toml that `moat init` finds for it; not committed yet.
fn meter(template: &Path) -> PathBuf {
    let path = template.join("meter");
    let files = [
        ("meter/__init__.py", ""),
        ("meter/fees.py", demo::FEES),
        ("meter/server.py", demo::SERVER),
        ("tests/__init__.py", ""),
        ("tests/test_fees.py", demo::FEES_TESTS),
        ("tests/test_server.py", demo::SERVER_TESTS),
    ];
    for (name, text) in files {
        let file = path.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    git(&path, &["init", "-q", "-b", "main"]);
    git(&path, &["add", "-A"]);
    git(&path, &["commit", "-q", "-m", "a meter"]);
    let output = moat(template, &["init", "--repo", "meter"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    path
}

fn commit(repo: &Path) {
    git(repo, &["add", "-Af"]);
    git(repo, &["commit", "-q", "-m", "let moat work here"]);
}
