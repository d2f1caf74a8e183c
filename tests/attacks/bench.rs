//! A place to load and call hostile components in, and what to look at meanwhile: the broker's memory, its processes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::house::{House, git, told};

pub const MANIFEST: &str = "[skill]\nname = \"attack\"\nversion = \"0.1.0\"\nrole = \"job\"\ndescription = \"An attack.\"\n\n\
    [[files]]\npath = \".\"\naccess = \"read\"\nreason = \"test\"\n\n[limits]\nmemory = \"64MiB\"\ntime = \"3s\"\n";

/// More than moat itself ever needs in these tests, and far less than what is thrown at it.
pub const BROKER_BYTES_MAX: u64 = 300 << 20;

/// What became of one use of the program.
pub struct Told {
    pub code: Option<i32>,
    pub text: String,
    /// The most that the broker itself had resident; its workers are not in it.
    pub broker_bytes: u64,
    pub took: Duration,
}

impl Told {
    /// Ended with this error, in order, and within its means.
    pub fn refused(&self, what: &str, says: &[&str]) {
        assert!(
            matches!(self.code, Some(1..=3)),
            "{what}: {:?} {}",
            self.code,
            self.text
        );
        assert!(
            says.iter().any(|words| self.text.contains(words)),
            "{what}: none of {says:?} is in: {}",
            self.text
        );
        self.is_sound(what);
    }

    /// Ran to its end: these components print nothing, and no JSON is what is wrong with that.
    pub fn ran(&self, what: &str) {
        assert!(self.text.contains("is no JSON"), "{what}: {}", self.text);
        self.is_sound(what);
    }

    /// However it ended: by itself, without a panic, and within its means.
    pub fn is_sound(&self, what: &str) {
        assert!(self.code.is_some(), "{what}: {}", self.text);
        assert!(!self.text.contains("panicked at"), "{what}: {}", self.text);
        assert!(
            self.broker_bytes < BROKER_BYTES_MAX,
            "{what}: the broker grew to {} bytes",
            self.broker_bytes
        );
    }
}

pub struct Bench {
    pub house: House,
}

impl Bench {
    pub fn new() -> Bench {
        let house = House::new();
        let repo = house.meter();
        let file = repo.join("moat.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = format!("{text}\n[[grant]]\nskill = \"attack\"\nread = [\".\"]\n");
        std::fs::write(file, text).unwrap();
        git(&repo, &["commit", "-qam", "grant the attack its files"]);
        std::fs::write(house.path("input.json"), "{}").unwrap();
        Bench { house }
    }

    /// A skill's folder with this component.
    pub fn folder(&self, name: &str, manifest: &str, component: &[u8]) -> String {
        let folder = self.house.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("skill.toml"), manifest).unwrap();
        std::fs::write(folder.join("component.wasm"), component).unwrap();
        format!("./{name}")
    }

    /// Checks and compiles a component, and runs nothing of it.
    pub fn load(&self, name: &str, component: &[u8]) -> Told {
        let folder = self.folder(name, MANIFEST, component);
        watched(self.house.command(&["skill", "check", &folder]))
    }

    /// Calls a component under its grant.
    pub fn call(&self, name: &str, component: &[u8]) -> Told {
        self.call_with(name, MANIFEST, component)
    }

    pub fn call_with(&self, name: &str, manifest: &str, component: &[u8]) -> Told {
        let folder = self.folder(name, manifest, component);
        let args = [
            "skill",
            "run",
            &folder,
            "--input",
            "input.json",
            "--repo",
            "meter",
            "--json",
        ];
        watched(self.house.command(&args))
    }
}

/// Runs a command to its end; nothing that it started is left afterwards.
pub fn watched(mut command: Command) -> Told {
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |stream: &mut dyn std::io::Read| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let (mut broker_bytes, mut started) = (0, BTreeSet::new());
    let output = std::thread::scope(|scope| {
        let stdout = scope.spawn(move || read(&mut out));
        let stderr = scope.spawn(move || read(&mut err));
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            broker_bytes = broker_bytes.max(peak_bytes(pid));
            started.extend(children_of(pid, &started));
            std::thread::sleep(Duration::from_millis(20));
        };
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        Output {
            status,
            stdout,
            stderr,
        }
    });
    let took = begun.elapsed();
    let alive = |(pid, since): &(u32, u64)| stat(*pid).is_some_and(|(_, began)| began == *since);
    while started.iter().any(alive) {
        assert!(
            took + Duration::from_secs(10) > begun.elapsed(),
            "something of it is left"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Told {
        code: output.status.code(),
        text: told(&output),
        broker_bytes,
        took,
    }
}

fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// A process's parent, and when it began: numbers are used again.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text =
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    Some((fields[1].parse().ok()?, fields[19].parse().ok()?))
}

fn children_of(pid: u32, known: &BTreeSet<(u32, u64)>) -> Vec<(u32, u64)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let own: u32 = entry.file_name().to_str()?.parse().ok()?;
            let (parent, began) = stat(own)?;
            let is_ours = parent == pid || known.iter().any(|(known, _)| *known == parent);
            is_ours.then_some((own, began))
        })
        .collect()
}

/// A component in text form.
pub fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A plain WASI command made of one core module, whose `run` does this.
pub fn command(body: &str) -> Vec<u8> {
    wat(&command_text("", "", "", "", body))
}

/// The same with imports of the component, functions lowered from them, the module's imports of those, and definitions of its own.
///
/// The core instance `$libc` has the memory and `realloc`; it is there before anything is lowered.
pub fn command_text(imports: &str, lowered: &str, given: &str, module: &str, body: &str) -> String {
    command_with_realloc(
        "(func (export \"realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 4096))",
        imports,
        lowered,
        given,
        module,
        body,
    )
}

pub fn command_with_realloc(
    realloc: &str,
    imports: &str,
    lowered: &str,
    given: &str,
    module: &str,
    body: &str,
) -> String {
    format!(
        r#"(component
  {imports}
  (core module $libc (memory (export "memory") 2) {realloc})
  (core instance $libc (instantiate $libc))
  {lowered}
  (core module $main
    {module}
    (func (export "run") (result i32) {body}))
  (core instance $main (instantiate $main (with "libc" (instance $libc)) {given}))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $api (export "run" (func $run)))
  (export "wasi:cli/run@0.2.6" (instance $api)))"#
    )
}
