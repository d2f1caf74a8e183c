//! Durable appends against one write and fdatasync on the same disk, paired in one run: `cargo bench -p journal`.
//!
//! One after another, from the journal's first append on; by many writers at once; and what it takes to read 10,000 interrupted runs.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints"
)]

use std::io::Write as _;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use journal::{Journal, Lease, Owner, Standing, monotonic_ms};

const ROUNDS: u64 = 500;
const BODY_BYTES: usize = 300;

fn main() {
    // On the disk that this is built on: what is in memory has no fdatasync.
    let directory = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    sequential(&directory.path().join("sequential"));
    for writers in [1, 10, 64, 100] {
        at_once(&directory.path().join(format!("{writers}")), writers);
    }
    known_again(&directory.path().join("runs"));
}

fn lease(journal: &Journal, run: &str) -> Lease {
    let (run, owner) = (run.parse().unwrap(), Owner::this(0));
    journal
        .lease(&run, &owner, monotonic_ms(), 1 << 30)
        .unwrap()
}

/// One durable step after another, each beside a bare one.
fn sequential(directory: &Path) {
    let journal = Journal::open(directory).unwrap();
    let lease = lease(&journal, "r1");
    // As large as it gets: a file that grows has a price of its own, which is not meant here.
    let mut file = std::fs::File::create(directory.join("bare")).unwrap();
    let body = vec![b'x'; BODY_BYTES];
    for (phase, first) in [("the first", 0), ("the next", ROUNDS), ("then", 2 * ROUNDS)] {
        let (mut bare, mut appended) = (Vec::new(), Vec::new());
        for number in first..first + ROUNDS {
            let begun = Instant::now();
            file.write_all(&body).unwrap();
            file.sync_data().unwrap();
            bare.push(begun.elapsed());
            let begun = Instant::now();
            journal
                .append(
                    &lease,
                    number,
                    0,
                    Standing::Due,
                    std::slice::from_ref(&body),
                )
                .unwrap();
            appended.push(begun.elapsed());
        }
        let (bare, appended) = (median(bare), median(appended));
        println!(
            "{phase} {ROUNDS}: write and fdatasync {bare:?}, event {appended:?}, ratio {:.2}",
            appended.as_secs_f64() / bare.as_secs_f64()
        );
    }
}

/// Writers that each wait for their append before the next one, as runs do; and the same with the events of a whole step in each append.
fn at_once(directory: &Path, writers: u64) {
    let journal = Journal::open(directory).unwrap();
    let bare = bare(directory);
    for events in [1, 8] {
        let rounds = 20_000 / (writers * 10) + 50;
        let together = Barrier::new(writers as usize + 1);
        let (journal, barrier) = (&journal, &together);
        let elapsed = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..writers)
                .map(|writer| {
                    scope.spawn(move || {
                        let lease = lease(journal, &format!("r{events}-{writer}"));
                        let bodies = vec![vec![b'x'; BODY_BYTES]; events];
                        barrier.wait();
                        (0..rounds).fold(0, |after, _| {
                            journal
                                .append(&lease, after, 0, Standing::Due, &bodies)
                                .unwrap()
                        });
                    })
                })
                .collect();
            barrier.wait();
            let begun = Instant::now();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            begun.elapsed()
        });
        let total = (writers * rounds * events as u64) as f64;
        let rate = total / elapsed.as_secs_f64();
        println!(
            "{writers} writers, {events} events an append: {rate:.0} durable events/s; one write and fdatasync takes {bare:?}, which is {:.0}/s",
            1.0 / bare.as_secs_f64()
        );
    }
}

fn bare(directory: &Path) -> Duration {
    let mut file = std::fs::File::create(directory.join("bare")).unwrap();
    let body = vec![b'x'; BODY_BYTES];
    let times = (0..200).map(|_| {
        let begun = Instant::now();
        file.write_all(&body).unwrap();
        file.sync_data().unwrap();
        begun.elapsed()
    });
    median(times.collect())
}

/// 10,000 runs of 20 events each, as a machine that lost its power leaves them.
fn known_again(directory: &Path) {
    const RUNS: u64 = 10_000;
    const EVENTS: u64 = 20;
    let journal = Journal::open(directory).unwrap();
    let body = vec![b'x'; BODY_BYTES];
    // In turns, as runs that are driven at once write; no more of them at once than a process may have files open.
    for first in (0..RUNS).step_by(500) {
        let leases: Vec<Lease> = (first..first + 500)
            .map(|run| lease(&journal, &format!("r{run:05}")))
            .collect();
        for after in (0..EVENTS).step_by(2) {
            let bodies = vec![body.clone(); 2];
            let asked: Vec<_> = leases
                .iter()
                .map(|lease| journal.append_soon(lease, after, 0, Standing::Due, bodies.clone()))
                .collect();
            for one in asked {
                one.wait().unwrap();
            }
        }
    }
    drop(journal);
    let times = (0..9).map(|_| {
        let begun = Instant::now();
        let journal = Journal::open(directory).unwrap();
        let (mut events, mut bytes) = (0, 0);
        journal
            .each(0, &mut |placed| {
                events += 1;
                bytes += placed.body.len();
            })
            .unwrap();
        assert_eq!(events, RUNS * EVENTS);
        assert_eq!(bytes as u64, RUNS * EVENTS * BODY_BYTES as u64);
        begun.elapsed()
    });
    println!(
        "{RUNS} runs with {} events read in {:?}",
        RUNS * EVENTS,
        median(times.collect())
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
