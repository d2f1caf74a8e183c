//! A skill call against what it is made of, alternating in one run: `cargo bench -p sandbox`.
//!
//! Warm: a call in a session against bare wasmtime in this process, which does the same without a process border; so for a host call and for a
//! file read, each as the difference of a call with many and one with few. Cold: a call with a worker of its own against a confined start of a
//! program that does nothing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints"
)]

mod bare;
#[allow(
    dead_code,
    reason = "the worker's own file: here only its engine is needed"
)]
#[path = "../../src/worker/engine.rs"]
mod engine;
mod skill;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::{Duration, Instant};

use bare::Bare;
use sandbox::Session;
use skill::Skill;

const ROUNDS: usize = 200;

/// Warm calls are a hundred times shorter than cold ones.
const WARM_PER_ROUND: usize = 10;

/// Host calls, or reads, in a call that makes many.
const MANY: u32 = 1000;

const ECHO: &str = r#"{"do":"echo","value":1}"#;
const FEW_CALLS: &str = r#"{"do":"toil","count":1}"#;
const MANY_CALLS: &str = r#"{"do":"toil","count":1000}"#;
const FEW_READS: &str = r#"{"do":"reread","path":"file","count":1}"#;
const MANY_READS: &str = r#"{"do":"reread","path":"file","count":1001}"#;

fn main() {
    confine::enter_if_asked();
    sandbox::enter_worker_if_asked();
    // As the program has it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let component = probe();
    let directory = tempfile::tempdir().unwrap();
    let view = directory.path().join("view");
    std::fs::create_dir(&view).unwrap();
    std::fs::write(view.join("file"), [b'x'; 4096]).unwrap();
    let bare = Bare::new(&component, &view);
    let skill = Skill::new(&component, directory.path(), &view).await;
    let mut session = skill.open().await;
    warm_and_cold(&bare, &skill, &mut session).await;
    let pair = Pair {
        bare: &bare,
        skill: &skill,
    };
    let calls = pair.each(&mut session, FEW_CALLS, MANY_CALLS).await;
    println!(
        "host call: in process {:.2} us, through broker and worker {:.2} us: {:.2} us more",
        calls.0,
        calls.1,
        calls.1 - calls.0
    );
    let reads = pair.each(&mut session, FEW_READS, MANY_READS).await;
    println!(
        "open and read 4 KiB: bare wasmtime-wasi {:.2} us, under a grant {:.2} us: ratio {:.2}",
        reads.0,
        reads.1,
        reads.1 / reads.0
    );
    session.close().await;
}

struct Pair<'a> {
    bare: &'a Bare,
    skill: &'a Skill,
}

impl Pair<'_> {
    /// What one of [`MANY`] costs, in microseconds at the median, bare and as a skill.
    async fn each(&self, session: &mut Session, few: &str, many: &str) -> (f64, f64) {
        let (mut bare, mut skill) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS / 4 {
            let took = |begun: Instant| begun.elapsed().as_secs_f64();
            // WASI waits for its files by itself, which must not be done on a thread that drives others.
            let said = tokio::task::block_in_place(|| {
                let begun = Instant::now();
                self.bare.call(few);
                let little = took(begun);
                let begun = Instant::now();
                let said = self.bare.call(many);
                bare.push(took(begun) - little);
                said
            });
            let begun = Instant::now();
            self.skill.call(session, few).await;
            let little = took(begun);
            let begun = Instant::now();
            assert_eq!(self.skill.call(session, many).await, said);
            skill.push(took(begun) - little);
        }
        let median = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2] * 1e6 / f64::from(MANY)
        };
        (median(bare), median(skill))
    }
}

async fn warm_and_cold(bare: &Bare, skill: &Skill, session: &mut Session) {
    let mut echo = Echo::new();
    let mut times: [Vec<Duration>; 6] = Default::default();
    let [round_trip, bare_call, warm, spawn, open, cold] = &mut times;
    for _ in 0..ROUNDS {
        for _ in 0..WARM_PER_ROUND {
            let begun = Instant::now();
            echo.once();
            round_trip.push(begun.elapsed());
            let begun = Instant::now();
            bare.call(ECHO);
            bare_call.push(begun.elapsed());
            let begun = Instant::now();
            skill.call(session, ECHO).await;
            warm.push(begun.elapsed());
        }
        let begun = Instant::now();
        skill.spawn_true().await;
        spawn.push(begun.elapsed());
        let begun = Instant::now();
        let opened = skill.open().await;
        open.push(begun.elapsed());
        opened.close().await;
        let begun = Instant::now();
        skill.call_cold().await;
        cold.push(begun.elapsed());
    }
    tell(times);
}

fn tell(times: [Vec<Duration>; 6]) {
    let names = [
        "socket round trip between two threads",
        "bare wasmtime: store, WASI, instance, call, drop",
        "session: warm call",
        "confined /bin/true, same mounts",
        "session: open",
        "cold call: open, call, close",
    ];
    println!("{:50} {:>10} {:>10}", "", "min us", "median us");
    let mut medians = [0.0; 6];
    for ((name, mut times), median) in names.iter().zip(times).zip(&mut medians) {
        times.sort();
        let micros = |at: usize| times[at].as_secs_f64() * 1e6;
        *median = micros(times.len() / 2);
        println!("{name:50} {:10.1} {median:10.1}", micros(0));
    }
    let [round_trip, bare, warm, spawn, open, cold] = medians;
    println!(
        "warm call / bare wasmtime                {:.2}",
        warm / bare
    );
    println!(
        "warm call / (bare wasmtime + round trip) {:.2}",
        warm / (bare + round_trip)
    );
    println!(
        "open / confined /bin/true                {:.2}",
        open / spawn
    );
    println!(
        "cold call / confined /bin/true           {:.2}",
        cold / spawn
    );
}

/// The same guest that the tests use, built as the catalog builds skills.
fn probe() -> Vec<u8> {
    let own = PathBuf::from(env!("CARGO_BIN_EXE_sandbox-worker"));
    let target = own.ancestors().nth(2).unwrap().join("skills");
    let args = "build --quiet --locked -p guests --target wasm32-wasip2 --profile skill";
    let built = Program::new(env!("CARGO"))
        .args(args.split(' '))
        .arg("--target-dir")
        .arg(&target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(built.success(), "rustup target add wasm32-wasip2");
    std::fs::read(target.join("wasm32-wasip2/skill/probe.wasm")).unwrap()
}

/// A thread that sends back what it gets: the least that a call across a border costs.
struct Echo(UnixStream);

impl Echo {
    fn new() -> Echo {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut byte = [0];
            while theirs.read_exact(&mut byte).is_ok() && theirs.write_all(&byte).is_ok() {}
        });
        Echo(ours)
    }

    fn once(&mut self) {
        self.0.write_all(&[1]).unwrap();
        self.0.read_exact(&mut [0]).unwrap();
    }
}
