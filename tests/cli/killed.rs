//! A command is killed from outside, with its launcher, and moat lives: nobody is blamed for it.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::model::script;

use crate::house::{git, told};
use crate::models::{Modelled, mends};
use crate::worker::line_of;

const SLOW: &str = "import time\ntime.sleep(3)\n";

/// A repository with one gate more, whose command takes its time.
fn slow(modelled: &Modelled) {
    let file = modelled.repo.join("moat.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replacen(
        "[commands]\n",
        "[commands]\nslow = [\"python3\", \"slow.py\"]\n",
        1,
    );
    let gate = "\n[[gate]]\nname = \"slow\"\nkind = \"command\"\ncommand = \"slow\"\n";
    std::fs::write(&file, text + gate).unwrap();
    std::fs::write(modelled.repo.join("slow.py"), SLOW).unwrap();
    git(&modelled.repo, &["add", "-A"]);
    git(
        &modelled.repo,
        &["commit", "-qm", "a gate that takes its time"],
    );
}

/// Those that run the slow command: it, and what holds it.
fn holders(moat: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|one| one.file_name().to_str()?.parse::<u32>().ok());
    let slow = pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with(b"slow.py\0")
    });
    slow.map(|pid| line_of(pid).collect::<Vec<u32>>())
        .find(|line| line.contains(&moat))
        .map(|line| line.into_iter().take_while(|pid| *pid != moat).collect())
        .unwrap_or_default()
}

/// Runs with the slow command killed once, with all that holds it.
fn run(modelled: &Modelled) -> Output {
    let child = modelled
        .house
        .command(&["run", "--repo", "meter", "one full hour is charged as two"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let found = loop {
        let found = holders(child.id());
        if !found.is_empty() {
            break found;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "no command");
        std::thread::sleep(Duration::from_millis(20));
    };
    // The outermost first: it would tell how the others ended.
    for pid in found.iter().rev() {
        let _ = kill_process(Pid::from_raw(*pid as i32).unwrap(), Signal::KILL);
    }
    child.wait_with_output().unwrap()
}

#[test]
fn a_gate_whose_command_was_killed_is_tried_again() {
    let server = script(mends());
    let modelled = Modelled::new(&server, "anthropic");
    slow(&modelled);
    let output = run(&modelled);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(git(&modelled.repo, &["rev-list", "--count", "main"]), "4");
}
