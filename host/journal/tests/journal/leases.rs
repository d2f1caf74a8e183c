//! Who has a run, who may take it, and that nobody else changes anything.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;

use journal::{Journal, JournalError, Lease, Owner, Standing, monotonic_ms};

use crate::{lease, run};

const LENGTH_MS: u64 = 30_000;

fn take(journal: &Journal, name: &str, now_ms: u64) -> Result<Lease, JournalError> {
    journal.lease(&run(name), &Owner::this(7), now_ms, LENGTH_MS)
}

#[test]
fn a_run_has_one_holder_and_every_holder_a_greater_token() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, other) = (
        Journal::open(dir.path()).unwrap(),
        Journal::open(dir.path()).unwrap(),
    );
    assert!(!journal.is_driven(&run("a")));
    let first = lease(&journal, "a");
    assert!(other.is_driven(&run("a")) && !other.is_driven(&run("b")));
    let refused = take(&other, "a", monotonic_ms()).unwrap_err();
    assert!(
        matches!(&refused, JournalError::Held { by, .. } if by.pid == std::process::id()),
        "{refused}"
    );
    lease(&other, "b");
    let token = first.token();
    drop(first);
    assert!(!other.is_driven(&run("a")));
    let second = lease(&other, "a");
    assert!(second.token() > token);
    let left: Vec<_> = std::fs::read_dir(dir.path().join("locks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 1, "old leases leave files behind: {left:?}");
}

/// All that a holder can do.
fn tries(journal: &Journal, lease: &Lease) -> [Result<(), JournalError>; 6] {
    let at = journal.read(lease.run(), 0).unwrap().len() as u64;
    let notes = journal.notes(lease.run(), 1).unwrap().len() as u64;
    [
        journal
            .append(lease, at, 0, Standing::Due, &[b"late".to_vec()])
            .map(|_| ()),
        // Also what would be a conflict: who has lost the run hears that first.
        journal
            .append(lease, at + 1, 0, Standing::Due, &[vec![]])
            .map(|_| ()),
        journal.note(lease, 1, notes + 1, &[b"late".to_vec()]),
        journal
            .renew(&lease.key(), monotonic_ms(), LENGTH_MS)
            .wait(),
        journal.holds(lease),
        journal.effect(lease).map(|_| ()),
    ]
}

#[test]
fn a_holder_that_stood_still_too_long_can_do_nothing_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (frozen, other) = (
        Journal::open(dir.path()).unwrap(),
        Journal::open(dir.path()).unwrap(),
    );
    let now = monotonic_ms();
    let old = take(&frozen, "a", now).unwrap();
    frozen
        .append(&old, 0, 0, Standing::Due, &[b"one".to_vec()])
        .unwrap();
    frozen.note(&old, 1, 1, &[b"asked".to_vec()]).unwrap();

    frozen
        .renew(&old.key(), now + 10_000, LENGTH_MS)
        .wait()
        .unwrap();
    let held = take(&other, "a", now + LENGTH_MS + 9_999);
    assert!(matches!(held, Err(JournalError::Held { .. })), "renewed");

    let new = take(&other, "a", now + LENGTH_MS + 10_000).unwrap();
    for tried in tries(&frozen, &old) {
        assert!(
            matches!(tried, Err(JournalError::Fenced { .. })),
            "{tried:?}"
        );
    }
    assert_eq!(other.read(&run("a"), 0).unwrap().len(), 1);
    assert_eq!(other.notes(&run("a"), 1).unwrap().len(), 1);
    // It goes, and takes nothing of the new holder's with it.
    drop(old);
    assert!(take(&frozen, "a", monotonic_ms()).is_err());
    other
        .append(&new, 1, 0, Standing::Due, &[b"two".to_vec()])
        .unwrap();
    other.note(&new, 1, 2, &[b"answered".to_vec()]).unwrap();
    assert_eq!(
        frozen.notes(&run("a"), 1).unwrap()[1].body,
        b"answered".to_vec()
    );
}

#[test]
fn signs_of_life_of_dead_processes_are_taken_away_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let locks = dir.path().join("locks");
    let names = || {
        let entries = std::fs::read_dir(&locks).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let now = monotonic_ms();
    drop(take(&journal, "ended", now).unwrap());
    let held = take(&journal, "held", now).unwrap();
    let _effect = journal.effect(&held).unwrap();
    // As a killed process leaves them; and one of a lease that is not in the journal yet.
    for name in ["ended.1", "ended.1.effect", "held.2", "older"] {
        std::fs::write(locks.join(name), "").unwrap();
    }
    journal.sweep().unwrap();
    let left = ["held.1", "held.1.effect", "held.2", "older"];
    assert_eq!(names(), left.map(str::to_owned).into());
    journal
        .append(&held, 0, 0, Standing::Due, &[b"one".to_vec()])
        .unwrap();
}

#[test]
fn nobody_takes_a_run_in_the_middle_of_an_effect() {
    let dir = tempfile::tempdir().unwrap();
    let (frozen, other) = (
        Journal::open(dir.path()).unwrap(),
        Journal::open(dir.path()).unwrap(),
    );
    let now = monotonic_ms();
    let old = take(&frozen, "a", now).unwrap();
    let (one, two) = (frozen.effect(&old).unwrap(), frozen.effect(&old).unwrap());
    drop(one);
    let later = now + LENGTH_MS;
    let refused = take(&other, "a", later);
    assert!(
        matches!(refused, Err(JournalError::Frozen { .. })),
        "{refused:?}"
    );
    // Nothing of it is lost by the attempt.
    frozen
        .append(&old, 0, 0, Standing::Due, &[b"done".to_vec()])
        .unwrap();
    drop(two);
    take(&other, "a", later).unwrap();
    assert!(matches!(
        frozen.effect(&old),
        Err(JournalError::Fenced { .. })
    ));
}

/// The child of the test below.
#[test]
fn child_that_holds() {
    let Some(dir) = std::env::var_os("JOURNAL_HOLDER") else {
        return;
    };
    let journal = Journal::open(dir.as_ref()).unwrap();
    let _lease = lease(&journal, "a");
    println!("\nheld");
    std::thread::sleep(std::time::Duration::from_secs(600));
}

fn holder(dir: &std::path::Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["leases::child_that_holds", "--exact", "--nocapture"])
        .env("JOURNAL_HOLDER", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines
        .map_while(Result::ok)
        .find(|line| line == "held")
        .unwrap();
    child
}

#[test]
fn the_lease_of_a_dead_process_is_taken_at_once_and_that_of_a_frozen_one_when_it_expires() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let mut child = holder(dir.path());
    assert!(matches!(
        take(&journal, "a", monotonic_ms()),
        Err(JournalError::Held { by, .. }) if by.pid == child.id()
    ));
    child.kill().unwrap();
    child.wait().unwrap();
    drop(take(&journal, "a", monotonic_ms()).unwrap());

    let mut child = holder(dir.path());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    assert!(take(&journal, "a", monotonic_ms()).is_err());
    take(&journal, "a", monotonic_ms() + LENGTH_MS).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn many_threads_append_at_once_and_each_is_all_or_nothing_for_itself() {
    const THREADS: u64 = 16;
    const ROUNDS: u64 = 20;
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let together = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (journal, together) = (&journal, &together);
            scope.spawn(move || {
                let lease = lease(journal, &format!("r{thread}"));
                for round in 0..ROUNDS {
                    together.wait();
                    let body = |part: &str| format!("{thread}/{round}/{part}").into_bytes();
                    if thread % 4 == 3 {
                        // Refused in the midst of the others' transaction.
                        let stale =
                            journal.append(&lease, 5, 0, Standing::Due, &[body("x"), body("y")]);
                        assert!(matches!(stale, Err(JournalError::Conflict { .. })));
                    } else {
                        let bodies = [body("one"), body("two")];
                        let last = journal
                            .append(&lease, round * 2, round, Standing::Due, &bodies)
                            .unwrap();
                        assert_eq!(last, round * 2 + 2);
                        journal.note(&lease, 1, round + 1, &[body("note")]).unwrap();
                    }
                }
            });
        }
    });
    drop(journal);
    let journal = Journal::open(dir.path()).unwrap();
    for thread in 0..THREADS {
        let id = run(&format!("r{thread}"));
        let read = journal.read(&id, 0).unwrap();
        let expected: Vec<Vec<u8>> = (0..ROUNDS)
            .flat_map(|round| ["one", "two"].map(|part| format!("{thread}/{round}/{part}").into()))
            .collect();
        let expected = if thread % 4 == 3 { vec![] } else { expected };
        assert_eq!(
            read.iter().map(|one| one.body.clone()).collect::<Vec<_>>(),
            expected
        );
        assert_eq!(
            journal.notes(&id, 1).unwrap().len() as u64,
            if thread % 4 == 3 { 0 } else { ROUNDS }
        );
    }
    let mut last = 0;
    journal
        .each(0, &mut |placed| {
            assert!(placed.position > last);
            last = placed.position;
        })
        .unwrap();
    assert_eq!(last, THREADS * 3 / 4 * ROUNDS * 2);
}

#[test]
fn what_another_process_appends_is_seen_before_the_next_append() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (
        Journal::open(dir.path()).unwrap(),
        Journal::open(dir.path()).unwrap(),
    );
    let now = monotonic_ms();
    let first = take(&one, "a", now).unwrap();
    one.append(&first, 0, 0, Standing::Due, &[b"1".to_vec()])
        .unwrap();
    let second = take(&two, "a", now + LENGTH_MS).unwrap();
    two.append(&second, 1, 0, Standing::Due, &[b"2".to_vec()])
        .unwrap();
    two.note(&second, 9, 1, &[b"n".to_vec()]).unwrap();
    drop(second);
    let third = take(&one, "a", now).unwrap();
    assert!(matches!(
        one.append(&third, 1, 0, Standing::Due, &[vec![]]),
        Err(JournalError::Conflict { actual: 2, .. })
    ));
    assert!(matches!(
        one.note(&third, 9, 1, &[vec![]]),
        Err(JournalError::Conflict { actual: 1, .. })
    ));
    one.append(&third, 2, 0, Standing::Due, &[b"3".to_vec()])
        .unwrap();
    one.note(&third, 9, 2, &[b"m".to_vec()]).unwrap();
    assert!(one.note(&third, 10, 1, &[b"other call".to_vec()]).is_ok());
}

/// A person's word reaches a run that somebody drives, though not in the middle of what is done outside.
#[test]
fn a_seized_run_has_another_holder_at_once_and_an_effect_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (driver, person) = (
        Journal::open(dir.path()).unwrap(),
        Journal::open(dir.path()).unwrap(),
    );
    let seize = || person.seize(&run("a"), &Owner::this(7), monotonic_ms(), LENGTH_MS);
    let old = lease(&driver, "a");
    driver
        .append(&old, 0, 0, Standing::Due, &[b"one".to_vec()])
        .unwrap();
    let effect = driver.effect(&old).unwrap();
    assert!(matches!(seize(), Err(JournalError::Frozen { .. })));
    driver
        .append(&old, 1, 0, Standing::Due, &[b"two".to_vec()])
        .unwrap();
    drop(effect);
    let new = seize().unwrap();
    assert!(new.token() > old.token());
    for refused in tries(&driver, &old) {
        assert!(
            matches!(refused, Err(JournalError::Fenced { .. })),
            "{refused:?}"
        );
    }
    person
        .append(&new, 2, 0, Standing::Due, &[b"three".to_vec()])
        .unwrap();
}

#[test]
fn who_follows_sees_each_event_once_and_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, other) = (
        Journal::open(dir.path()).unwrap(),
        Journal::open(dir.path()).unwrap(),
    );
    let (a, b) = (lease(&journal, "a"), lease(&other, "b"));
    journal
        .append(&a, 0, 0, Standing::Due, &[b"1".to_vec()])
        .unwrap();
    let mut follow = other.follow(0).unwrap();
    let mut news = || {
        let mut seen = Vec::new();
        let mut visit = |one: journal::Placed<'_>| seen.push((one.run.to_owned(), one.number));
        follow.news(&mut visit).unwrap();
        seen
    };
    assert_eq!(news(), [("a".to_owned(), 1)]);
    assert!(news().is_empty());
    other
        .append(&b, 0, 0, Standing::Due, &[b"1".to_vec(), b"2".to_vec()])
        .unwrap();
    journal
        .append(&a, 1, 0, Standing::Due, &[b"2".to_vec()])
        .unwrap();
    let three = [
        ("b".to_owned(), 1),
        ("b".to_owned(), 2),
        ("a".to_owned(), 2),
    ];
    assert_eq!(news(), three);
    assert!(news().is_empty());
}
