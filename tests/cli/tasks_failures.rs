//! Failures of harnesses that work on one repository many times at once, by the numbers under which they were collected: each is tried, or cannot be.
//!
//! - W1 many made at once, W2 the repository changes meanwhile, W4 nothing that is not merged is deleted, W5 clean-up through a link, W6 no
//!   isolation, W9 orphans, S6 a state that nobody can tell: here.
//! - W3 a half-registered worktree, a stale lock of one: cannot be. Views of tasks are plain directories without `.git`; nothing is registered in
//!   the user's repository (`eight_tasks_are_done_at_the_same_time_where_that_is_safe_and_merged_as_one` looks).
//! - W8 worktrees within worktrees: cannot be. Each view is a directory of its own below `runs/<run>/<token>/`, and a command sees its own alone
//!   (the same test counts the copies that each check can see).
//! - W9 a disk quota: `confine` ends what fills the disk (`host/confine/tests/confine/disk.rs`), and for the run that is a failure like any other.
//! - S7 a poisoned item that holds up the others: `many_interrupted_runs_go_on_at_once_and_a_poisoned_one_holds_up_none`.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flow::id::RunId;
use journal::{Journal, Owner, Standing, monotonic_ms};
use serde_json::Value;

use crate::house::{git, told};
use crate::planned::Planned;

fn failures(place: &Planned) -> Vec<Value> {
    let states = place.states();
    let events = states.iter().flat_map(|(run, _)| place.events(run));
    let failed = events.filter(|one| {
        let kind = one["event"]["type"].as_str().unwrap();
        kind == "step-failed" || one["event"]["verdict"]["finding"] == "fail"
    });
    failed.collect()
}

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).map_or(0, |all| all.count())
}

/// W1, W2: fifteen tasks begin together while the user commits, fetches and collects garbage.
#[test]
fn fifteen_tasks_begin_at_once_in_a_repository_that_is_in_use() {
    let place = Planned::with("0", |text| text.to_owned());
    let tasks: Vec<String> = (0..15)
        .map(|n| format!("TASK t{n}|t{n}.txt||write t{n}.txt {n}"))
        .collect();
    let report = format!("fifteen parts\n{}", tasks.join("\n"));
    git(&place.repo, &["branch", "busy"]);
    let done = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let tree = git(&place.repo, &["rev-parse", "busy^{tree}"]);
                let commit = git(
                    &place.repo,
                    &["commit-tree", "-p", "busy", "-m", "x", &tree],
                );
                git(&place.repo, &["update-ref", "refs/heads/busy", &commit]);
                git(&place.repo, &["fetch", "-q", ".", "busy:refs/heads/copy"]);
                // Not with `--prune=now`, which git itself calls unsafe while another process writes.
                git(&place.repo, &["gc", "-q"]);
            }
        });
        let output = place.run(&report);
        done.store(true, Ordering::Relaxed);
        output
    });
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(failures(&place), Vec::<Value>::new());
    for n in 0..15 {
        assert_eq!(place.file(&format!("t{n}.txt")), n.to_string());
    }
    assert_eq!(place.commits(), "1");
    assert_eq!(entries(&place.house.home().join("runs")), 0);
    git(&place.repo, &["fsck", "--strict"]);
}

const TWO: &str = "two parts\n\
    TASK a|a.txt||write a.txt a\n\
    TASK b|b.txt||need TOKEN; write b.txt b";

/// W4: dirty, untracked, stashed, detached and locked things of the user outlive runs that merge, wait and are cancelled.
#[test]
fn what_the_user_has_not_merged_is_left_alone() {
    let place = Planned::with("0", |text| text.to_owned());
    let beside = place.house.path("beside");
    git(
        &place.repo,
        &[
            "worktree",
            "add",
            "-q",
            "--detach",
            beside.to_str().unwrap(),
        ],
    );
    git(&place.repo, &["worktree", "lock", beside.to_str().unwrap()]);
    std::fs::write(beside.join("shared.txt"), "dirty").unwrap();
    std::fs::write(beside.join("new"), "untracked").unwrap();
    std::fs::write(place.repo.join("shared.txt"), "stashed").unwrap();
    git(&place.repo, &["stash", "-q"]);
    std::fs::write(place.repo.join("mine"), "untracked").unwrap();
    let before = git(&place.repo, &["stash", "list", "--format=%H"]);
    assert_eq!(place.run(TWO).status.code(), Some(4));
    assert!(
        place
            .house
            .moat(&["runs", "cancel", &place.parent()])
            .status
            .success()
    );
    let merged = place.run("two\nTASK c|c.txt||write c.txt c\nTASK d|d.txt||write d.txt d");
    assert_eq!(merged.status.code(), Some(0), "{}", told(&merged));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&beside.join("shared.txt")), "dirty");
    assert_eq!(read(&beside.join("new")), "untracked");
    assert_eq!(read(&place.repo.join("mine")), "untracked");
    assert_eq!(git(&place.repo, &["stash", "list", "--format=%H"]), before);
    let listed = git(&place.repo, &["worktree", "list", "--porcelain"]);
    assert!(listed.contains("locked"), "{listed}");
}

/// W5: where a view of a task should be, a link leads out: what it leads to is not cleaned away.
#[test]
fn a_clean_up_follows_no_link() {
    let place = Planned::with("0", |text| text.to_owned());
    assert_eq!(place.run(TWO).status.code(), Some(4));
    let (outside, runs) = (place.house.path("outside"), place.house.home().join("runs"));
    std::fs::create_dir_all(outside.join("1/tree")).unwrap();
    std::fs::write(outside.join("1/tree/precious"), "x").unwrap();
    for run in [place.parent(), place.child("b")] {
        std::fs::create_dir_all(&runs).unwrap();
        let _ = std::fs::remove_dir_all(runs.join(&run));
        std::os::unix::fs::symlink(&outside, runs.join(&run)).unwrap();
    }
    place.edit(|text| {
        text.replace(
            "models = [\"coder\"]",
            "models = [\"coder\"]\nenv = [\"TOKEN\"]",
        )
    });
    let output = place.house.moat(&["runs", "resume", &place.child("b")]);
    let precious = std::fs::read_to_string(outside.join("1/tree/precious"));
    assert_eq!(precious.ok().as_deref(), Some("x"), "{}", told(&output));
}

/// W6: where no views can be made, nothing is done, and least of all in the user's own directory.
#[test]
fn without_views_nothing_is_done_anywhere() {
    let place = Planned::with("0", |text| text.to_owned());
    std::fs::write(place.house.home().join("runs"), "not a directory").unwrap();
    let output = place.run(TWO);
    assert_ne!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(git(&place.repo, &["rev-parse", "main"]), place.base);
    assert_eq!(git(&place.repo, &["status", "--porcelain"]), "");
    assert_eq!(place.states()[0].1, "failed", "{}", told(&output));
}

fn are_running(marker: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|one| std::fs::read(one.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            line.windows(marker.len())
                .any(|part| part == marker.as_bytes())
        })
        .count()
}

/// W9: what several tasks had running ends with the moat that is killed.
#[test]
fn nothing_runs_on_when_moat_is_killed() {
    let marker = format!("marker-{}", std::process::id());
    let place = Planned::with("60", |text| {
        text.replace("\"check.py\"", &format!("\"check.py\", \"{marker}\""))
    });
    let mut moat = place
        .command("two\nTASK a|a.txt||write a.txt a\nTASK b|b.txt||write b.txt b")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while are_running(&marker) < 2 {
        assert!(moat.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(50));
    }
    moat.kill().unwrap();
    moat.wait().unwrap();
    let since = Instant::now();
    while are_running(&marker) > 0 {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "orphans are left"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// S6: a task's run that this moat cannot read is neither done again nor taken for ended; the others are.
#[test]
fn a_task_whose_state_nobody_can_tell_is_left_alone() {
    let place = Planned::with("0", |text| text.to_owned());
    let report = format!("{TWO}\nTASK c|c.txt||need TOKEN; write c.txt c");
    assert_eq!(place.run(&report).status.code(), Some(4));
    let (b, c) = (place.child("b"), place.child("c"));
    let journal = Journal::open(&place.house.home()).unwrap();
    let unknown: RunId = b.parse().unwrap();
    let events = journal.read(&unknown, 0).unwrap().len() as u64;
    let lease = journal
        .lease(&unknown, &Owner::this(0), monotonic_ms(), 60_000)
        .unwrap();
    let body = br#"{"type":"from-a-later-moat"}"#.to_vec();
    journal
        .append(&lease, events, 0, Standing::Part, &[body])
        .unwrap();
    drop((lease, journal));
    place.edit(|text| {
        text.replace(
            "models = [\"coder\"]",
            "models = [\"coder\"]\nenv = [\"TOKEN\"]",
        )
    });
    let output = place.house.moat(&["runs", "resume", &c]);
    assert_ne!(output.status.code(), Some(0), "{}", told(&output));
    let states: Vec<Value> = place.runs();
    let state = |run: &str| states.iter().find(|one| one["run"] == run).unwrap()["state"].clone();
    assert_eq!(
        (state(&b), state(&c)),
        ("error".into(), "joined".into()),
        "{}",
        told(&output)
    );
    let journal = Journal::open(&place.house.home()).unwrap();
    assert_eq!(journal.read(&unknown, 0).unwrap().len() as u64, events + 1);
    assert_eq!(states.len(), 4, "nothing was begun in its place");
}
