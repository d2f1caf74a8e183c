//! What was built of the base comes along: for agents, beneath what they build, and never for gates.

use serde_json::{Value, json};
use support::model::{Answer, Say, script};

use crate::house::{git, told};
use crate::models::{Modelled, mends};

/// Runs the tests, after it said how often it was run in this build directory before.
const CHECK: &str = "import os, subprocess, sys
log = '/build/log'
before = len(open(log).read()) if os.path.exists(log) else 0
with open(log, 'a') as file:
    file.write('x')
print('BUILDS BEFORE:', before, flush=True)
sys.exit(subprocess.call([sys.executable, '-m', 'unittest', 'discover', '-v']))
";

/// Looks at what its command says, mends, and looks again.
fn looks() -> Vec<Answer> {
    let test = || Answer::Says(vec![Say::Tool("run_command", json!({"name": "test"}))]);
    let mut answers = mends();
    let finish = answers.pop().unwrap();
    answers.insert(0, test());
    answers.extend([test(), finish]);
    answers
}

/// A repository whose test command is [`CHECK`].
fn checked(modelled: &Modelled) {
    let file = modelled.repo.join("moat.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let line = (text.lines().find(|line| line.starts_with("test = ["))).unwrap();
    let changed = text.replacen(line, "test = [\"python3\", \"check.py\"]", 1);
    std::fs::write(&file, changed).unwrap();
    std::fs::write(modelled.repo.join("check.py"), CHECK).unwrap();
    git(&modelled.repo, &["add", "-A"]);
    git(
        &modelled.repo,
        &["commit", "-qm", "tests are run by a script"],
    );
}

/// What each gate of the last run found in its build directory.
fn gates(modelled: &Modelled) -> Vec<Option<usize>> {
    let runs: Value =
        serde_json::from_slice(&modelled.house.moat(&["runs", "--json"]).stdout).unwrap();
    let run = runs[0]["run"].as_str().unwrap();
    let shown = modelled.house.moat(&["runs", "show", run, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let events = shown["events"].as_array().unwrap();
    events
        .iter()
        .filter(|one| one["event"]["type"] == "gate-decided")
        .map(|one| one["event"]["verdict"]["evidence"]["text"].as_str())
        .filter_map(|text| text.filter(|text| text.contains("check.py")))
        .map(before)
        .collect()
}

/// The last number that a text tells.
fn before(text: &str) -> Option<usize> {
    let (_, after) = text.rsplit_once("BUILDS BEFORE: ")?;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[test]
fn an_agent_builds_on_what_was_built_of_its_base_and_a_gate_on_nothing() {
    let server = script(looks());
    let modelled = Modelled::new(&server, "anthropic");
    checked(&modelled);
    let output = modelled.run();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let mut told_to_the_model: Vec<usize> = server
        .seen()
        .iter()
        .filter_map(|one| before(&String::from_utf8_lossy(&one.body)))
        .collect();
    // The baseline's, and what the agent built upon it.
    told_to_the_model.dedup();
    assert_eq!(told_to_the_model, [0, 1, 2]);
    let gates = gates(&modelled);
    assert!(gates.len() >= 2, "{gates:?}");
    assert!(gates.iter().all(|one| *one == Some(0)), "{gates:?}");
    // What the agent built is nobody's.
    let builds = modelled.house.home().join("builds");
    let logs: Vec<String> = std::fs::read_dir(builds)
        .unwrap()
        .flatten()
        .filter_map(|one| std::fs::read_to_string(one.path().join("build/log")).ok())
        .collect();
    assert_eq!(logs, ["x"]);
}

#[test]
fn what_fills_the_disk_beyond_its_budget_is_ended() {
    let server = script(mends());
    let modelled = Modelled::new(&server, "anthropic");
    checked(&modelled);
    let grows = CHECK.replace(
        "print(",
        "import time\nwith open('/build/large', 'wb') as file:\n    for _ in range(64):\n        file.write(os.urandom(1 << 20))\n        file.flush()\n        os.fsync(file.fileno())\n        time.sleep(0.05)\nprint(",
    );
    std::fs::write(modelled.repo.join("check.py"), grows).unwrap();
    let file = modelled.repo.join("moat.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let limited = text.replacen("[budget]\n", "[budget]\ndisk = \"16MiB\"\n", 1);
    std::fs::write(&file, limited).unwrap();
    git(&modelled.repo, &["commit", "-qam", "and little room"]);
    let output = modelled.run();
    assert_ne!(output.status.code(), Some(0), "{}", told(&output));
    let text = told(&output);
    assert!(text.contains("a budget ran out: commands"), "{text}");
}
