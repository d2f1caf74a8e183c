//! What was acknowledged is there, whatever happens; what conflicts is refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests may stop at the first surprise"
)]

mod faults;
mod leases;
mod runs;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use flow::id::RunId;
use journal::{Journal, JournalError, Lease, Owner, Standing, monotonic_ms};
use proptest::prelude::*;

fn run(name: &str) -> RunId {
    name.parse().unwrap()
}

/// As a moat takes a run.
fn lease(journal: &Journal, name: &str) -> Lease {
    journal
        .lease(&run(name), &Owner::this(0), monotonic_ms(), 30_000)
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_appended_is_read_in_order(batches in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..5), 0..8)) {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let lease = lease(&journal, "a");
        let mut after = 0;
        for batch in &batches {
            let stale = after == 0 || matches!(journal.append(&lease, after - 1, 0, Standing::Due, batch), Err(JournalError::Conflict { .. }));
            prop_assert!(stale);
            after = journal.append(&lease, after, 7, Standing::Due, batch).unwrap();
        }
        let bodies: Vec<_> = batches.concat();
        let read = Journal::open(dir.path()).unwrap().read(&run("a"), 0).unwrap();
        prop_assert_eq!(read.iter().map(|event| event.body.clone()).collect::<Vec<_>>(), bodies);
        prop_assert!(read.iter().zip(1..).all(|(event, number)| event.number == number));
    }
}

#[test]
fn a_conflicting_append_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let lease = lease(&journal, "a");
    journal
        .append(&lease, 0, 1, Standing::Due, &[b"one".to_vec()])
        .unwrap();
    let other = Journal::open(dir.path()).unwrap();
    let error = other
        .append(&lease, 0, 1, Standing::Due, &[b"x".to_vec(), b"y".to_vec()])
        .unwrap_err();
    assert!(matches!(
        error,
        JournalError::Conflict {
            expected: 0,
            actual: 1,
            ..
        }
    ));
    assert_eq!(journal.read(&run("a"), 0).unwrap().len(), 1);
    assert_eq!(journal.runs().unwrap()[0].events, 1);
}

#[test]
fn blobs_are_checked_when_read() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let digest = journal.put_blob(b"evidence").unwrap();
    assert_eq!(
        journal.get_blob(&digest).unwrap().as_deref(),
        Some(&b"evidence"[..])
    );
    assert_eq!(
        journal.get_blob(&flow::id::Digest::of(b"never")).unwrap(),
        None
    );
    let raw = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    raw.execute("UPDATE blob SET bytes = x'00'", []).unwrap();
    assert!(matches!(
        journal.get_blob(&digest),
        Err(JournalError::Damaged { .. })
    ));
}

#[test]
fn a_journal_of_the_future_or_a_damaged_one_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.sqlite");
    // With what lies in its log only, and nobody who has it open.
    let crashed = tempfile::tempdir().unwrap();
    let future = rusqlite::Connection::open(crashed.path().join("f")).unwrap();
    future.pragma_update(None, "journal_mode", "WAL").unwrap();
    future
        .execute_batch("CREATE TABLE t (x); PRAGMA user_version = 99; INSERT INTO t VALUES (1)")
        .unwrap();
    let log = dir.path().join("journal.sqlite-wal");
    std::fs::copy(crashed.path().join("f"), &path).unwrap();
    std::fs::copy(crashed.path().join("f-wal"), &log).unwrap();
    let bytes = || (std::fs::read(&path).unwrap(), std::fs::read(&log).unwrap());
    let before = bytes();
    assert!(matches!(
        Journal::open(dir.path()),
        Err(JournalError::FromTheFuture { found: 99, .. })
    ));
    assert!(bytes() == before, "it was written");
    std::fs::remove_file(&log).unwrap();
    std::fs::write(
        &path,
        "this is no database, but it is long enough to look like a header of one",
    )
    .unwrap();
    assert!(matches!(
        Journal::open(dir.path()),
        Err(JournalError::Damaged { .. })
    ));
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .starts_with("this is no database")
    );
}

/// The child of the test below: appends for ever and says each number only after it is acknowledged.
#[test]
fn child_that_appends() {
    let Some(dir) = std::env::var_os("JOURNAL_CHILD") else {
        return;
    };
    let journal = Journal::open(dir.as_ref()).unwrap();
    let lease = lease(&journal, "a");
    let mut after = journal.read(&run("a"), 0).unwrap().len() as u64;
    loop {
        after = journal
            .append(
                &lease,
                after,
                0,
                Standing::Due,
                &[b"x".repeat(3000), b"y".to_vec()],
            )
            .unwrap();
        println!("\nacknowledged {after}");
    }
}

#[test]
fn kill_nine_loses_nothing_acknowledged_and_tears_no_append() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_that_appends", "--exact", "--nocapture"])
            .env("JOURNAL_CHILD", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        for line in lines
            .filter(|line| line.starts_with("acknowledged"))
            .take(7 * round)
        {
            acknowledged = line.split(' ').nth(1).unwrap().parse().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let read = Journal::open(dir.path())
            .unwrap()
            .read(&run("a"), 0)
            .unwrap();
        assert!(
            read.len() as u64 >= acknowledged,
            "{} of {acknowledged}",
            read.len()
        );
        assert_eq!(read.len() % 2, 0, "an append is all or nothing");
    }
    assert!(acknowledged > 0);
}
