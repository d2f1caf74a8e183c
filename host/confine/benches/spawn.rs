//! A confined start against a plain one, paired in one run: `cargo bench -p confine`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints"
)]

use std::time::{Duration, Instant};

use confine::{Command, Launcher, Limits, Mount, Network};

const ROUNDS: usize = 200;

fn main() {
    confine::enter_if_asked();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let launcher = Launcher::new(std::env::current_exe().unwrap());
    let (mut plain, mut confined) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        std::process::Command::new("/bin/true").status().unwrap();
        plain.push(begun.elapsed());
        let begun = Instant::now();
        runtime.block_on(launcher.run(command())).unwrap();
        confined.push(begun.elapsed());
    }
    let (plain, confined) = (median(plain), median(confined));
    println!(
        "plain {plain:?}, confined {confined:?}, ratio {:.2}",
        confined.as_secs_f64() / plain.as_secs_f64()
    );
}

fn command() -> Command {
    let mounts = ["/usr", "/lib", "/lib64", "/bin"]
        .into_iter()
        .filter_map(|path| {
            Some(Mount::ReadOnly {
                host: std::fs::canonicalize(path).ok()?,
                inside: path.into(),
            })
        });
    Command {
        program: "/bin/true".into(),
        args: vec![],
        env: Default::default(),
        directory: "/".into(),
        mounts: mounts.collect(),
        network: Network::None,
        limits: Limits::for_builds(Duration::from_secs(10)),
        stdin: vec![],
        pass: vec![],
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
