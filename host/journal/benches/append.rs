//! One durable event against one write and fdatasync on the same disk, paired in one run: `cargo bench -p journal`.
//!
//! Twice: while SQLite's log still grows, and after its first checkpoint, from which on it writes over what is there.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints"
)]

use std::io::Write as _;
use std::time::{Duration, Instant};

use journal::{Journal, Owner, monotonic_ms};

/// The log is checkpointed at 1,000 pages, and an event takes two or more.
const ROUNDS: u64 = 500;

fn main() {
    let directory = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    let run = "r1".parse().unwrap();
    let owner = Owner::this(0);
    let lease = journal
        .lease(&run, &owner, monotonic_ms(), 1 << 30)
        .unwrap();
    let mut file = std::fs::File::create(directory.path().join("bare")).unwrap();
    let body = vec![b'x'; 300];
    for (phase, first) in [("growing", 0), ("after a checkpoint", ROUNDS)] {
        let (mut bare, mut appended) = (Vec::new(), Vec::new());
        for number in first..first + ROUNDS {
            let begun = Instant::now();
            file.write_all(&body).unwrap();
            file.sync_data().unwrap();
            bare.push(begun.elapsed());
            let begun = Instant::now();
            journal
                .append(&lease, number, 0, std::slice::from_ref(&body))
                .unwrap();
            appended.push(begun.elapsed());
        }
        let (bare, appended) = (median(bare), median(appended));
        println!(
            "{phase}: write and fdatasync {bare:?}, event {appended:?}, ratio {:.2}",
            appended.as_secs_f64() / bare.as_secs_f64()
        );
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
