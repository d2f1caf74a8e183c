//! Tasks and `kill -9`: the same tree and the same one commit, whenever the process that drives them dies.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use journal::Journal;

use crate::house::{git, told};
use crate::planned::Planned;
use crate::tasks::{EIGHT, eight_parts_are_merged};

/// Events of all runs.
fn events(home: &Path) -> u64 {
    let runs = Journal::open(home).and_then(|journal| journal.runs());
    runs.map_or(0, |runs| runs.iter().map(|run| run.events).sum())
}

/// Starts `moat` and kills it as soon as the journal has so many events.
fn kill_at(place: &Planned, args: &[&str], position: u64) {
    let mut child = place
        .house
        .command(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while child.try_wait().unwrap().is_none() && events(&place.house.home()) < position {
        std::thread::sleep(Duration::from_micros(300));
    }
    let _ = child.kill();
    child.wait().unwrap();
}

fn resume_all(place: &Planned) {
    let output = place.house.moat(&["runs", "resume", "--all"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

/// Nothing is left of views, and nothing but refs of moat's own mirror remembers the tasks.
fn nothing_is_left(place: &Planned) {
    let home = place.house.home();
    let views = std::fs::read_dir(home.join("runs")).map_or(0, |all| all.count());
    assert_eq!(views, 0, "views are left");
    assert_eq!(git(&place.repo, &["for-each-ref"]).lines().count(), 1);
}

#[test]
fn eight_tasks_killed_anywhere_end_as_if_they_had_not_been() {
    let reference = Planned::with("0", |text| text.to_owned());
    let output = reference.run(EIGHT);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let tree = git(&reference.repo, &["rev-parse", "main^{tree}"]);
    let total = events(&reference.house.home());
    assert!(total > 100, "{total}");
    // A sample; twice in a run from the second on.
    for n in 1..=9 {
        let place = Planned::with("0", |text| text.to_owned());
        let first = total * n / 10;
        kill_at(&place, &["run", "--repo", "parts", EIGHT], first);
        if n > 1 {
            let second = first + (total - first) * (n % 4 + 1) / 5;
            kill_at(&place, &["runs", "resume", "--all"], second);
        }
        resume_all(&place);
        assert_eq!(
            git(&place.repo, &["rev-parse", "main^{tree}"]),
            tree,
            "killed at {first}"
        );
        eight_parts_are_merged(&place);
        nothing_is_left(&place);
        let states = place.states();
        assert_eq!(states.len(), 9, "no task was begun twice: {states:?}");
    }
}

#[test]
fn many_interrupted_runs_go_on_at_once_and_a_poisoned_one_holds_up_none() {
    let place = Planned::with("0", |text| text.to_owned());
    let report = |n: u32| {
        format!("parts\nTASK a|a{n}.txt||write a{n}.txt a\nTASK b|b{n}.txt||write b{n}.txt b")
    };
    git(&place.repo, &["clone", "-q", ".", "../other"]);
    for n in 0..5 {
        let before = events(&place.house.home());
        let repo = if n == 0 { "other" } else { "parts" };
        kill_at(&place, &["run", "--repo", repo, &report(n)], before + 6);
    }
    let roots: Vec<String> = place
        .states()
        .into_iter()
        .filter(|(run, _)| run.matches('-').count() == 1)
        .map(|(run, _)| run)
        .collect();
    assert_eq!(roots.len(), 5);
    // The repository of one of them is gone: it can never be driven again.
    let poisoned = &roots[0];
    std::fs::remove_dir_all(place.house.path("other")).unwrap();
    let output = place.house.moat(&["runs", "resume", "--all", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let states = place.states();
    for root in &roots[1..] {
        let state = &states.iter().find(|(run, _)| run == root).unwrap().1;
        assert_eq!(state, "merged", "{}", told(&output));
    }
    for n in 1..5 {
        assert_eq!(place.file(&format!("a{n}.txt")), "a");
    }
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of_poisoned = shown
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["run"] == **poisoned);
    assert!(of_poisoned.unwrap()["error"].is_string(), "{shown}");
}
