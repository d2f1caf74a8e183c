//! What is crashed: a repository, a report and a pipeline, set up once and copied for each crash.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::http::Server;
use support::model::{Answer, Say, Turn, provider, text};
use tempfile::TempDir;

use crate::call::Places;
use crate::house::{MOAT, git, told};

const SERVER: &str = include_str!("../../host/app/demo/meter/server.py");
const SERVER_TESTS: &str = include_str!("../../host/app/demo/tests/test_server.py");
/// The demo's tariff, so short that a search through it is: what is killed after it has been searched is searched again.
const FEES: &str = "\"\"\"The tariff.\"\"\"\n\n\ndef fee(minutes):\n    \"\"\"Gives the fee.\"\"\"\n    if minutes < 0:\n        raise ValueError(\"a stay cannot be negative\")\n    return 200 if minutes < 60 else 400\n";
const FEES_TESTS: &str = "import unittest\n\nfrom meter.fees import fee\n\n\nclass Fee(unittest.TestCase):\n    def test_a_begun_hour_counts(self):\n        \
     self.assertEqual(fee(1), 200)\n        self.assertEqual(fee(61), 400)\n\n    def test_a_full_hour_is_one_hour(self):\n        \
     self.assertEqual(fee(60), 200)\n        self.assertEqual(fee(59), 200)\n";
const WRONG: &str = "minutes < 60";
const RIGHT: &str = "minutes <= 60";
const REPORT: &str = "one full hour is charged as two\n\ntests/test_fees.py shows it: fee(60) should be 200 and is 400.";

/// Which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A search mends it, and it is deployed.
    Demo,
    /// A model's first three attempts are red, the fourth is green.
    ThreeRed,
}

/// Set up once.
pub struct Subject {
    pub kind: Kind,
    model: Option<Server>,
    template: TempDir,
    pub port: u16,
}

/// A copy of it, for one crash.
pub struct World {
    directory: TempDir,
}

impl Subject {
    pub fn new(kind: Kind) -> Subject {
        let template = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let subject = Subject {
            kind,
            model: (kind == Kind::ThreeRed).then(|| provider(red_three_times)),
            template,
            port: port.unwrap().port(),
        };
        subject.house();
        subject.repository();
        subject
    }

    pub fn deploys(&self) -> bool {
        self.kind == Kind::Demo
    }

    /// Kills services that nobody knows of, or they would answer for the next one.
    pub fn stop_strays(&self) {
        let port = self.port.to_string();
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
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream
            .write_all(b"GET /quote?minutes=60 HTTP/1.0\r\n\r\n")
            .ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        Some(said)
    }

    /// Requests to the model so far.
    pub fn asked(&self) -> Vec<support::http::Request> {
        self.model.as_ref().map(Server::seen).unwrap_or_default()
    }

    fn house(&self) {
        let home = self.template.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        if let Some(model) = &self.model {
            let key = self.template.path().join("key");
            std::fs::write(&key, "sk-canary-77aa").unwrap();
            let models = format!(
                "[provider.here]\napi = \"anthropic\"\nurl = \"http://127.0.0.1:{}\"\nkey-file = {key:?}\n\n\
                 [model.large]\nprovider = \"here\"\nid = \"large-1\"\ncontext-tokens = 100000\noutput-tokens = 8000\n\
                 price = {{ input = 3, output = 15, cache-read = 0.3, cache-write = 3.75 }}\n",
                model.port,
            );
            std::fs::write(home.join("models.toml"), models).unwrap();
        }
    }

    fn repository(&self) {
        let path = self.template.path().join("meter");
        let files = [
            ("meter/__init__.py", ""),
            ("meter/fees.py", FEES),
            ("meter/server.py", SERVER),
            ("tests/__init__.py", ""),
            ("tests/test_fees.py", FEES_TESTS),
            ("tests/test_server.py", SERVER_TESTS),
        ];
        for (name, text) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        git(&path, &["init", "-q", "-b", "main"]);
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-q", "-m", "a meter"]);
        let output = moat(self.template.path(), &["init", "--repo", "meter"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", told(&output));
        let file = path.join("moat.toml");
        let mut text = std::fs::read_to_string(&file).unwrap();
        match self.kind {
            Kind::ThreeRed => text = text.replace("attempts = 3", "attempts = 4"),
            Kind::Demo => {
                let port = self.port;
                text = text.replace(
                    "implement = \"search-repair\"",
                    "implement = \"search-repair\"\ndeploy = \"deploy\"",
                );
                text.push_str(&format!(
                    "\n[deploy]\nstart = [\"python3\", \"-m\", \"meter.server\", \"--port\", \"{port}\"]\n\
                     health = \"http://127.0.0.1:{port}/health\"\nexpect-status = 200\npatience = \"20s\"\nkeep = 3\n\n[[grant]]\nskill = \"deploy\"\nrelease = true\n"
                ));
            }
        }
        std::fs::write(&file, text).unwrap();
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-q", "-m", "let moat work here"]);
    }

    /// Keeps what a run compiled: warm ones need not.
    pub fn keep_compiled(&self, of: &World) {
        copy(&of.home().join("compiled"), &self.compiled());
    }

    fn compiled(&self) -> PathBuf {
        self.template.path().join("compiled")
    }

    /// A copy, in which skills are compiled already when it is warm.
    pub fn world(&self, warm: bool) -> World {
        let directory = TempDir::new().unwrap();
        for name in ["home", "meter"] {
            copy(
                &self.template.path().join(name),
                &directory.path().join(name),
            );
        }
        let world = World { directory };
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
        self.directory.path().join("meter")
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
        self.moat(&["run", "--repo", "meter", REPORT])
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

/// Knows from what it is told alone which attempt it is and what it has done in it, so that it answers a question twice in the same way.
fn red_three_times(turn: &Turn<'_>) -> Answer {
    let said = turn.body["messages"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let attempt = (2..=4)
        .rev()
        .find(|attempt| {
            said[0]
                .to_string()
                .contains(&format!("This is attempt {attempt}."))
        })
        .unwrap_or(1);
    let turns = said.iter().filter(|message| message["role"] == "assistant");
    let new = match attempt {
        4 => RIGHT.to_owned(),
        red => format!("minutes < {}", 60 - red),
    };
    match turns.count() {
        0 => Answer::Says(vec![
            text("I edit."),
            Say::Tool(
                "edit_file",
                json!({"path": "meter/fees.py", "old": WRONG, "new": new}),
            ),
        ]),
        // It is told that tests are red, and insists.
        _ => Answer::Says(vec![Say::Tool(
            "finish",
            json!({"summary": "Charge a begun hour once"}),
        )]),
    }
}
