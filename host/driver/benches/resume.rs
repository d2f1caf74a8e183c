//! 10,000 interrupted runs with 200,000 events known again, beside reading them alone: `cargo bench -p driver --bench resume`.
//!
//! The events are the first of a real run, the demo's sample. *Known* is a list of the runs that have something to do, as `moat runs resume --all`
//! asks for it, once as the journal keeps how each stands, and once as after an upgrade, when it does not: all events are read and applied then.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints"
)]

mod sample;

use std::path::Path;
use std::time::{Duration, Instant};

use driver::House;
use flow::Run;
use flow::id::RunId;
use journal::{Journal, Lease, Owner, Standing, monotonic_ms};

const RUNS: usize = 10_000;
const EVENTS: usize = 20;
const ROUNDS: usize = 9;

/// No more leases at once than a process may have files open.
const AT_ONCE: usize = 500;

fn main() {
    confine::enter_if_asked();
    sandbox::enter_worker_if_asked();
    let directory = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let (first, bodies) = events(directory.path());
    let home = directory.path().join("many");
    fill(&home, &first, &bodies);
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    println!("{RUNS} runs of {EVENTS} events, {} bytes a run", bytes);
    let program = std::env::current_exe().unwrap();
    let (mut read, mut known, mut derived) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let journal = Journal::open(&home).unwrap();
        let mut events = 0;
        journal.each(0, &mut |_| events += 1).unwrap();
        assert_eq!(events, RUNS * EVENTS);
        drop(journal);
        read.push(begun.elapsed());
        let house = House::open(&home, &program).unwrap();
        for times in [&mut known, &mut derived] {
            let begun = Instant::now();
            let runs = driver::interrupted(&house).unwrap();
            assert_eq!(runs.len(), RUNS);
            times.push(begun.elapsed());
            forget(&house.journal);
        }
        driver::interrupted(&house).unwrap();
    }
    let read = median(read);
    for (what, times) in [("known", known), ("derived anew", derived)] {
        let time = median(times);
        let ratio = time.as_secs_f64() / read.as_secs_f64();
        println!("read {read:?}; {what} {time:?}, {ratio:.3} times as long");
    }
    memory(&home);
}

/// As after an upgrade from a moat that did not say how runs stand.
fn forget(journal: &Journal) {
    let unknown = |number| (id(number), EVENTS as u64, Standing::Unknown);
    journal.stand((0..RUNS).map(unknown).collect()).unwrap();
}

/// What a run takes in memory while it is only known.
fn memory(home: &Path) {
    let journal = Journal::open(home).unwrap();
    let ids: Vec<RunId> = (0..RUNS / 10).map(id).collect();
    let before = resident();
    let runs: Vec<Run> = (ids.iter())
        .map(|run| driver::load(&journal, run).unwrap().0)
        .collect();
    println!(
        "the state of a run in memory: {} bytes",
        (resident() - before) / runs.len()
    );
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn id(number: usize) -> RunId {
    format!("r{number:05}").parse().unwrap()
}

/// The first events of a real run, and its id.
fn events(directory: &Path) -> (String, Vec<Vec<u8>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (house, repository) = (directory.join("house"), directory.join("sample"));
    sample::write(&repository);
    let run = runtime.block_on(sample::drive(&house, &repository));
    let journal = Journal::open(&house).unwrap();
    let stored = journal.read(&run, 0).unwrap();
    let bodies = stored.into_iter().map(|one| one.body).take(EVENTS);
    (run.to_string(), bodies.collect())
}

/// The same for each run, written in turns, as runs that are driven at once write.
fn fill(home: &Path, first: &str, bodies: &[Vec<u8>]) {
    let journal = Journal::open(home).unwrap();
    for begin in (0..RUNS).step_by(AT_ONCE) {
        let leases: Vec<Lease> = (begin..begin + AT_ONCE)
            .map(|number| {
                let owner = Owner::this(0);
                journal
                    .lease(&id(number), &owner, monotonic_ms(), 1 << 30)
                    .unwrap()
            })
            .collect();
        for (after, body) in bodies.iter().enumerate() {
            let text = String::from_utf8_lossy(body);
            let asked: Vec<_> = (leases.iter())
                .map(|lease| {
                    let body = text.replace(first, lease.run().as_str()).into_bytes();
                    journal.append_soon(lease, after as u64, 0, Standing::Due, vec![body])
                })
                .collect();
            for one in asked {
                one.wait().unwrap();
            }
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
