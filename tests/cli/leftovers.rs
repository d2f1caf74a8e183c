//! What is left behind is taken away, and nothing that is needed still.

use std::path::Path;
use std::sync::LazyLock;

use rusqlite::Connection;
use serde_json::Value;

use crate::house::{House, git, told};
use crate::worker::{Told, When, sleep};

/// So long that what is recorded of it lies among the blobs.
static LONG: LazyLock<String> = LazyLock::new(|| "long ".repeat(30_000));

fn journal(house: &House) -> Connection {
    Connection::open(house.home().join("journal.sqlite")).unwrap()
}

/// Notes of a run, and blobs that are notes.
fn kept(house: &House, run: &str) -> (u64, u64) {
    let journal = journal(house);
    let count = |sql: &str, run: &[&dyn rusqlite::ToSql]| {
        let count = journal.query_row(sql, run, |row| row.get(0));
        count.unwrap()
    };
    (
        count("SELECT COUNT(*) FROM transcript WHERE run = ?1", &[&run]),
        count(
            "SELECT COUNT(*) FROM blob WHERE CAST(substr(bytes, 1, 12) AS TEXT) = '{\"answered\":'",
            &[],
        ),
    )
}

/// As if all that has happened had happened so many days before.
fn age(house: &House, days: u64) {
    for times in [
        "UPDATE event SET at_ms = at_ms - ?1",
        "UPDATE run SET first_at_ms = first_at_ms - ?1, last_at_ms = last_at_ms - ?1",
    ] {
        let changed = journal(house).execute(times, [days * 24 * 3600 * 1000]);
        assert!(changed.unwrap() > 0);
    }
}

/// Names in an export, and what was left out of it.
fn exported(house: &House, run: &str, name: &str) -> (Vec<String>, String) {
    let file = house.path(name);
    let output = house.moat(&["runs", "export", run, "--output", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", told(&output));
    let list = |args: &[&str]| {
        let output = std::process::Command::new("tar")
            .args(args)
            .arg(&file)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let names = list(&["-tf"]).lines().map(str::to_owned).collect();
    (names, list(&["-xOf"]))
}

#[test]
fn transcripts_go_a_month_after_the_end_of_their_run_and_not_before() {
    let ended = Told::answering(When::Never, &LONG);
    let house = &ended.asking.house;
    let output = ended.run(&[sleep(10)]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let run = ended.only_run()["run"].as_str().unwrap().to_owned();
    let (notes, blobs) = kept(house, &run);
    assert!(notes > 5 && blobs > 0, "{notes} {blobs}");
    let has_transcript =
        |names: &[String]| names.iter().any(|name| name.starts_with("transcript/"));
    let sweep = || assert!(house.moat(&["runs", "resume", "--all"]).status.success());

    age(house, 29);
    sweep();
    assert_eq!(kept(house, &run), (notes, blobs));
    let (names, _) = exported(house, &run, "before.tar");
    assert!(has_transcript(&names), "{names:?}");

    age(house, 2);
    let show = || told(&house.moat(&["runs", "show", &run]));
    let before = show();
    sweep();
    assert_eq!(kept(house, &run), (0, 0));
    assert_eq!(show(), before);
    let (names, all) = exported(house, &run, "after.tar");
    assert!(!has_transcript(&names), "{names:?}");
    assert!(all.contains("kept for 30 days after the end of a run"));
}

#[test]
fn what_a_run_that_waits_can_go_on_from_is_kept_however_old_it_is() {
    let waits = Told::answering(When::Never, &LONG);
    let house = &waits.asking.house;
    let report = waits.report(&[sleep(3000)]);
    let child = waits
        .moat
        .start(house, &["run", "--repo", "meter", &report]);
    while waits.asked("/v1/look") == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let hunt = waits.hunt();
    let output = child.wait_with_output().unwrap();
    waits.end(hunt);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let run = waits.only_run()["run"].as_str().unwrap().to_owned();
    let before = kept(house, &run);
    age(house, 400);
    assert!(house.moat(&["runs", "resume", "--all"]).status.success());
    assert_eq!(kept(house, &run), before);
    let output = house.moat(&["runs", "resume", &run]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(waits.asked("/v1/effect"), 1);
    assert_eq!(waits.model.seen().len(), 1);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn what_killed_moats_left_goes_when_the_next_run_is_opened() {
    let house = House::new();
    let repo = house.meter();
    let report = "one full hour is charged as two";
    let run = || house.moat(&["run", "--repo", "meter", report, "--json"]);
    let output = run();
    assert!(output.status.success(), "{}", told(&output));
    let runs: Value = serde_json::from_slice(&house.moat(&["runs", "--json"]).stdout).unwrap();
    let id = runs[0]["run"].as_str().unwrap().to_owned();
    // As a moat leaves them that is killed while it writes, or when its run has just ended.
    let repositories = house.home().join("repositories");
    let mirror = repositories
        .join(&names(&repositories)[0])
        .join("mirror.git");
    let draft = mirror.join("objects/tmp_object_git2_Ab12");
    let lock = house.home().join(format!("locks/{id}.1"));
    for path in [&draft, &lock] {
        std::fs::write(path, "").unwrap();
    }
    git(&repo, &["revert", "--no-edit", "HEAD"]);
    let output = run();
    assert!(output.status.success(), "{}", told(&output));
    assert!(!draft.exists());
    assert_eq!(names(&house.home().join("locks")), Vec::<String>::new());
}
