//! Several runs at once on one repository.

use std::process::Stdio;

use crate::house::{House, git, told};

#[test]
fn four_runs_at_once_leave_one_sound_branch() {
    let house = House::new();
    let repo = house.meter();
    let base = git(&repo, &["rev-parse", "main"]);
    let children: Vec<_> = (0..4)
        .map(|_| {
            house
                .command(&["run", "--repo", "meter", "one full hour is charged as two"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    }
    git(&repo, &["fsck", "--strict"]);
    git(&repo, &["merge-base", "--is-ancestor", &base, "main"]);
    assert_eq!(
        git(&repo, &["diff", "--name-only", &base, "main"]),
        "meter/fees.py"
    );
    assert_eq!(git(&repo, &["status", "--porcelain"]), "");
    let tests = std::process::Command::new("python3")
        .args(["-m", "unittest", "-q"])
        .current_dir(&repo)
        .output()
        .unwrap();
    assert!(tests.status.success(), "{}", told(&tests));
}

#[test]
fn one_run_has_one_driver() {
    let house = House::new();
    house.meter();
    let mut first = house
        .command(&["run", "--repo", "meter", "one full hour is charged as two"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let run = loop {
        let runs: serde_json::Value =
            serde_json::from_slice(&house.moat(&["runs", "--json"]).stdout).unwrap();
        if let Some(run) = runs[0]["run"].as_str() {
            break run.to_owned();
        }
    };
    let second = house.moat(&["runs", "resume", &run]);
    let finished = first.wait().unwrap();
    let refused = told(&second).contains("being driven by another moat");
    assert!(
        finished.success()
            && (refused || second.status.success() || told(&second).contains("has ended")),
        "{}",
        told(&second)
    );
}
