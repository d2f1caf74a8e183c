//! Runs beside each other: told apart, found by how they stand, and the same after the file was brought up to this format.

use std::path::Path;

use journal::{Journal, JournalError, Standing};
use proptest::prelude::*;
use rusqlite::{Connection, params};

use crate::{lease, run};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Appends to these runs in turns: to which, how many events, and how it stands then.
fn turns() -> impl Strategy<Value = Vec<(usize, usize, Standing)>> {
    let standing = prop_oneof![
        Just(Standing::Unknown),
        Just(Standing::Due),
        Just(Standing::Part),
        Just(Standing::Rests),
    ];
    proptest::collection::vec((0..NAMES.len(), 1..4usize, standing), 1..30)
}

/// What should lie there: by run, in the order of their opening.
#[derive(Default)]
struct Expected {
    runs: Vec<(usize, Vec<Vec<u8>>, Standing)>,
    all: Vec<(String, u64, Vec<u8>)>,
}

impl Expected {
    fn add(&mut self, which: usize, events: usize, standing: Standing) -> (u64, Vec<Vec<u8>>) {
        if !self.runs.iter().any(|(run, ..)| *run == which) {
            self.runs.push((which, vec![], standing));
        }
        let (_, bodies, stands) = self
            .runs
            .iter_mut()
            .find(|(run, ..)| *run == which)
            .unwrap();
        let after = bodies.len();
        let new = (after + 1..=after + events).map(|n| format!("{which}: {n}").into_bytes());
        let new: Vec<_> = new.collect();
        for (body, number) in new.iter().zip(after as u64 + 1..) {
            let name = NAMES[which].to_owned();
            self.all.push((name, number, body.clone()));
        }
        bodies.extend(new.clone());
        *stands = standing;
        (after as u64, new)
    }

    fn check(&self, journal: &Journal) {
        let mut all = Vec::new();
        journal
            .each(0, &mut |one| {
                all.push((one.run.to_owned(), one.number, one.body.to_vec()));
            })
            .unwrap();
        assert_eq!(all, self.all);
        for (which, bodies, _) in &self.runs {
            for after in 0..=bodies.len() + 1 {
                let read = journal.read(&run(NAMES[*which]), after as u64).unwrap();
                let numbers: Vec<u64> = read.iter().map(|one| one.number).collect();
                let expected: Vec<u64> = (after as u64 + 1..=bodies.len() as u64).collect();
                assert_eq!(numbers, expected);
                let read: Vec<_> = read.into_iter().map(|one| one.body).collect();
                assert_eq!(read, bodies[after.min(bodies.len())..]);
            }
        }
        let summaries = journal.runs().unwrap();
        let summed: Vec<_> = (summaries.iter())
            .map(|one| (one.run.to_string(), one.events as usize))
            .collect();
        let expected: Vec<_> = (self.runs.iter())
            .map(|(which, bodies, _)| (NAMES[*which].to_owned(), bodies.len()))
            .collect();
        assert_eq!(summed, expected);
    }

    fn due(&self) -> Vec<(flow::id::RunId, Standing)> {
        let due = self
            .runs
            .iter()
            .filter(|(_, _, standing)| matches!(standing, Standing::Due | Standing::Unknown));
        let due = due.map(|(which, _, standing)| (run(NAMES[*which]), *standing));
        due.collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn runs_that_are_appended_to_in_turns_are_told_apart(turns in turns()) {
        let dir = tempfile::tempdir().unwrap();
        let (journal, other) = (Journal::open(dir.path()).unwrap(), Journal::open(dir.path()).unwrap());
        let mut expected = Expected::default();
        for (nth, (which, events, standing)) in turns.into_iter().enumerate() {
            let (after, bodies) = expected.add(which, events, standing);
            // Two moats, each of which has to see what the other did.
            let journal = if nth % 3 == 0 { &other } else { &journal };
            let lease = lease(journal, NAMES[which]);
            journal.append(&lease, after, nth as u64, standing, &bodies).unwrap();
        }
        for journal in [&journal, &other, &Journal::open(dir.path()).unwrap()] {
            expected.check(journal);
            assert_eq!(journal.due().unwrap(), expected.due());
        }
    }

    #[test]
    fn a_journal_of_format_2_is_the_same_after_it_was_brought_up(turns in turns()) {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = Expected::default();
        let mut rows = Vec::new();
        for (which, events, _) in turns {
            let (after, bodies) = expected.add(which, events, Standing::Unknown);
            for (body, number) in bodies.into_iter().zip(after + 1..) {
                rows.push((NAMES[which], number, body));
            }
        }
        format_2(dir.path(), &rows);
        let journal = Journal::open(dir.path()).unwrap();
        expected.check(&journal);
        assert_eq!(journal.due().unwrap(), expected.due());
        let last = journal.runs().unwrap().last().unwrap().last_at_ms;
        assert_eq!(last, rows.iter().rposition(|row| row.0 == NAMES[expected.runs.last().unwrap().0]).unwrap() as u64);
        // It goes on from there.
        let (which, bodies, _) = &expected.runs[0];
        let (name, after) = (NAMES[*which], bodies.len() as u64);
        let lease = lease(&journal, name);
        assert_eq!(journal.append(&lease, after, 0, Standing::Rests, &[vec![]]), Ok(after + 1));
        assert!(journal.due().unwrap().iter().all(|(due, _)| *due != run(name)));
    }
}

/// The tables of format 2, as a moat of that time made them.
fn format_2(directory: &Path, events: &[(&str, u64, Vec<u8>)]) {
    let connection = Connection::open(directory.join("journal.sqlite")).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE event (position INTEGER PRIMARY KEY, run TEXT NOT NULL, number INTEGER NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL,
                 UNIQUE (run, number));
             CREATE TABLE blob (digest TEXT PRIMARY KEY, bytes BLOB NOT NULL);
             CREATE TABLE lease (run TEXT PRIMARY KEY, token INTEGER NOT NULL, pid INTEGER NOT NULL, since_ms INTEGER NOT NULL, boot TEXT NOT NULL,
                 expires_ms INTEGER NOT NULL) WITHOUT ROWID;
             CREATE TABLE transcript (position INTEGER PRIMARY KEY, run TEXT NOT NULL, call INTEGER NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL,
                 UNIQUE (run, call, number));
             PRAGMA user_version = 2;",
        )
        .unwrap();
    for (at_ms, (run, number, body)) in events.iter().enumerate() {
        connection
            .execute(
                "INSERT INTO event (run, number, at_ms, body) VALUES (?1, ?2, ?3, ?4)",
                params![run, number, at_ms as u64, body],
            )
            .unwrap();
    }
}

#[test]
fn how_a_run_stands_is_said_of_the_events_that_were_looked_at_only() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let held = lease(&journal, "a");
    journal
        .append(&held, 0, 0, Standing::Unknown, &[vec![]])
        .unwrap();
    let stand = |events, standing| journal.stand(vec![(run("a"), events, standing)]).unwrap();
    let due = || journal.due().unwrap();
    stand(1, Standing::Due);
    assert_eq!(due(), [(run("a"), Standing::Due)]);
    journal
        .append(&held, 1, 0, Standing::Due, &[vec![]])
        .unwrap();
    // Somebody looked before that, and says so after it.
    stand(1, Standing::Rests);
    assert_eq!(due(), [(run("a"), Standing::Due)]);
    stand(2, Standing::Rests);
    assert_eq!(due(), []);
}

#[test]
fn an_event_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    for name in ["a", "b"] {
        let held = lease(&journal, name);
        journal
            .append(&held, 0, 0, Standing::Due, &[vec![], vec![], vec![]])
            .unwrap();
    }
    let raw = Connection::open(dir.path().join("journal.sqlite")).unwrap();
    raw.execute("DELETE FROM event WHERE position = 2", [])
        .unwrap();
    let refused = journal.read(&run("a"), 0).unwrap_err();
    assert!(
        matches!(&refused, JournalError::Damaged { why, .. } if why == "event 2 of run a is missing"),
        "{refused}"
    );
    assert_eq!(journal.read(&run("a"), 2).unwrap().len(), 1);
    assert_eq!(journal.read(&run("b"), 0).unwrap().len(), 3);
}

#[test]
fn what_was_said_by_other_rules_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    for (name, standing) in [("a", Standing::Due), ("b", Standing::Rests)] {
        let held = lease(&journal, name);
        journal.append(&held, 0, 0, standing, &[vec![]]).unwrap();
    }
    assert_eq!(journal.due().unwrap(), [(run("a"), Standing::Due)]);
    let raw = Connection::open(dir.path().join("journal.sqlite")).unwrap();
    raw.execute("UPDATE run SET rules = 9999", []).unwrap();
    let unknown = |name| (run(name), Standing::Unknown);
    assert_eq!(journal.due().unwrap(), [unknown("a"), unknown("b")]);
    journal.stand(vec![(run("b"), 1, Standing::Rests)]).unwrap();
    assert_eq!(journal.due().unwrap(), [unknown("a")]);
}

/// Of either format: that of a lease, and that of a moat which knows none.
#[test]
fn a_journal_of_an_older_format_is_left_alone_while_somebody_is_at_work_or_may_be() {
    use std::os::unix::fs::symlink;

    let dir = tempfile::tempdir().unwrap();
    format_2(dir.path(), &[("a", 1, vec![])]);
    let locks = dir.path().join("locks");
    std::fs::create_dir(&locks).unwrap();
    let format = || -> u32 {
        Connection::open(dir.path().join("journal.sqlite"))
            .unwrap()
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap()
    };
    for name in ["a", "a.7"] {
        let file = std::fs::File::create(locks.join(name)).unwrap();
        file.lock().unwrap();
        let refused = Journal::open(dir.path()).unwrap_err();
        assert!(
            matches!(&refused, JournalError::InUseByOlder { run: held, by: Some(by), .. }
                if *held == run("a") && by.pid == std::process::id()),
            "{refused}"
        );
    }
    symlink(locks.join("a.8"), locks.join("a.8")).unwrap();
    let refused = Journal::open(dir.path()).unwrap_err();
    assert!(
        matches!(&refused, JournalError::Unusable { .. }),
        "{refused}"
    );
    assert_eq!(format(), 2);
    std::fs::remove_file(locks.join("a.8")).unwrap();
    Journal::open(dir.path()).unwrap();
    assert_eq!(format(), 3);
}
