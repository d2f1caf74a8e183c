//! What goes wrong outside: a torn log, a full disk, one that cannot be written, another program that holds the file, a clock that jumps.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use journal::{Journal, JournalError, Keeper, Owner, Standing, monotonic_ms};
use rustix::process::{Pid, Signal, kill_process};

use crate::{lease, run};

const FRAME_BYTES: usize = 24 + 4096;

/// A state directory as a machine leaves it that loses power: file and log, without the memory that processes share.
fn state(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    (read("journal.sqlite"), read("journal.sqlite-wal"))
}

fn lay(dir: &Path, file: &[u8], log: &[u8]) {
    let _ = std::fs::remove_file(dir.join("journal.sqlite-shm"));
    std::fs::write(dir.join("journal.sqlite"), file).unwrap();
    std::fs::write(dir.join("journal.sqlite-wal"), log).unwrap();
}

#[test]
fn a_log_that_is_torn_anywhere_in_its_last_frame_has_the_last_append_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let held = lease(&journal, "a");
    journal
        .append(&held, 0, 0, Standing::Due, &[b"first".to_vec()])
        .unwrap();
    let (_, before) = state(dir.path());
    let second = [b"second".to_vec(), vec![b'x'; 3000]];
    journal.append(&held, 1, 0, Standing::Due, &second).unwrap();
    let (file, log) = state(dir.path());
    // As it lies there now; the rest of the log is the room that it has.
    let differs = |at: &usize| before.get(*at) != log.get(*at);
    let begin = (0..log.len()).find(differs).unwrap();
    let end = (0..log.len()).rev().find(differs).unwrap() + 1;
    let last_frame = end.max(begin + FRAME_BYTES) - FRAME_BYTES;

    // In memory where that can be had: each of some thousand openings waits for the disk twice.
    let torn = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let mut whole = 0;
    let mut check = |log: &[u8], at: usize| {
        lay(torn.path(), &file, log);
        let journal = Journal::open(torn.path()).unwrap();
        let events = journal.read(&run("a"), 0).unwrap();
        assert!(
            events.len() == 1 || events.len() == 3,
            "torn at {at}: {} events",
            events.len()
        );
        assert_eq!(events[0].body, b"first");
        whole += u32::from(events.len() == 3);
        if at.is_multiple_of(512) {
            let again = lease(&journal, "a");
            let after = events.len() as u64;
            journal
                .append(&again, after, 0, Standing::Due, &[b"third".to_vec()])
                .unwrap();
            assert_eq!(journal.read(&run("a"), after).unwrap().len(), 1);
        }
    };
    // Cut off there; only a log with its very last byte is whole.
    for at in last_frame..end + 2 {
        check(&log[..at.min(log.len())], at);
    }
    // Written up to there: what follows is what was there before, also in the frames before the last.
    for at in (begin..end).step_by(61) {
        let mut torn = log.clone();
        let old = at.min(before.len())..end.min(before.len());
        torn[old.clone()].copy_from_slice(&before[old]);
        check(&torn, at);
    }
    assert!((1..10).contains(&whole), "{whole} were whole");
}

/// Runs one of the tests below in a mount namespace that has its own file system of so many bytes at `dir`.
fn on_own_disk(dir: &Path, megabytes: u32, script: &str) {
    let mounted = format!(
        "mount -t tmpfs -o size={megabytes}m,mode=700 none {dir} && {script}",
        dir = dir.display()
    );
    let test = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-ec",
            &mounted,
        ])
        .env("TEST", test)
        .env("JOURNAL_DISK", dir)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn disk() -> Option<PathBuf> {
    std::env::var_os("JOURNAL_DISK").map(PathBuf::from)
}

#[test]
fn a_full_disk_refuses_and_damages_nothing() {
    let dir = tempfile::tempdir().unwrap();
    on_own_disk(
        dir.path(),
        24,
        "exec $TEST --exact --nocapture faults::child_on_a_full_disk",
    );
}

/// The child of the test above.
#[test]
fn child_on_a_full_disk() {
    let Some(dir) = disk() else { return };
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![0; 8 << 20]).unwrap();
    let journal = Journal::open(&dir).unwrap();
    let held = lease(&journal, "a");
    let large = vec![b'x'; 300_000];
    let mut after = 0;
    let refused = loop {
        match journal.append(
            &held,
            after,
            0,
            Standing::Due,
            &[large.clone(), b"end".to_vec()],
        ) {
            Ok(number) => after = number,
            Err(error) => break error,
        }
        assert!(after < 1000, "the disk is never full");
    };
    assert!(matches!(refused, JournalError::Full { .. }), "{refused}");
    assert!(
        matches!(journal.put_blob(&large), Err(JournalError::Full { .. })),
        "a blob had room that an event had not"
    );
    // Also a journal that is opened then is as it was.
    let read = Journal::open(&dir).unwrap().read(&run("a"), 0).unwrap();
    assert_eq!(read.len() as u64, after);
    std::fs::remove_file(&ballast).unwrap();
    let last = journal
        .append(
            &held,
            after,
            0,
            Standing::Due,
            &[large.clone(), b"end".to_vec()],
        )
        .unwrap();
    assert_eq!(last, after + 2);
    drop((held, journal));
    let read = Journal::open(&dir).unwrap().read(&run("a"), 0).unwrap();
    assert_eq!(read.len() as u64, last);
    assert!(
        read.iter()
            .zip(1..)
            .all(|(event, number)| event.number == number)
    );
}

#[test]
fn a_file_system_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mount = format!("mount -o remount,ro {}", dir.path().display());
    on_own_disk(
        dir.path(),
        24,
        &format!(
            "$TEST --exact faults::child_that_writes; {mount}; exec $TEST --exact --nocapture faults::child_that_cannot_write"
        ),
    );
}

/// A child of the test above.
#[test]
fn child_that_writes() {
    let Some(dir) = disk() else { return };
    let journal = Journal::open(&dir).unwrap();
    let held = lease(&journal, "a");
    journal
        .append(&held, 0, 0, Standing::Due, &[b"one".to_vec()])
        .unwrap();
}

/// The other.
#[test]
fn child_that_cannot_write() {
    let Some(dir) = disk() else { return };
    let refused = Journal::open(&dir).map(|_| ()).unwrap_err();
    assert!(
        matches!(&refused, JournalError::Unusable { path, .. } if path.starts_with(&dir)),
        "{refused}"
    );
    let elsewhere = dir.join("new");
    assert!(matches!(
        Journal::open(&elsewhere),
        Err(JournalError::Unusable { .. })
    ));
}

#[test]
fn a_program_that_holds_the_file_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let held = lease(&journal, "a");
    let raw = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    let appended = std::thread::scope(|scope| {
        let appended =
            scope.spawn(|| journal.append(&held, 0, 0, Standing::Due, &[b"one".to_vec()]));
        std::thread::sleep(Duration::from_millis(700));
        // Whoever reads is not kept waiting.
        assert_eq!(journal.read(&run("a"), 0).unwrap(), []);
        raw.execute_batch("ROLLBACK").unwrap();
        appended.join().unwrap()
    });
    assert_eq!(appended, Ok(1));
    assert!(begun.elapsed() >= Duration::from_millis(700));
}

/// A child that ends with its test, however that ends.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child of the test below.
#[test]
fn child_that_writes_again_and_again() {
    let Some(dir) = disk() else { return };
    let journal = Journal::open(&dir).unwrap();
    let held = lease(&journal, "child");
    let mut after = 0;
    loop {
        after = journal
            .append(&held, after, 0, Standing::Due, &[vec![b'x'; 300]])
            .unwrap();
        // SQLite lets whoever waits for the file try now and then: without a pause nobody else would have it for seconds.
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn a_moat_that_stands_still_in_the_midst_of_a_write_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open_within(dir.path(), Duration::from_secs(1)).unwrap();
    let held = lease(&journal, "a");
    let child = Running(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::child_that_writes_again_and_again"])
            .env("JOURNAL_DISK", dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let signal = |signal| kill_process(Pid::from_child(&child.0), signal).unwrap();
    while journal.read(&run("child"), 0).unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // It writes half of the time: soon it is stopped while it does.
    let mut after = 0;
    let refused = loop {
        signal(Signal::STOP);
        match journal.append(&held, after, 0, Standing::Due, &[b"one".to_vec()]) {
            Ok(number) => after = number,
            Err(error) => break error,
        }
        signal(Signal::CONT);
        std::thread::sleep(Duration::from_micros(300 * after));
    };
    let by = Some(Keeper {
        pid: child.0.id(),
        stands_still: true,
    });
    assert!(
        matches!(&refused, JournalError::Busy { by: named, .. } if *named == by),
        "{refused}"
    );
    let command = format!("kill -CONT {}", child.0.id());
    assert!(refused.to_string().contains(&command), "{refused}");
    // Whoever only looks, or opens the journal, is not kept waiting.
    let other = Journal::open_within(dir.path(), Duration::ZERO).unwrap();
    assert_eq!(other.read(&run("a"), 0).unwrap().len() as u64, after);
    signal(Signal::CONT);
    journal
        .append(&held, after, 0, Standing::Due, &[b"one".to_vec()])
        .unwrap();
}

#[test]
fn whoever_stands_still_while_it_opens_the_journal_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(Journal::open(dir.path()).unwrap());
    let opening = std::fs::File::open(dir.path().join("opening.lock")).unwrap();
    opening.lock().unwrap();
    let refused = Journal::open_within(dir.path(), Duration::from_millis(50)).unwrap_err();
    let by = Some(Keeper {
        pid: std::process::id(),
        stands_still: false,
    });
    assert!(
        matches!(&refused, JournalError::Busy { by: named, .. } if *named == by),
        "{refused}"
    );
    drop(opening);
    Journal::open_within(dir.path(), Duration::from_millis(50)).unwrap();
}

#[test]
fn times_are_data_and_nothing_is_decided_by_them() {
    const DAY: u64 = 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    let (journal, other) = (
        Journal::open(dir.path()).unwrap(),
        Journal::open(dir.path()).unwrap(),
    );
    // By the wall clock this lease is from the day after tomorrow, and then from long ago.
    for since in [u64::MAX >> 1, 0] {
        let owner = Owner::this(since);
        let held = journal
            .lease(&run("a"), &owner, monotonic_ms(), 30_000)
            .unwrap();
        let refused = other.lease(&run("a"), &Owner::this(9 * DAY), monotonic_ms(), 30_000);
        assert!(matches!(refused, Err(JournalError::Held { .. })));
        let after = journal.read(&run("a"), 0).unwrap().len() as u64;
        for (number, at_ms) in (after..).zip([9 * DAY, 2 * DAY, 0]) {
            journal
                .append(&held, number, at_ms, Standing::Due, &[vec![]])
                .unwrap();
        }
    }
    assert_eq!(journal.read(&run("a"), 0).unwrap().len(), 6);
}
