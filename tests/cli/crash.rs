//! `kill -9` at every position of the journal: a resumed run ends where an uninterrupted one does.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use journal::Journal;

use crate::house::{House, git, told};

const REPORT: &str = "one full hour is charged as two";

/// Events of the only run; 0 while there is none.
fn events(home: &Path) -> u64 {
    let runs = Journal::open(home).and_then(|journal| journal.runs());
    runs.ok()
        .and_then(|runs| runs.first().map(|run| run.events))
        .unwrap_or(0)
}

/// Starts a run and kills it as soon as the journal has so many events; true when it was killed in time.
fn killed_at(house: &House, position: u64) -> bool {
    std::fs::create_dir_all(house.home()).unwrap();
    let mut child = house
        .command(&["run", "--repo", "meter", REPORT])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let in_time = loop {
        if child.try_wait().unwrap().is_some() {
            break false;
        }
        if events(&house.home()) >= position {
            break true;
        }
        std::thread::sleep(Duration::from_micros(200));
    };
    let _ = child.kill();
    child.wait().unwrap();
    in_time
}

#[test]
fn a_run_killed_at_any_position_of_the_journal_ends_as_if_it_had_not_been() {
    let reference = House::new();
    let repo = reference.meter();
    let output = reference.moat(&["run", "--repo", "meter", REPORT]);
    assert!(output.status.success(), "{}", told(&output));
    let tree = git(&repo, &["rev-parse", "main^{tree}"]);
    let total = events(&reference.home());
    assert!(total > 10, "{total}");
    let mut killed = 0;
    for position in 0..total {
        let house = House::new();
        let repo = house.meter();
        let base = git(&repo, &["rev-parse", "main"]);
        killed += u32::from(killed_at(&house, position));
        let runs: serde_json::Value =
            serde_json::from_slice(&house.moat(&["runs", "--json"]).stdout).unwrap();
        match runs[0]["run"].as_str() {
            // It was killed before the run was opened: nothing happened.
            None => {
                assert_eq!(git(&repo, &["rev-parse", "main"]), base);
                continue;
            }
            Some(run) if runs[0]["state"] != "merged" => {
                let state = runs[0]["state"].as_str().unwrap();
                assert!(
                    ["interrupted", "pending"].contains(&state),
                    "nobody drives it, and it is said to be {state}"
                );
                let output = house.moat(&["runs", "resume", run]);
                let text = told(&output);
                assert_eq!(
                    output.status.code(),
                    Some(0),
                    "killed at event {position}: {text}"
                );
            }
            Some(_) => {}
        }
        assert_eq!(
            git(&repo, &["rev-parse", "main^{tree}"]),
            tree,
            "killed at event {position}"
        );
        let commits = git(&repo, &["rev-list", "--count", &format!("{base}..main")]);
        assert_eq!(commits, "1", "killed at event {position}");
        assert_eq!(git(&repo, &["status", "--porcelain"]), "");
        git(&repo, &["fsck", "--strict"]);
    }
    assert!(
        u64::from(killed) > total / 2,
        "only {killed} of {total} were killed in time"
    );
}
