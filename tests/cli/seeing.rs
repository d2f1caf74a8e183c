//! What people see of many runs: thirty of them, made directly in a journal, in every state.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flow::id::Digest;
use insta::assert_snapshot;
use journal::{Journal, Lease, Owner, Standing, monotonic_ms};
use serde_json::{Value, json};

use crate::house::{House, git, told};

const HOSTILE: &str = "a title \u{1b}]52;c;aGk=\u{7}\u{202e} that would act, 日本語";

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as u64
}

fn id(n: u8) -> String {
    format!("{n:02x}").repeat(20)
}

fn base() -> Value {
    json!({"commit": id(1), "tree": id(1)})
}

fn skill(name: &str) -> Value {
    let digest = Digest::of(name.as_bytes());
    json!({"name": name, "digest": digest, "grant": digest})
}

fn opened(run: &str, text: &str) -> Value {
    json!({"type": "opened", "run": run, "repository": "/nowhere", "base": base(),
        "report": {"origin": "text", "text": text}, "project": Digest::of(b""),
        "pipeline": {"branch": "main", "triage": skill("triage"), "test": skill("test"), "implement": skill("implement"), "deploy": null,
            "gates": [{"name": "protect", "check": {"kind": "protect", "paths": []}, "digest": Digest::of(b"protect"), "assumes": null}],
            "budget": {"attempts": 3, "tokens": 1000, "money": 2_000_000, "active_ms": 3_600_000}}})
}

fn started(step: Value) -> Value {
    json!({"type": "step-started", "step": step})
}

fn evidence(title: &str) -> Value {
    json!({"source": "host", "title": title, "text": title})
}

/// Up to a verdict on the first attempt.
fn gated(finding: &str) -> Vec<Value> {
    let subject = json!({"tree": id(2), "base": id(1)});
    vec![
        started(json!({"name": "intake"})),
        json!({"type": "triaged", "decision": {"accepted": {"title": "charge once", "body": "", "kind": "bug", "suspects": [], "acceptance": []}}}),
        started(json!({"name": "baseline"})),
        json!({"type": "baseline-taken", "report": {"outcome": "failed", "command": "t", "exit": 1, "tests": [], "tail": "", "duration-ms": 1}}),
        started(json!({"name": "implement", "attempt": 1})),
        json!({"type": "reserved", "call": 1, "alias": "coder", "model": "p/m", "reservation": {"money": 500_000, "tokens": 100}}),
        json!({"type": "settled", "call": 1, "spend": {"money": 120_000, "tokens": 40, "calls": 1}}),
        json!({"type": "attempted", "attempt": 1, "outcome": {"changed": "rounds up"},
            "candidate": {"tree": id(2), "base": base(), "changed": ["fees.py"], "refused": []}}),
        started(json!({"name": "gate", "gate": "protect", "subject": subject})),
        json!({"type": "gate-decided", "verdict": {"gate": "protect", "gate_digest": Digest::of(b"protect"), "subject": subject,
            "finding": finding, "evidence": evidence("1 protected file changed"), "signature": Digest::of(b"x")}}),
    ]
}

fn merged() -> Vec<Value> {
    let mut events = gated("pass");
    events.extend([
        started(json!({"name": "prepare-merge"})),
        json!({"type": "merge-prepared", "onto": base(), "commit": id(3), "tree": id(2)}),
        started(json!({"name": "move-branch", "from": id(1), "to": id(3)})),
        json!({"type": "merge-intended", "from": id(1), "to": id(3), "tree": id(2)}),
        json!({"type": "merged", "commit": id(3)}),
    ]);
    events
}

/// A journal written by hand, and the leases that this process keeps.
struct Written {
    house: House,
    journal: Journal,
    kept: Vec<Lease>,
    at_ms: u64,
}

impl Written {
    fn new() -> Written {
        let house = House::new();
        let journal = Journal::open(&house.home()).unwrap();
        // An hour and a half: the ages stay the same for as long as a test takes.
        let at_ms = now_ms() - 90 * 60_000;
        Written {
            house,
            journal,
            kept: Vec::new(),
            at_ms,
        }
    }

    fn lease(&self, run: &str, length_ms: u64) -> Lease {
        let owner = Owner::this(self.at_ms);
        let run = run.parse().unwrap();
        self.journal
            .lease(&run, &owner, monotonic_ms(), length_ms)
            .unwrap()
    }

    fn append(&self, lease: &Lease, events: &[Value]) {
        let bodies: Vec<Vec<u8>> = events.iter().map(|one| one.to_string().into()).collect();
        let at = self.journal.read(lease.run(), 0).unwrap().len() as u64;
        self.journal
            .append(lease, at, self.at_ms, Standing::Due, &bodies)
            .unwrap();
    }

    /// A run; `keep` says for how long its lease is held from now on.
    fn run(&mut self, name: &str, text: &str, events: Vec<Value>, keep: Option<u64>) {
        let lease = self.lease(name, keep.unwrap_or(60_000));
        let mut all = vec![opened(name, text)];
        all.extend(events);
        self.append(&lease, &all);
        self.kept.extend(keep.map(|_| lease));
    }

    /// One in each state, and more of those that there are many of.
    fn thirty() -> Written {
        let mut w = Written::new();
        let intake = || started(json!({"name": "intake"}));
        let ended = |event: Value| vec![intake(), event];
        w.run("r01-waits", "", gated("needs-human"), None);
        let need = json!({"what": "network: GET https://a.example", "line": "moat.toml: [[grant.network]]", "declared": true});
        let blocked = json!({"skill": "triage", "by": "refused", "why": "it was refused", "needs": [need], "left": null});
        let blocked = json!({"type": "blocked", "step": {"name": "intake"}, "blocked": blocked});
        w.run("r02-blocked", "lacks a grant", ended(blocked), None);
        let failure = json!({"cause": "setup", "evidence": evidence("no space is left"), "signature": Digest::of(b"y")});
        let failed = json!({"type": "step-failed", "step": {"name": "intake"}, "failure": failure});
        w.run("r03-failed", "fails", ended(failed), None);
        let unclear = json!({"type": "triaged", "decision": {"unclear": [HOSTILE]}});
        w.run("r04-unclear", HOSTILE, ended(unclear), None);
        let newer = json!({"type": "thought", "of": "something new"});
        w.run("r05-newer", "of a newer moat", vec![newer], None);
        w.run("r06-frozen", "stands still", vec![intake()], Some(1));
        w.run("r07-interrupted", "was killed", vec![intake()], None);
        w.run("r08-pending", "not begun", vec![], None);
        for n in 9..23 {
            let events = gated("pass")[..5].to_vec();
            w.run(&format!("r{n:02}-runs"), "goes", events, Some(3_600_000));
        }
        for n in 23..28 {
            w.run(&format!("r{n}-merged"), "done", merged(), None);
        }
        let declined = json!({"type": "triaged", "decision": {"declined": "no fault"}});
        w.run("r28-declined", "thanks", ended(declined), None);
        for n in 29..31 {
            let cancelled = json!({"type": "cancelled", "by": "someone"});
            w.run(
                &format!("r{n}-cancelled"),
                "not wanted",
                vec![cancelled],
                None,
            );
        }
        w
    }

    fn told(&self, args: &[&str]) -> String {
        self.plain(&told(
            &self
                .house
                .command(args)
                .env("COLUMNS", "80")
                .output()
                .unwrap(),
        ))
    }

    fn plain(&self, text: &str) -> String {
        let owner = Owner::this(self.at_ms).to_string();
        let home = self.house.home().canonicalize().unwrap();
        let text = text.replace(&owner, "process [PID], since [TIME]");
        let pid = format!("kill -CONT {}", std::process::id());
        let text = text.replace(&pid, "kill -CONT [PID]");
        // Which events there are is another test's.
        let text = match text.split_once("(unknown variant") {
            Some((before, _)) => format!("{before}(…)\n"),
            None => text,
        };
        let text = text.replace(&home.display().to_string(), "[HOME]");
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text:?}");
        text
    }
}

#[test]
fn every_state_has_its_own_word_and_none_hides_another() {
    let written = Written::thirty();
    assert_snapshot!("runs", written.told(&["runs"]));
    let listed = written.house.moat(&["runs", "--json"]);
    let values: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(values.len(), 30);
    assert_eq!(values[8]["driver"]["pid"], std::process::id());
    let absent = written.house.moat(&["runs", "show", "nobody", "--json"]);
    assert_eq!(absent.status.code(), Some(2));
    let absent: Value = serde_json::from_slice(&absent.stdout).unwrap();
    assert_eq!(absent["summary"]["state"], "absent");
    let newer = written.house.moat(&["runs", "show", "r05-newer", "--json"]);
    assert_eq!(newer.status.code(), Some(1));
    let newer: Value = serde_json::from_slice(&newer.stdout).unwrap();
    assert_eq!(newer["summary"]["state"], "error");
    for run in [
        "r01-waits",
        "r05-newer",
        "r06-frozen",
        "r07-interrupted",
        "r23-merged",
    ] {
        assert_snapshot!(format!("show-{run}"), written.told(&["runs", "show", run]));
    }
}

/// What a terminal of that size shows after these bytes: as much of one as `watch` makes use of.
fn shown(bytes: &str, lines: usize) -> Vec<String> {
    let mut screen = vec![String::new(); lines];
    let mut at = 0;
    for part in bytes.split('\u{1b}').skip(1) {
        let Some(rest) = part.strip_prefix('[') else {
            continue;
        };
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        let (code, text) = (&rest[..=end], &rest[end + 1..]);
        match code {
            "2J" => screen.iter_mut().for_each(String::clear),
            "2K" => screen[at].clear(),
            // Left: what comes is the person's own screen.
            "?1049l" => return screen,
            _ => {
                if let Some(place) = code.strip_suffix(";1H") {
                    at = place.parse::<usize>().unwrap() - 1;
                }
            }
        }
        screen[at].push_str(text.trim_end_matches(['\r', '\n']));
    }
    panic!("the screen was not given back: {bytes:?}")
}

/// Has `moat runs watch` on a terminal of that size for a while, and gives what it showed last.
fn watched(written: &Written, columns: usize, lines: usize) -> String {
    let moat = std::env::var("MOAT_TEST_PROGRAM").unwrap_or(crate::house::MOAT.into());
    let shell = format!("stty rows {lines} cols {columns}; {moat} runs watch; stty -a");
    let mut child = Command::new("script")
        .args(["-qec", &shell, "/dev/null"])
        .env("MOAT_HOME", written.house.home())
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    child.stdin.as_mut().unwrap().write_all(b"q").unwrap();
    let output = child.wait_with_output().unwrap();
    let bytes = String::from_utf8(output.stdout).unwrap();
    let screen = shown(&bytes, lines);
    for part in [" echo ", " icanon "] {
        assert!(bytes.contains(part), "the keyboard is as it was: {bytes:?}");
    }
    assert!(screen.iter().all(|line| line.chars().count() <= columns));
    let head = screen[0].split_at(columns - 12);
    assert!(head.1.ends_with("UTC"), "{head:?}");
    let rest = screen[1..].join("\n");
    written.plain(&format!("{}[TIME]\n{rest}", head.0))
}

#[test]
fn thirty_runs_are_readable_on_a_screen() {
    let written = Written::thirty();
    assert_snapshot!("watch-80x24", watched(&written, 80, 24));
    assert_snapshot!("watch-120x40", watched(&written, 120, 40));
}

/// It ends with the test, however that ends.
struct Watching(std::process::Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_pipe_gets_one_line_a_change() {
    let mut written = Written::new();
    written.run("r1", "goes", gated("pass")[..1].to_vec(), Some(3_600_000));
    let lease = written.kept.pop().unwrap();
    let watch = |args: &[&str]| {
        let mut command = written.house.command(args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (Watching(child), lines.map(Result::unwrap))
    };
    let (_plain, mut lines) = watch(&["runs", "watch"]);
    let (_json, mut values) = watch(&["runs", "watch", "--json"]);
    let mut value = || {
        let value: Value = serde_json::from_str(&values.next().unwrap()).unwrap();
        (value["event"].clone(), value["run"]["state"].clone())
    };
    let mut line = || lines.next().unwrap()[10..].to_owned();
    assert_eq!(line(), "r1  running: goes");
    assert_eq!(value(), (Value::Null, json!("running")));
    written.append(&lease, &gated("pass")[1..2]);
    assert_eq!(line(), "r1  triage: accepted as “charge once”");
    assert_eq!(value(), (json!("triaged"), json!("running")));
    // No event says that whoever drove it is gone.
    drop(lease);
    assert_eq!(
        line(),
        "r1  pending: next is baseline tests, and nobody drives the run"
    );
    assert_eq!(value(), (Value::Null, json!("pending")));
    let lease = written.lease("r1", 60_000);
    written.append(&lease, &[json!({"type": "cancelled", "by": HOSTILE})]);
    let ended = loop {
        let line = line();
        if !line.starts_with("r1  running") {
            break line;
        }
    };
    assert!(ended.starts_with("r1  cancelled by a title"), "{ended}");
    assert!(!ended.contains(['\u{1b}', '\u{202e}']), "{ended:?}");
}

#[test]
fn an_export_is_the_same_bytes_and_is_read_without_a_house() {
    let house = House::new();
    let repo = house.meter();
    std::fs::write(
        house.home().join("secrets.toml"),
        "[secrets.api]\nhosts = [\"https://a.example\"]\nenv = \"CANARY\"\n",
    )
    .unwrap();
    let mut private = Command::new("chmod");
    private
        .arg("600")
        .arg(house.home().join("secrets.toml"))
        .status()
        .unwrap();
    const CANARY: &str = "canary-of-the-export-5d1f";
    let moat = |args: &[&str]| house.command(args).env("CANARY", CANARY).output().unwrap();
    let output = moat(&[
        "run",
        "--json",
        "--repo",
        "meter",
        "one full hour is charged as two",
    ]);
    assert!(output.status.success(), "{}", told(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = summary["run"].as_str().unwrap();
    let export = |name: &str| {
        let output = moat(&["runs", "export", run, "--with-components", "--output", name]);
        assert!(output.status.success(), "{}", told(&output));
        std::fs::read(house.path(name)).unwrap()
    };
    let bytes = export("a.tar");
    assert!(bytes == export("b.tar"), "two exports differ");
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains(CANARY));
    let list = Command::new("tar")
        .arg("-tf")
        .arg(house.path("a.tar"))
        .output()
        .unwrap();
    let names = String::from_utf8(list.stdout).unwrap();
    for name in [
        "README.md",
        "events.jsonl",
        "attempts/1.diff",
        "merge.diff",
        "moat.toml",
        "policy.toml",
        "audit.jsonl",
        "components/test-",
    ] {
        assert!(names.contains(name), "{name} is not in {names}");
    }
    assert!(
        text.contains("-    return minutes // 60 + 1"),
        "the diff is in it"
    );
    let here = told(&moat(&["runs", "show", run]));
    // The command that it names shows the work.
    let command = here
        .lines()
        .find(|line| line.starts_with("git --git-dir") && line.contains("attempt-1"))
        .unwrap();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    assert!(git(&repo, &words).contains("-    return minutes // 60 + 1"));
    // Elsewhere: no state directory is there, and none is made.
    std::fs::remove_dir_all(&repo).unwrap();
    std::fs::remove_dir_all(house.home()).unwrap();
    let there = moat(&["runs", "show", "--from", "a.tar"]);
    assert!(
        there.status.success() && !house.home().exists(),
        "{}",
        told(&there)
    );
    let (there, timeline) = (told(&there), here.split_once("## Timeline").unwrap().1);
    assert!(there.contains(timeline.trim()), "{there}");
    // A file that is cut or is another one is refused in words.
    for (name, bytes) in [
        ("cut", &bytes[..bytes.len() / 3]),
        ("none", &b"hello"[..]),
        ("empty", &[][..]),
    ] {
        std::fs::write(house.path(name), bytes).unwrap();
        let output = moat(&["runs", "show", "--from", name]);
        assert_eq!(output.status.code(), Some(2), "{name}: {}", told(&output));
        assert!(
            told(&output).contains("is no exported run"),
            "{}",
            told(&output)
        );
    }
}

#[test]
fn a_run_that_another_process_drives_is_cancelled() {
    let house = House::new();
    let repo = house.meter();
    let base = git(&repo, &["rev-parse", "main"]);
    let slow = repo.join("tests/test_slow.py");
    std::fs::write(&slow, "import time, unittest\nclass T(unittest.TestCase):\n    def test(self):\n        time.sleep(300)\n").unwrap();
    git(&repo, &["add", "-A"]);
    git(&repo, &["commit", "-qm", "a slow test"]);
    let before = git(&repo, &["rev-parse", "main"]);
    assert_ne!(base, before);
    let child = house
        .command(&["run", "--repo", "meter", "one full hour is charged as two"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let run = loop {
        let listed = house.moat(&["runs", "--json"]);
        let runs: Value = serde_json::from_slice(&listed.stdout).unwrap();
        if runs[0]["step"] == "baseline tests" {
            break runs[0]["run"].as_str().unwrap().to_owned();
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let cancelled = house.moat(&["runs", "cancel", &run]);
    assert!(cancelled.status.success(), "{}", told(&cancelled));
    // It ends by itself, long before its test would.
    let output = child.wait_with_output().unwrap();
    let text = told(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("run {run}: cancelled")), "{text}");
    let shown = house.moat(&["runs", "show", &run, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["summary"]["state"], "cancelled");
    assert_eq!(
        shown["events"].as_array().unwrap().last().unwrap()["event"]["by"],
        "tester"
    );
    assert_eq!(git(&repo, &["rev-parse", "main"]), before);
    let again = house.moat(&["runs", "cancel", &run]);
    assert_eq!(again.status.code(), Some(2), "{}", told(&again));
}
