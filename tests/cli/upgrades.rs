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
fn house_with(format: &str, name: &str) -> House {
    let house = House::new();
    std::fs::create_dir_all(house.home()).unwrap();
    std::fs::copy(
        corpus(format, &format!("{name}.sqlite")),
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

fn list(house: &House) -> Vec<Value> {
    let output = house.moat(&["runs", "--json"]);
    assert!(output.status.success(), "{}", told(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn listed(house: &House) -> Value {
    list(house).swap_remove(0)
}

#[test]
fn journals_of_older_moats_say_what_they_said() {
    for (format, name, states) in [
        ("format-1", "merged", &["merged"][..]),
        ("format-1", "modelled", &["merged"]),
        ("format-1", "parked", &["parked"]),
        ("format-1", "blocked", &["blocked-on-grant"]),
        ("format-1", "interrupted", &["interrupted"]),
        ("format-2", "ended", &["parked", "merged", "cancelled"]),
        ("format-2", "interrupted", &["interrupted"]),
    ] {
        let house = house_with(format, name);
        let before = bodies(&raw(&house));
        let runs = list(&house);
        let found: Vec<&str> = runs
            .iter()
            .map(|run| run["state"].as_str().unwrap())
            .collect();
        assert_eq!(found, states, "{format} {name}");
        let shown = |run: &Value| {
            let output = house.moat(&["runs", "show", "--json", run["run"].as_str().unwrap()]);
            let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
            shown["events"].as_array().unwrap().len()
        };
        let events: usize = runs.iter().map(shown).sum();
        assert_eq!(events, before.len());
        let spent = runs[0]["money-micros"].as_u64().unwrap();
        assert_eq!(spent > 0, name == "modelled", "{name}: {spent}");

        // Not an event is written anew, and the file is of this format for good.
        let now = raw(&house);
        assert_eq!(bodies(&now), before, "{name}");
        let format: u32 = now
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(format, 3);
        drop(now);
        Journal::open(&house.home()).unwrap();
    }
}

/// A journal in the middle of a step, and its repository, which is where the journal says.
fn interrupted(format: &str) -> (House, PathBuf) {
    let house = house_with(format, "interrupted");
    let repo = house.path("meter");
    let bundle = corpus(format, "meter.bundle");
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
    (house, repo)
}

#[test]
fn a_run_that_an_older_moat_left_in_the_middle_of_a_step_ends_under_this_one() {
    for format in ["format-1", "format-2"] {
        let (house, repo) = interrupted(format);
        let before = bodies(&raw(&house));

        // Only the journal is there: what else a state directory has is made anew.
        let output = house.moat(&["runs", "resume", "--all"]);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_eq!(listed(&house)["state"], "merged");
        let after = bodies(&raw(&house));
        assert_eq!(after[..before.len()], before[..]);
        // The skill that the run was opened with wrote it.
        let own = match format {
            "format-1" => FEES.replace("minutes // 60 + 1", "(minutes + 59) // 60"),
            _ => FEES.replace("minutes // 60 + 1", "(minutes - 1) // 60 + 1"),
        };
        assert_eq!(git(&repo, &["show", "main:meter/fees.py"]), own.trim());
        assert_eq!(git(&repo, &["status", "--porcelain"]), "");
    }
}

/// The step of the older moat had a record: what it has is not done again, though another moat wrote it.
#[test]
fn the_record_of_a_step_of_an_older_moat_is_gone_on_from() {
    let (house, _) = interrupted("format-2");
    let notes = |house: &House| -> (u64, u64) {
        raw(house)
            .query_row(
                "SELECT MAX(call), COUNT(*) FROM transcript WHERE number < 21",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap()
    };
    let before = notes(&house);
    let run = listed(&house)["run"].as_str().unwrap().to_owned();
    let output = house.moat(&["runs", "resume", &run]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let shown = house.moat(&["runs", "show", "--json", &run]);
    let text = told(&shown);
    assert!(!text.contains("\"diverged\""), "{text}");
    assert_eq!(notes(&house), before, "the step has another record");
}

#[test]
fn a_journal_of_an_older_moat_that_is_at_work_is_left_as_it_is() {
    let house = house_with("format-2", "interrupted");
    let run: String = raw(&house)
        .query_row("SELECT run FROM event", [], |row| row.get(0))
        .unwrap();
    let locks = house.home().join("locks");
    std::fs::create_dir(&locks).unwrap();
    let held = std::fs::File::create(locks.join(format!("{run}.2"))).unwrap();
    held.lock().unwrap();
    let path = house.home().join("journal.sqlite");
    let before = std::fs::read(&path).unwrap();
    for args in [&["runs"][..], &["runs", "resume", "--all"]] {
        let output = house.moat(args);
        assert!(!output.status.success());
        let says = format!(
            "is of an older moat, which is at work on run {run}, as process {}: wait until it has ended, or end it",
            std::process::id()
        );
        assert!(told(&output).contains(&says), "{}", told(&output));
    }
    assert!(std::fs::read(&path).unwrap() == before, "it was written");
    drop(held);
    assert_eq!(listed(&house)["state"], "interrupted");
}

#[test]
fn a_journal_of_a_newer_moat_is_refused_and_not_touched() {
    let house = house_with("format-2", "interrupted");
    let connection = raw(&house);
    connection.pragma_update(None, "user_version", 4).unwrap();
    drop(connection);
    let path = house.home().join("journal.sqlite");
    let before = std::fs::read(&path).unwrap();
    for args in [&["runs"][..], &["runs", "cancel", "r1"]] {
        let output = house.moat(args);
        assert!(!output.status.success());
        assert!(
            told(&output).contains("has format 4, this moat knows 3: use a newer moat"),
            "{}",
            told(&output)
        );
    }
    assert!(std::fs::read(&path).unwrap() == before, "it was written");
}

#[test]
fn an_event_of_a_newer_moat_is_refused_by_its_name() {
    let house = house_with("format-2", "interrupted");
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
