//! Attacks that were written from the documents alone, by somebody who had not read the wall; and the yard that they are tried in.

mod approvals;
mod commands;
mod configuration;
mod requests;
mod surroundings;
mod trail;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::http::{Server, whole};

use crate::house::{House, git, guest, told};

/// More than anything here needs on a busy machine; what is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The guest that does what its input says. Where an ordinary user runs this, somebody else has built it.
pub static GUEST: LazyLock<Vec<u8>> = LazyLock::new(|| guest("guests", "probe.wasm"));

/// The component imports models, so that one must be there; nobody calls it.
const UNUSED_MODEL: &str = "[provider.unused]\napi = \"openai\"\nurl = \"http://127.0.0.1:9/v1\"\n\n[model.unused]\nprovider = \"unused\"\n\
    id = \"unused\"\ncontext-tokens = 100\noutput-tokens = 10\nprice = { input = 0, output = 0 }\n";

/// What the three files say beyond what the guest needs to be loaded at all.
#[derive(Clone)]
pub struct Plan {
    /// Sections of skill.toml.
    pub manifest: String,
    /// Keys under its `[limits]`.
    pub limits: &'static str,
    /// Lines of the `[[grant]]`.
    pub grant: String,
    /// Lines of moat.toml's `[commands]`.
    pub commands: &'static str,
    /// Lines of the ceiling.
    pub ceiling: String,
}

impl Plan {
    /// May get `/v1` of that port of localhost.
    pub fn asking(port: u16) -> Plan {
        Plan {
            manifest: network(port, "http", "\"GET\""),
            limits: "memory = \"64MiB\"\ntime = \"60s\"\nrequests = 100\n",
            grant: format!("network = [\"GET http://localhost:{port}/v1\"]\n"),
            commands: "",
            ceiling: format!(
                "network = [\"http://localhost:{port}\"]\nprivate = [\"http://localhost:{port}\"]\n"
            ),
        }
    }

    /// The same, with a command that runs Python text given by the guest, on the network or not.
    pub fn running(port: u16, online: bool, bounds: &str) -> Plan {
        Plan::interpreting(
            port,
            ("python", "python = [\"python3\", \"-c\"]\n"),
            online,
            bounds,
        )
    }

    /// The same with another interpreter: a name, and its line of `[commands]`.
    pub fn interpreting(
        port: u16,
        (name, line): (&str, &'static str),
        online: bool,
        bounds: &str,
    ) -> Plan {
        let mut plan = Plan::asking(port);
        let network = if online { "network = true\n" } else { "" };
        plan.manifest += &format!(
            "\n[[processes]]\nproject = \"{name}\"\nextra-args = true\n{network}{bounds}reason = \"test\"\n"
        );
        plan.commands = line;
        if online {
            plan.grant += &format!("online = [\"{name}\"]\n");
            plan.ceiling += "online = [\"*\"]\n";
        }
        plan
    }
}

pub fn network(port: u16, scheme: &str, methods: &str) -> String {
    format!(
        "\n[[network]]\nhost = \"localhost\"\nscheme = \"{scheme}\"\nport = {port}\nmethods = [{methods}]\npaths = [\"/v1\"]\nreason = \"test\"\n"
    )
}

/// The meter with the guest as a skill of its own.
pub struct Yard {
    pub house: House,
    pub repo: PathBuf,
}

impl Yard {
    pub fn new(plan: &Plan) -> Yard {
        let house = House::new();
        let repo = house.meter();
        let yard = Yard { house, repo };
        yard.skill(plan);
        let path = yard.repo.join("moat.toml");
        let file = std::fs::read_to_string(&path).unwrap();
        let file = file
            .replace("[budget]\n", "[budget]\ntokens = 1000\nmoney = 1\n")
            .replace("[commands]\n", &format!("[commands]\n{}", plan.commands));
        let named = match plan.commands.split_once(" = ") {
            Some((name, _)) => format!("\"test\", \"{name}\""),
            None => "\"test\"".to_owned(),
        };
        let own = format!(
            "\n[models]\nsmall = \"unused\"\n\n[skills]\nasker = \"tools/asker\"\n\n[[grant]]\nskill = \"asker\"\nwrite = [\".\"]\n\
             commands = [{named}]\nmodels = [\"small\"]\nrelease = true\n{}",
            plan.grant
        );
        std::fs::write(path, file + &own).unwrap();
        yard.commit("a skill that asks");
        std::fs::create_dir_all(yard.house.home()).unwrap();
        yard.policy(&policy(&plan.ceiling));
        std::fs::write(yard.house.home().join("models.toml"), UNUSED_MODEL).unwrap();
        yard
    }

    /// Writes the skill's folder, and commits nothing.
    pub fn skill(&self, plan: &Plan) {
        let folder = self.repo.join("tools/asker");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("component.wasm"), GUEST.as_slice()).unwrap();
        let manifest = format!(
            "[skill]\nname = \"asker\"\nversion = \"0.1.0\"\nrole = \"job\"\ndescription = \"Asks.\"\n\n[[files]]\npath = \".\"\naccess = \"write\"\n\
             reason = \"test\"\n\n[[processes]]\nproject = \"test\"\nreason = \"imported\"\n\n[model]\naliases = [\"small\"]\nmax-tokens = 10\n\
             reason = \"imported\"\n\n[release]\nreason = \"imported\"\n{}\n[limits]\n{}",
            plan.manifest, plan.limits
        );
        std::fs::write(folder.join("skill.toml"), manifest).unwrap();
    }

    pub fn commit(&self, message: &str) {
        git(&self.repo, &["add", "-Af"]);
        git(&self.repo, &["commit", "-qm", message]);
    }

    pub fn policy(&self, text: &str) {
        std::fs::write(self.house.home().join("policy.toml"), text).unwrap();
    }

    pub fn command(&self, input: &Value) -> Command {
        // A file a call: calls go on at one time.
        let name = format!(
            "input-{}.json",
            CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        );
        let file = self.house.path(&name);
        std::fs::write(&file, input.to_string()).unwrap();
        let mut command = self.house.command(&[
            "skill", "run", "asker", "--json", "--repo", "meter", "--input",
        ]);
        command.arg(file);
        command
    }

    /// Calls it; what the job answered, or null where the call failed.
    pub fn call(&self, input: &Value) -> Value {
        answer(&within(self.command(input)))
    }

    /// The job's answer where nothing may go wrong.
    pub fn answered(&self, input: &Value) -> Value {
        let output = within(self.command(input));
        let answer = answer(&output);
        assert!(!answer.is_null(), "{input}: {}", told(&output));
        answer
    }

    /// Runs Python text in the granted command; what it printed.
    pub fn python(&self, text: &str) -> String {
        self.interpreted("python", text)
    }

    /// The same by another interpreter.
    pub fn interpreted(&self, name: &str, text: &str) -> String {
        let answer = self.answered(&json!({"do": "run", "name": name, "args": [text]}));
        printed(&answer)
    }

    /// The trail is whole, and every line of it can be read.
    pub fn verifies(&self) {
        let output = self.house.moat(&["audit", "verify"]);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    }
}

static CALLS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

pub fn policy(more: &str) -> String {
    format!(
        "hidden = []\n[[ceiling]]\nread = [\".\"]\nwrite = [\".\"]\ncommands = [\"*\"]\nprograms = [\"*\"]\nenv = [\"*\"]\nmodels = [\"*\"]\n\
         max-tokens = 10\nrelease = true\nmemory = \"1GiB\"\ntime = \"10m\"\n{more}"
    )
}

pub fn answer(output: &Output) -> Value {
    assert!(!told(output).contains("panicked at"), "{}", told(output));
    let whole: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let inner = whole["output"]["ok"].as_str().unwrap_or("null");
    serde_json::from_str(inner).unwrap_or(Value::Null)
}

/// What a command wrote to its standard output.
pub fn printed(answer: &Value) -> String {
    let Some(text) = answer["stdout"].as_str() else {
        panic!("it did not run: {answer}")
    };
    text.to_owned()
}

/// Runs it to its end, which comes.
pub fn within(mut command: Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let read = |stream: &mut dyn std::io::Read| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let stdout = scope.spawn(move || read(&mut out));
        let stderr = scope.spawn(move || read(&mut err));
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if begun.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        let Some(status) = status else {
            panic!("{command:?} hangs: {}", String::from_utf8_lossy(&stderr))
        };
        Output {
            status,
            stdout,
            stderr,
        }
    })
}

/// A server that has an answer to everything.
pub fn server() -> Server {
    Server::start(|_, stream| whole(stream, 200, &[], "well"))
}

pub fn fetch(url: &str) -> Value {
    json!({"do": "fetch", "url": url})
}

/// Everything below a directory: names, kinds and contents.
pub fn snapshot(below: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut left) = (Vec::new(), vec![below.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                left.push(path.clone());
            }
            let content = if kind.is_file() {
                std::fs::read(&path).unwrap()
            } else {
                format!("{kind:?}").into_bytes()
            };
            found.push((path, content));
        }
    }
    found.sort();
    found
}

/// Characters that make a terminal do something, or show other than is there.
pub fn acts(text: &str) -> Option<char> {
    text.chars().find(|c| {
        (c.is_control() && *c != '\n' && *c != '\t') || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}
