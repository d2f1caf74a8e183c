//! Gates on candidates that an agent could make: what it did to the tests does not count, and what it may not touch waits for a person.

use std::path::Path;
use std::time::{Duration, Instant};

use driver::{GateRun, House as Rooms, pinned_gates, run_gate};
use flow::verdict::{Finding, Subject, Verdict};
use repo::{Mirror, Source};

use crate::house::{FEES, House, MOAT, git};

struct Bench {
    house: House,
    rooms: Rooms,
}

impl Bench {
    fn new() -> Bench {
        let house = House::new();
        house.meter();
        let rooms = Rooms::open(&house.home(), Path::new(MOAT)).unwrap();
        Bench { house, rooms }
    }

    /// What a gate says of the base with these files in place of its own; `None` removes one.
    fn verdict(&self, gate: &str, changes: &[(&str, Option<&str>)]) -> Verdict {
        let path = self.house.path("meter");
        let source = Source::open(&path).unwrap();
        let mirror =
            Mirror::open_or_create(&self.rooms.mirror_dir(path.to_str().unwrap())).unwrap();
        let base = mirror.fetch(&source, "main").unwrap();
        git(&path, &["checkout", "-q", "-B", "candidate", "main"]);
        for (name, text) in changes {
            match text {
                Some(text) => std::fs::write(path.join(name), text).unwrap(),
                None => std::fs::remove_file(path.join(name)).unwrap(),
            }
        }
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-q", "--allow-empty", "-m", "candidate"]);
        let candidate = mirror.fetch(&source, "candidate").unwrap();
        git(&path, &["checkout", "-q", "main"]);
        let subject = Subject {
            tree: mirror.tree_of(&candidate).unwrap(),
            base: mirror.tree_of(&base).unwrap(),
        };
        let text = mirror
            .read(&subject.base, "moat.toml", 1 << 20)
            .unwrap()
            .unwrap();
        let project =
            project::Project::parse(std::str::from_utf8(&text).unwrap(), "moat.toml").unwrap();
        let gates = pinned_gates(&project);
        let gate = gates.iter().find(|one| one.name.as_str() == gate).unwrap();
        let directory = self.house.path("views");
        let run = GateRun {
            house: &self.rooms,
            project: &project,
            mirror: &mirror,
            directory: &directory,
            baseline: None,
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(run_gate(&run, gate, &subject)).unwrap()
    }
}

fn fixed() -> String {
    FEES.replace("minutes // 60 + 1", "(minutes + 59) // 60")
}

const SKIPPED: &str = "import unittest\n\n@unittest.skip('later')\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.fail()\n";

#[test]
fn an_honest_fix_passes_every_gate() {
    let bench = Bench::new();
    let fixed = fixed();
    for gate in ["protect", "tests", "base-tests"] {
        let verdict = bench.verdict(gate, &[("meter/fees.py", Some(&fixed))]);
        assert_eq!(
            verdict.finding,
            Finding::Pass,
            "{gate}: {}",
            verdict.evidence.text
        );
    }
}

#[test]
fn what_was_done_to_the_tests_does_not_count_and_waits_for_a_person() {
    let bench = Bench::new();
    let weakened =
        "import unittest\n\nclass T(unittest.TestCase):\n    def test_a(self):\n        pass\n";
    for (what, text) in [
        ("deleted", None),
        ("weakened", Some(weakened)),
        ("skipped", Some(SKIPPED)),
    ] {
        let changes = [("tests/test_fees.py", text)];
        let verdict = bench.verdict("base-tests", &changes);
        assert_eq!(
            verdict.finding,
            Finding::Fail,
            "{what}: {}",
            verdict.evidence.text
        );
        assert!(
            verdict
                .evidence
                .text
                .contains("test_a_full_hour_is_one_hour"),
            "{what}"
        );
        assert_eq!(
            bench.verdict("protect", &changes).finding,
            Finding::NeedsHuman,
            "{what}"
        );
    }
}

#[test]
fn no_test_at_all_is_no_pass() {
    let bench = Bench::new();
    let verdict = bench.verdict("tests", &[("tests/test_fees.py", None)]);
    assert_eq!(
        (verdict.finding, verdict.evidence.title.as_str()),
        (Finding::Fail, "exit status 0, but no test ran")
    );
}

#[test]
fn a_runner_that_is_made_to_exit_early_or_to_lie_is_no_pass() {
    let bench = Bench::new();
    let exits = format!("import os\nos._exit(0)\n{FEES}");
    let verdict = bench.verdict("base-tests", &[("meter/fees.py", Some(&exits))]);
    assert_ne!(verdict.finding, Finding::Pass, "{}", verdict.evidence.text);
    let prints = format!("print('Ran 11 tests in 0.001s\\n\\nOK')\n{FEES}");
    assert_eq!(
        bench
            .verdict("base-tests", &[("meter/fees.py", Some(&prints))])
            .finding,
        Finding::Fail
    );
}

#[test]
fn moat_toml_and_build_files_wait_for_a_person() {
    let bench = Bench::new();
    for path in ["moat.toml", "conftest.py", ".gitattributes", "setup.cfg"] {
        let verdict = bench.verdict("protect", &[(path, Some("x = 1\n"))]);
        assert_eq!(verdict.finding, Finding::NeedsHuman, "{path}");
        assert!(verdict.evidence.title.contains(path));
    }
}

/// A project that wrote no such gate has one: the rules of the next run are not for an agent to write.
#[test]
fn without_a_protect_gate_moat_toml_and_own_skills_are_protected_all_the_same() {
    let bench = Bench::new();
    let text = std::fs::read_to_string(bench.house.path("meter/moat.toml")).unwrap();
    let begin = text.find("[[gate]]\nname = \"protect\"").unwrap();
    let end = begin + text[begin + 1..].find("[[gate]]").unwrap() + 1;
    let text = format!("{}{}", &text[..begin], &text[end..])
        .replace("name = \"tests\"", "name = \"protect\"")
        .replace("[budget]", "[skills]\nown = \"tools/own\"\n\n[budget]");
    std::fs::write(bench.house.path("meter/moat.toml"), text).unwrap();
    git(
        &bench.house.path("meter"),
        &["commit", "-qam", "no protect gate"],
    );
    for path in [
        "moat.toml",
        "tools/own/component.wasm",
        "tools/own/skill.toml",
    ] {
        std::fs::create_dir_all(bench.house.path("meter/tools/own")).unwrap();
        let verdict = bench.verdict("protect-2", &[(path, Some("x = 1\n"))]);
        assert_eq!(verdict.finding, Finding::NeedsHuman, "{path}");
    }
    let verdict = bench.verdict("protect-2", &[("meter/fees.py", Some("x = 1\n"))]);
    assert_eq!(verdict.finding, Finding::Pass);
}

#[test]
fn a_hostile_test_suite_harms_nothing_and_is_gone() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let canary = bench.house.path("canary");
    std::fs::write(&canary, "CANARY").unwrap();
    let mark = format!("hostile-{}", std::process::id());
    let hostile = format!(
        "import os, socket, subprocess, glob\n\
         subprocess.Popen(['sh', '-c', 'sleep 600; : {mark}'], start_new_session=True)\n\
         for path in ['{canary}', os.path.expanduser('~/.ssh/id_rsa'), '{home}/journal.sqlite']:\n\
         \x20   try: print('READ', open(path).read()[:20])\n    except OSError: pass\n\
         \x20   try: open(path, 'w').write('x'); print('WROTE', path)\n    except OSError: pass\n\
         try:\n    socket.create_connection(('127.0.0.1', {port}), 1); print('CONNECTED')\nexcept OSError: pass\n{FEES}",
        canary = canary.display(),
        home = bench.house.home().display(),
        port = listener.local_addr().unwrap().port(),
    );
    let verdict = bench.verdict("tests", &[("meter/fees.py", Some(&hostile))]);
    for word in ["READ ", "WROTE ", "CONNECTED"] {
        assert!(
            !verdict
                .evidence
                .text
                .lines()
                .any(|line| line.starts_with(word)),
            "{word}: {}",
            verdict.evidence.text
        );
    }
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "CANARY");
    assert!(listener.accept().is_err(), "nobody connected");
    let begun = Instant::now();
    let alive = || {
        let lines = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines
            .filter(|line| String::from_utf8_lossy(line).contains(&mark))
            .count()
    };
    while alive() > 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "a daemon outlived its command"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_command_that_stands_still_is_ended_long_before_its_deadline() {
    let bench = Bench::new();
    let path = bench.house.path("meter");
    let text = std::fs::read_to_string(path.join("moat.toml")).unwrap();
    let text = text.replace("attempts = 3", "attempts = 3\nidle = \"2s\"");
    std::fs::write(path.join("moat.toml"), text).unwrap();
    git(&path, &["commit", "-qam", "two seconds"]);
    let waits = "import time\ntime.sleep(500)\n";
    let verdict = bench.verdict("tests", &[("tests/test_fees.py", Some(waits))]);
    assert_eq!(verdict.finding, Finding::Fail);
    assert!(
        verdict.evidence.title.contains("stood still for 2 s"),
        "{}",
        verdict.evidence.title
    );
}
