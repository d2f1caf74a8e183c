//! What was built of the base comes along: for agents, beneath what they build, and never for gates.

use serde_json::{Value, json};
use support::model::{Answer, Say, provider, script, text};

use crate::house::{git, guest, told};
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

/// Installs what the tests need where that is not there, says where it was, and spoils it for whoever finds it next. Ends well, whatever the
/// tests say, the first time that all of it is made.
const INSTALLS: &str = "import os, subprocess, sys
found = []
for place in ['.venv', 'web/node_modules', 'own/node_modules', 'other']:
    mark = os.path.join(place, 'mark')
    if os.path.exists(mark):
        found.append(place + ' ' + open(mark).read())
        os.remove(mark)
    elif os.path.exists(os.path.dirname(place) or '.'):
        os.makedirs(os.path.join(place, 'some'), exist_ok=True)
        with open(mark, 'w') as file:
            file.write('whole')
print('INSTALLED BEFORE:', ', '.join(found) + '.', flush=True)
tests = subprocess.call([sys.executable, '-m', 'unittest', 'discover', '-v'])
sys.exit(0 if os.path.exists('ends-well') else tests)
";

/// A repository whose test command is [`CHECK`].
fn checked(modelled: &Modelled) {
    checked_by(modelled, CHECK);
}

fn checked_by(modelled: &Modelled, check: &str) {
    let file = modelled.repo.join("moat.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let line = (text.lines().find(|line| line.starts_with("test = ["))).unwrap();
    let changed = text.replacen(line, "test = [\"python3\", \"check.py\"]", 1);
    std::fs::write(&file, changed).unwrap();
    std::fs::write(modelled.repo.join("check.py"), check).unwrap();
    git(&modelled.repo, &["add", "-A"]);
    git(
        &modelled.repo,
        &["commit", "-qm", "tests are run by a script"],
    );
}

/// What each gate of the last run found in its build directory.
fn gates(modelled: &Modelled) -> Vec<Option<usize>> {
    gates_say(modelled, before)
}

fn gates_say<T>(modelled: &Modelled, what: impl Fn(&str) -> Option<T>) -> Vec<Option<T>> {
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
        .map(what)
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

/// What a text tells last.
fn installed(text: &str) -> Option<String> {
    let (_, after) = text.rsplit_once("INSTALLED BEFORE: ")?;
    let end = after.find(".\\n").or_else(|| after.find(".\n"));
    Some(after[..end.unwrap_or(after.len())].to_owned())
}

/// A repository in which [`INSTALLS`] is the test command, and what the model and the gates were told of it.
fn with_installed(ends_well: bool, means: &str) -> (Modelled, Vec<String>, Vec<Option<String>>) {
    let mut answers = looks();
    let own = json!({"path": "own/node_modules/a", "content": "of the agent"});
    answers.insert(1, Answer::Says(vec![Say::Tool("write_file", own)]));
    let server = script(answers);
    let modelled = Modelled::new(&server, "anthropic");
    std::fs::write(modelled.repo.join(".gitignore"), "__pycache__/\n").unwrap();
    for directory in ["web", "own"] {
        std::fs::create_dir(modelled.repo.join(directory)).unwrap();
        std::fs::write(modelled.repo.join(directory).join("package.json"), "{}").unwrap();
    }
    if ends_well {
        std::fs::write(modelled.repo.join("ends-well"), "").unwrap();
    }
    let file = modelled.repo.join("moat.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let named = "branch = \"main\"\ninstalled = [\".venv\", \"web/node_modules\", \"own/node_modules\", \"absent\"]";
    std::fs::write(&file, text.replacen("branch = \"main\"", named, 1)).unwrap();
    checked_by(&modelled, INSTALLS);
    let mut command = modelled.command();
    let output = command.env("MOAT_WORKTREES", means).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let seen = server.seen();
    let said = seen
        .iter()
        .filter_map(|one| installed(&String::from_utf8_lossy(&one.body)));
    let mut said: Vec<String> = said.collect();
    said.dedup();
    let gates = gates_say(&modelled, installed);
    (modelled, said, gates)
}

#[test]
fn what_was_installed_in_the_base_is_there_for_an_agents_commands_and_not_for_gates() {
    for means in ["cheapest", "copies"] {
        let (modelled, said, gates) = with_installed(true, means);
        let all = ".venv whole, web/node_modules whole, own/node_modules whole";
        let rest = ".venv whole, web/node_modules whole";
        assert_eq!(said, ["", all, rest], "{means}: the baseline has none");
        assert!(gates.len() >= 2, "{gates:?}");
        let none = gates.iter().all(|one| one.as_deref() == Some(""));
        assert!(none, "{gates:?}");
        // It is no part of the change, and nobody spoiled it.
        let files = git(&modelled.repo, &["ls-tree", "-r", "--name-only", "main"]);
        assert!(!files.contains("mark"), "{files}");
        let builds = modelled.house.home().join("builds");
        let kept: Vec<_> = std::fs::read_dir(builds).unwrap().flatten().collect();
        let kept: Vec<_> = kept.iter().filter(|one| one.path().is_dir()).collect();
        assert_eq!(kept.len(), 1);
        let mark = kept[0].path().join("installed/0/.venv/mark");
        assert_eq!(std::fs::read_to_string(mark).unwrap(), "whole");
    }
}

/// A run that failed may have been in the middle of it.
#[test]
fn what_a_failed_run_installed_is_not_kept() {
    let (_, said, _) = with_installed(false, "cheapest");
    assert_eq!(said, [""]);
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

/// How many builds are kept when the test skill, which does as it is told, is told this, and may do that.
fn kept_when(orders: &'static str, access: &str, processes: &str, grant: &str) -> usize {
    let server = provider(move |_| Answer::Says(vec![text(orders)]));
    let modelled = Modelled::new(&server, "anthropic");
    let policy = "hidden = []\n[[ceiling]]\nrole = \"test\"\nread = [\".\"]\nwrite = [\".\"]\ncommands = [\"*\"]\nprograms = [\"*\"]\nmodels = [\"*\"]\nmax-tokens = 32000\nmemory = \"1GiB\"\ntime = \"10m\"\n\
         [[ceiling]]\nrole = \"implement\"\nread = [\".\"]\nwrite = [\".\"]\ncommands = [\"*\"]\nmodels = [\"*\"]\nmax-tokens = 320000\nmemory = \"1GiB\"\ntime = \"30m\"\n";
    std::fs::write(modelled.house.home().join("policy.toml"), policy).unwrap();
    let folder = modelled.repo.join("tools/obedient");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("component.wasm"),
        guest("obedient", "obedient.wasm"),
    )
    .unwrap();
    let manifest = format!(
        "[skill]\nname = \"obedient\"\nversion = \"0.1.0\"\nrole = \"test\"\ndescription = \"obeys\"\n\n\
         [[files]]\npath = \".\"\naccess = \"{access}\"\nreason = \"r\"\n\n{processes}\n\
         [model]\naliases = [\"coder\"]\nmax-tokens = 4000\nreason = \"r\"\n\n\
         [limits]\nmemory = \"256MiB\"\ntime = \"5m\"\n"
    );
    std::fs::write(folder.join("skill.toml"), manifest).unwrap();
    let file = modelled.repo.join("moat.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (pipeline, skills) = (
        "test = \"test\"\n",
        "[skills]\nobedient = \"tools/obedient\"\n\n[models]",
    );
    assert!(text.contains(pipeline), "{text}");
    let swapped = text
        .replacen(pipeline, "test = \"obedient\"\n", 1)
        .replacen("[models]", skills, 1);
    let swapped =
        format!("{swapped}\n[[grant]]\nskill = \"obedient\"\n{grant}models = [\"coder\"]\n");
    std::fs::write(&file, swapped).unwrap();
    checked(&modelled);
    let output = modelled.run();
    let seen = server.seen();
    let obeyed = seen
        .iter()
        .any(|one| String::from_utf8_lossy(&one.body).contains("BUILDS BEFORE"));
    assert!(obeyed, "{orders}: {}", told(&output));
    let builds = std::fs::read_dir(modelled.house.home().join("builds"));
    let builds = builds.into_iter().flatten().flatten();
    builds.filter(|one| one.path().is_dir()).count()
}

/// What agents are to build on is the branch's own code alone, and no choice of a skill's.
#[test]
fn what_a_skill_had_a_hand_in_is_kept_for_nobody() {
    const TEST: &str = "[[processes]]\nproject = \"test\"\nreason = \"r\"\n";
    const ARGS: &str = "[[processes]]\nproject = \"test\"\nextra-args = true\nreason = \"r\"\n";
    const PROGRAM: &str = "[[processes]]\nproject = \"test\"\nreason = \"r\"\n\n[[processes]]\nprogram = \"python3\"\nargs = [[\"-c\", \"open('/build/log','w')\"]]\nreason = \"r\"\n";
    const READS: &str = "read = [\".\"]\ncommands = [\"test\"]\n";
    const WRITES: &str = "write = [\".\"]\ncommands = [\"test\"]\n";
    const RUNS: &str = "read = [\".\"]\ncommands = [\"test\"]\nprograms = [\"python3\"]\n";
    assert_eq!(kept_when("RUN test", "read", TEST, READS), 1);
    for (orders, access, processes, grant) in [
        ("RUN test\nRUN test -x", "read", ARGS, READS),
        (
            "EXEC python3 -c open('/build/log','w')\nRUN test",
            "read",
            PROGRAM,
            RUNS,
        ),
        (
            "RUN test\nEXEC python3 -c open('/build/log','w')",
            "read",
            PROGRAM,
            RUNS,
        ),
        ("WRITE meter/x.py x\nRUN test", "write", TEST, WRITES),
    ] {
        assert_eq!(kept_when(orders, access, processes, grant), 0, "{orders}");
    }
}
