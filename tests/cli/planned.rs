//! A repository whose items are split into tasks: its plan skill takes them from the report, and its implement skill does what each says.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;
use support::http::Server;
use support::model::{Answer, script, text};

use crate::house::{House, git, guest, told};

/// Built once, as the catalog builds skills.
static DIVIDER: LazyLock<Vec<u8>> = LazyLock::new(|| guest("divider", "divider.wasm"));
static DOER: LazyLock<Vec<u8>> = LazyLock::new(|| guest("doer", "doer.wasm"));

/// Says when it ran and with what, and fails where a file says so.
const CHECK: &str = r#"import os, pathlib, sys, time

begun = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
time.sleep(float(pathlib.Path("pace").read_text()))
files = sorted(pathlib.Path(".").rglob("*.txt"))
red = [str(path) for path in files if "red" in path.read_text().split()]
copies = len(list(pathlib.Path("/").glob("workspace*/**/check.py")))
ended = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
print("SPAN", begun, ended, os.environ.get("MOAT_RESOURCE_BENCH", "-"), copies)
print("red:", ", ".join(red))
sys.exit(1 if red else 0)
"#;

const MOAT_TOML: &str = r#"[project]
branch = "main"

[commands]
test = ["python3", "check.py"]

[pipeline]
plan = "divider"
implement = "doer"

[skills]
divider = "tools/divider"
doer = "tools/doer"

[[gate]]
name = "tests"
kind = "command"
command = "test"

[models]
coder = "large"

[budget]
attempts = 3
time = "30m"
tokens = 1000000
money = 5

[env]
TOKEN = "given"

[[grant]]
skill = "divider"
read = ["."]

[[grant]]
skill = "doer"
write = ["."]
commands = ["test"]
models = ["coder"]
"#;

fn manifest(name: &str, role: &str, more: &str) -> String {
    format!(
        "[skill]\nname = \"{name}\"\nversion = \"0.1.0\"\nrole = \"{role}\"\ndescription = \"does as it is told\"\n\n{more}\n\
         [limits]\nmemory = \"128MiB\"\ntime = \"5m\"\n"
    )
}

const READS: &str = "[[files]]\npath = \".\"\naccess = \"read\"\nreason = \"r\"\n";
const WORKS: &str = "[[files]]\npath = \".\"\naccess = \"write\"\nreason = \"r\"\n\n\
    [[processes]]\nproject = \"test\"\nreason = \"r\"\n\n\
    [[env]]\nname = \"TOKEN\"\nreason = \"r\"\n\n\
    [model]\naliases = [\"coder\"]\nmax-tokens = 4000\nreason = \"r\"\n";

/// What a test works with.
pub struct Planned {
    pub house: House,
    pub repo: PathBuf,
    pub base: String,
    pub server: Server,
}

impl Planned {
    /// A check takes a tenth of a second.
    pub fn new() -> Planned {
        Planned::with("0.1", |text| text.to_owned())
    }

    /// With another pace of the checks, in seconds, and another moat.toml.
    pub fn with(pace: &str, change: impl FnOnce(&str) -> String) -> Planned {
        let server = script(vec![Answer::Says(vec![text("yes")])]);
        let house = House::new();
        std::fs::create_dir_all(house.home()).unwrap();
        std::fs::write(house.path("key"), "sk-planned").unwrap();
        let models = format!(
            "[provider.here]\napi = \"anthropic\"\nurl = \"http://127.0.0.1:{}\"\nkey-file = {:?}\n\n\
             [model.large]\nprovider = \"here\"\nid = \"large-1\"\ncontext-tokens = 100000\noutput-tokens = 8000\n\
             price = {{ input = 3, output = 15, cache-read = 0.3, cache-write = 3.75 }}\n",
            server.port,
            house.path("key")
        );
        std::fs::write(house.home().join("models.toml"), models).unwrap();
        let repo = house.path("parts");
        for (path, content) in [
            ("check.py", CHECK),
            ("pace", pace),
            ("shared.txt", "shared\n"),
            ("moat.toml", &change(MOAT_TOML)),
            (
                "tools/divider/skill.toml",
                &manifest("divider", "plan", READS),
            ),
            (
                "tools/doer/skill.toml",
                &manifest("doer", "implement", WORKS),
            ),
        ] {
            write(&repo.join(path), content.as_bytes());
        }
        write(&repo.join("tools/divider/component.wasm"), &DIVIDER);
        write(&repo.join("tools/doer/component.wasm"), &DOER);
        git(&repo, &["init", "-q", "-b", "main"]);
        git(&repo, &["add", "-Af"]);
        git(&repo, &["commit", "-q", "-m", "parts"]);
        let base = git(&repo, &["rev-parse", "main"]);
        Planned {
            house,
            repo,
            base,
            server,
        }
    }

    pub fn command(&self, report: &str) -> Command {
        self.house.command(&["run", "--repo", "parts", report])
    }

    pub fn run(&self, report: &str) -> Output {
        self.command(report).output().unwrap()
    }

    /// All runs, as `moat runs --json` tells them.
    pub fn runs(&self) -> Vec<Value> {
        let output = self.house.moat(&["runs", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)))
    }

    /// The state of each run, by its id.
    pub fn states(&self) -> Vec<(String, String)> {
        let word = |run: &Value, key: &str| run[key].as_str().unwrap().to_owned();
        let runs = self.runs();
        runs.iter()
            .map(|run| (word(run, "run"), word(run, "state")))
            .collect()
    }

    /// The first run that was opened.
    pub fn parent(&self) -> String {
        self.states()[0].0.clone()
    }

    pub fn events(&self, run: &str) -> Vec<Value> {
        let output = self.house.moat(&["runs", "show", "--json", run]);
        let shown: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
        shown["events"].as_array().unwrap().clone()
    }

    /// The run that works, or last worked, on a task of the first run.
    pub fn child(&self, task: &str) -> String {
        let events = self.events(&self.parent());
        let opened = events.iter().rev().map(|one| &one["event"]);
        let mut of_task = opened.filter(|one| one["type"] == "task-opened" && one["task"] == task);
        let run = of_task
            .next()
            .unwrap_or_else(|| panic!("no run for {task}"));
        run["run"].as_str().unwrap().to_owned()
    }

    /// A file on the branch.
    pub fn file(&self, path: &str) -> String {
        git(&self.repo, &["show", &format!("main:{path}")])
    }

    pub fn commits(&self) -> String {
        let range = format!("{}..main", self.base);
        git(&self.repo, &["rev-list", "--count", &range])
    }

    /// Changes moat.toml on the branch.
    pub fn edit(&self, change: impl FnOnce(&str) -> String) {
        let path = self.repo.join("moat.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(&text)).unwrap();
        git(&self.repo, &["commit", "-qam", "moat.toml"]);
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// When a check ran, with the resource that it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub begun: u64,
    pub ended: u64,
    pub resource: String,
    /// How many copies of itself it could see.
    pub copies: u64,
}

impl Span {
    pub fn overlaps(&self, other: &Span) -> bool {
        self.begun < other.ended && other.begun < self.ended
    }
}

/// The checks of a run's gates, as they told it themselves.
pub fn spans(events: &[Value]) -> Vec<Span> {
    let texts = events
        .iter()
        .filter_map(|one| one["event"]["verdict"]["evidence"]["text"].as_str());
    let span = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        Span {
            begun: words[1].parse().unwrap(),
            ended: words[2].parse().unwrap(),
            resource: words[3].to_owned(),
            copies: words[4].parse().unwrap(),
        }
    };
    texts
        .flat_map(str::lines)
        .filter(|line| line.starts_with("SPAN "))
        .map(span)
        .collect()
}
