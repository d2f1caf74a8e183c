//! Where the agents work: a repository of many files, a state directory, and a stand-in for their model that knows what it was paid for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flow::role::{Origin, Report};
use journal::{Journal, RunSummary};
use serde_json::Value;
use support::http::Server;
use support::model::{Answer, provider, text};

use crate::agents::Agent;
use crate::house::{House, MOAT, git, guest, told};
use crate::plan::Load;

/// Red where an agent says so.
const CHECK: &str = r#"import pathlib, sys

agents = pathlib.Path("agents")
red = [str(path) for path in sorted(agents.glob("*.txt")) if "red" in path.read_text().split()]
print("red:", ", ".join(red))
sys.exit(1 if red else 0)
"#;

const MOAT_TOML: &str = r#"[project]
branch = "main"

[commands]
test = ["python3", "check.py"]

[pipeline]
implement = "doer"

[skills]
doer = "tools/doer"

[[gate]]
name = "tests"
kind = "command"
command = "test"

[models]
coder = "large"

[budget]
attempts = 3
time = "1h"
tokens = 100000000
money = 100

[env]
TOKEN = "given"

[[grant]]
skill = "doer"
write = ["."]
commands = ["test"]
models = ["coder"]
"#;

const DOER: &str = r#"[skill]
name = "doer"
version = "0.1.0"
role = "implement"
description = "does as it is told"

[[files]]
path = "."
access = "write"
reason = "r"

[[processes]]
project = "test"
reason = "r"

[[env]]
name = "TOKEN"
reason = "r"

[model]
aliases = ["coder"]
max-tokens = 4000
reason = "r"

[limits]
memory = "128MiB"
time = "10m"
"#;

const DIVIDER: &str = r#"[skill]
name = "divider"
version = "0.1.0"
role = "plan"
description = "does as it is told"

[[files]]
path = "."
access = "read"
reason = "r"

[limits]
memory = "128MiB"
time = "10m"
"#;

/// Shorter than a moat is stopped for at times, so that its runs are taken over.
const LEASE: &str = "2s";

/// The keys by which each question was paid for: one that is asked again with the same key is not paid again.
pub type Paid = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

pub struct Place {
    house: House,
    pub repo: PathBuf,
    pub base: String,
    paid: Paid,
}

impl Place {
    pub fn new(load: &Load, with_plan: bool) -> Place {
        let house = House::new();
        let paid = Paid::default();
        let server = model(paid.clone());
        std::fs::create_dir_all(house.home()).unwrap();
        std::fs::write(house.path("key"), "sk-load-of-many").unwrap();
        let models = format!(
            "[provider.here]\napi = \"anthropic\"\nurl = \"http://127.0.0.1:{}\"\ncharges-once = true\nkey-file = {:?}\n\n\
             [model.large]\nprovider = \"here\"\nid = \"large-1\"\ncontext-tokens = 100000\noutput-tokens = 8000\n\
             price = {{ input = 3, output = 15, cache-read = 0.3, cache-write = 3.75 }}\n",
            server.port,
            house.path("key")
        );
        std::fs::write(house.home().join("models.toml"), models).unwrap();
        let repo = house.path("many");
        fill(&repo, load.files);
        let project = match with_plan {
            false => MOAT_TOML.to_owned(),
            true => {
                MOAT_TOML
                    .replace("[pipeline]\n", "[pipeline]\nplan = \"divider\"\n")
                    .replace("[skills]\n", "[skills]\ndivider = \"tools/divider\"\n")
                    + "\n[[grant]]\nskill = \"divider\"\nread = [\".\"]\n"
            }
        };
        write(&repo.join("moat.toml"), project.as_bytes());
        write(&repo.join("check.py"), CHECK.as_bytes());
        write(&repo.join("agents/README"), b"");
        for (name, manifest) in [("doer", DOER), ("divider", DIVIDER)] {
            let component = guest(name, &format!("{name}.wasm"));
            write(
                &repo.join(format!("tools/{name}/skill.toml")),
                manifest.as_bytes(),
            );
            write(
                &repo.join(format!("tools/{name}/component.wasm")),
                &component,
            );
        }
        git(&repo, &["init", "-q", "-b", "main"]);
        git(&repo, &["add", "-Af"]);
        git(&repo, &["commit", "-q", "-m", "many files"]);
        let base = git(&repo, &["rev-parse", "main"]);
        Place {
            house,
            repo,
            base,
            paid,
        }
    }

    pub fn home(&self) -> PathBuf {
        self.house.home()
    }

    pub fn moat(&self, args: &[&str]) -> Command {
        let mut command = self.house.command(args);
        command.env("MOAT_LEASE", LEASE);
        command
    }

    /// A moat that nobody listens to; what it complains of is kept.
    pub fn quiet(&self, args: &[&str], number: usize) -> Command {
        let said = self.house.path(&format!("said-{number}"));
        let said = std::fs::File::options()
            .create(true)
            .append(true)
            .open(said);
        let mut command = self.moat(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said.unwrap());
        command
    }

    /// What moats complained of, each sentence once with how often it was said.
    pub fn complaints(&self) -> BTreeMap<String, usize> {
        let mut said = BTreeMap::new();
        for entry in std::fs::read_dir(self.house.path("")).unwrap().flatten() {
            if !entry.file_name().to_string_lossy().starts_with("said-") {
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            for line in text.lines().filter(|line| is_complaint(line)) {
                *said.entry(without_numbers(line)).or_default() += 1;
            }
        }
        said
    }

    /// Opens a run for a report, as the program does it, and drives it not.
    pub fn open(&self, house: &driver::House, text: String) {
        let report = Report {
            origin: Origin::Text,
            text,
        };
        driver::open(house, &self.repo, report).unwrap();
    }

    pub fn house(&self) -> driver::House {
        driver::House::open(&self.home(), Path::new(MOAT)).unwrap()
    }

    pub fn paid(&self, agent: Agent) -> usize {
        let paid = self.paid.lock().unwrap();
        paid.get(&agent.question()).map_or(0, BTreeSet::len)
    }

    /// All runs as `moat runs --json` tells them.
    pub fn runs(&self) -> Vec<Value> {
        self.json(&["runs", "--json"]).as_array().unwrap().clone()
    }

    /// The reports of all runs: a run has a title only when it knows what to do.
    pub fn reports(&self) -> BTreeSet<String> {
        let journal = Journal::open(&self.home()).unwrap();
        let runs = journal.runs().unwrap();
        let report = |run: &RunSummary| {
            let (state, _) = driver::load(&journal, &run.run).unwrap();
            state.opened.report.text
        };
        runs.iter().map(report).collect()
    }

    pub fn shown(&self, run: &str) -> Value {
        self.json(&["runs", "show", "--json", run])
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.moat(args).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)))
    }
}

fn is_complaint(line: &str) -> bool {
    ["WARN", "ERROR", "error:", "panicked"]
        .iter()
        .any(|word| line.contains(word))
}

fn without_numbers(line: &str) -> String {
    let plain = |word: &str| match word.chars().any(|c| c.is_ascii_digit()) {
        true => "#".to_owned(),
        false => word.to_owned(),
    };
    let words: Vec<String> = line.split(' ').map(plain).collect();
    words.join(" ")
}

/// It takes a moment to think, and is paid once for a key.
fn model(paid: Paid) -> Server {
    provider(move |turn| {
        std::thread::sleep(Duration::from_millis(20));
        let asked = turn.last.trim().to_owned();
        let mut paid = paid.lock().unwrap();
        paid.entry(asked).or_default().insert(turn.key.to_owned());
        Answer::Says(vec![text("yes")])
    })
}

/// Folders of a hundred files.
fn fill(repo: &Path, files: usize) {
    for folder in 0..files.div_ceil(100) {
        let path = repo.join(format!("src/part-{folder:03}"));
        std::fs::create_dir_all(&path).unwrap();
        for file in 0..(files - folder * 100).min(100) {
            let text = format!("// File {file} of part {folder}.\n").repeat(1 + file % 40);
            std::fs::write(path.join(format!("file-{file:02}.rs")), text).unwrap();
        }
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}
