//! Journals of every released moat: read as they are, brought up to the present format, and driven on.
//!
//! `tests/journals/format-N/` has journals that a moat of format N wrote: of the ends and stops that a run can have. The components of skills are
//! left out of all but the one that is driven on; its repository lies beside it, as a bundle.

use std::path::{Path, PathBuf};
use std::process::Command;

use journal::Journal;
use rusqlite::{Connection, params};
use serde_json::Value;

use crate::house::{FEES, House, git, told};

fn corpus(format: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/journals")
        .join(format)
        .join(name)
}

/// A state directory that has nothing but this journal.
fn house_with(name: &str) -> House {
    let house = House::new();
    std::fs::create_dir_all(house.home()).unwrap();
    std::fs::copy(
        corpus("format-1", &format!("{name}.sqlite")),
        house.home().join("journal.sqlite"),
    )
    .unwrap();
    house
}

fn raw(house: &House) -> Connection {
    Connection::open(house.home().join("journal.sqlite")).unwrap()
}

fn bodies(connection: &Connection) -> Vec<Vec<u8>> {
    let mut select = connection
        .prepare("SELECT body FROM event ORDER BY position")
        .unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn listed(house: &House) -> Value {
    let output = house.moat(&["runs", "--json"]);
    assert!(output.status.success(), "{}", told(&output));
    let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
    runs[0].clone()
}

#[test]
fn journals_of_older_moats_say_what_they_said() {
    for (name, state) in [
        ("merged", "merged"),
        ("modelled", "merged"),
        ("parked", "parked"),
        ("blocked", "blocked-on-grant"),
        ("interrupted", "interrupted"),
    ] {
        let house = house_with(name);
        let before = bodies(&raw(&house));
        let run = listed(&house);
        assert_eq!(run["state"], state, "{name}");
        let shown = house.moat(&["runs", "show", "--json", run["run"].as_str().unwrap()]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(shown["events"].as_array().unwrap().len(), before.len());
        let spent = run["money-micros"].as_u64().unwrap();
        assert_eq!(spent > 0, name == "modelled", "{name}: {spent}");

        // Not an event is written anew, and the file is of this format for good.
        let now = raw(&house);
        assert_eq!(bodies(&now), before, "{name}");
        let format: u32 = now
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(format, 2);
        drop(now);
        Journal::open(&house.home()).unwrap();
    }
}

#[test]
fn a_run_that_an_older_moat_left_in_the_middle_of_a_step_ends_under_this_one() {
    let house = house_with("interrupted");
    let repo = house.path("meter");
    let bundle = corpus("format-1", "meter.bundle");
    let cloned = Command::new("git")
        .args(["clone", "--quiet", "--branch", "main"])
        .arg(&bundle)
        .arg(&repo)
        .output()
        .unwrap();
    assert!(cloned.status.success(), "{}", told(&cloned));
    let here = repo.canonicalize().unwrap();
    raw(&house)
        .execute(
            "UPDATE event SET body = CAST(replace(CAST(body AS TEXT), '/srv/meter', ?1) AS BLOB)",
            [here.to_str().unwrap()],
        )
        .unwrap();
    let before = bodies(&raw(&house));
    let run = listed(&house)["run"].as_str().unwrap().to_owned();

    // Only the journal is there: what else a state directory has is made anew.
    let output = house.moat(&["runs", "resume", &run]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(listed(&house)["state"], "merged");
    let after = bodies(&raw(&house));
    assert_eq!(after[..before.len()], before[..]);
    let fixed = FEES.replace("minutes // 60 + 1", "(minutes + 59) // 60");
    assert_eq!(
        git(&repo, &["show", "main:meter/fees.py"]),
        fixed.trim(),
        "the skill that the run was opened with wrote it"
    );
    assert_eq!(git(&repo, &["status", "--porcelain"]), "");
}

#[test]
fn a_journal_of_a_newer_moat_is_refused_and_not_touched() {
    let house = house_with("interrupted");
    let connection = raw(&house);
    connection.pragma_update(None, "user_version", 3).unwrap();
    drop(connection);
    let path = house.home().join("journal.sqlite");
    let before = std::fs::read(&path).unwrap();
    for args in [&["runs"][..], &["runs", "cancel", "r1"]] {
        let output = house.moat(args);
        assert!(!output.status.success());
        assert!(
            told(&output).contains("has format 3, this moat knows 2: use a newer moat"),
            "{}",
            told(&output)
        );
    }
    assert!(std::fs::read(&path).unwrap() == before, "it was written");
}

#[test]
fn an_event_of_a_newer_moat_is_refused_by_its_name() {
    let house = house_with("interrupted");
    let connection = raw(&house);
    let next = bodies(&connection).len() + 1;
    connection
        .execute(
            "INSERT INTO event (run, number, at_ms, body) SELECT run, ?1, at_ms, ?2 FROM event WHERE number = 1",
            params![next, br#"{"type":"teleported","to":"mars"}"#],
        )
        .unwrap();
    let before = bodies(&connection);
    drop(connection);
    let run = listed(&house);
    assert_eq!(run["state"], "error");
    for word in ["resume", "cancel", "show"] {
        let output = house.moat(&["runs", word, run["run"].as_str().unwrap()]);
        assert!(!output.status.success());
        let text = told(&output);
        assert!(
            text.contains("`teleported`") && text.contains(&format!("event {next}")),
            "{text}"
        );
    }
    assert_eq!(bodies(&raw(&house)), before);
}
