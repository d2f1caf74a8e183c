//! A confined start against a plain one and bubblewrap's, alternately in one run: `cargo bench -p confine`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints"
)]

use std::process::Stdio;
use std::time::{Duration, Instant};

use confine::{Command, Launcher, Limits, Mount, Network};

const ROUNDS: usize = 300;

/// Between two starts: long enough for the next launcher to be ready, as it is when programs run for more than a moment.
const PAUSE: Duration = Duration::from_millis(10);

/// What bubblewrap shows and takes away that is like ours.
const BUBBLEWRAP: &[&str] = &[
    "--unshare-all",
    "--die-with-parent",
    "--ro-bind",
    "/usr",
    "/usr",
    "--ro-bind",
    "/lib",
    "/lib",
    "--ro-bind",
    "/lib64",
    "/lib64",
    "--ro-bind",
    "/bin",
    "/bin",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--tmpfs",
    "/tmp",
    "/bin/true",
];

fn main() {
    confine::enter_if_asked();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let program = std::env::current_exe().unwrap();
    let launcher = Launcher::new(&program);
    let timed = |what: &mut dyn FnMut()| {
        let begun = Instant::now();
        what();
        begun.elapsed()
    };
    let confined = |launcher: &Launcher| {
        runtime.block_on(launcher.run(command())).unwrap();
    };
    let bubblewrap = plain("bwrap", &["--version"]);
    let (mut bare, mut warm, mut cold, mut theirs) = (vec![], vec![], vec![], vec![]);
    confined(&launcher);
    for _ in 0..ROUNDS {
        std::thread::sleep(PAUSE);
        bare.push(timed(&mut || assert!(plain("/bin/true", &[]))));
        warm.push(timed(&mut || confined(&launcher)));
        std::thread::sleep(PAUSE);
        if bubblewrap {
            theirs.push(timed(&mut || assert!(plain("bwrap", BUBBLEWRAP))));
        }
        // One that has no launcher waiting.
        let unused = Launcher::new(&program);
        cold.push(timed(&mut || confined(&unused)));
    }
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        confined(&launcher);
    }
    let row = begun.elapsed() / ROUNDS as u32;
    let bare = median(bare);
    let theirs = bubblewrap.then(|| median(theirs));
    println!("plain {bare:?}; bubblewrap {theirs:?}");
    for (name, time) in [
        ("confined, a launcher waiting", median(warm)),
        ("confined, none waiting", median(cold)),
        ("confined, one after the other without a pause, mean", row),
    ] {
        print!(
            "{name}: {time:?}, {:.2} of plain",
            time.as_secs_f64() / bare.as_secs_f64()
        );
        match theirs {
            Some(theirs) => println!(
                ", {:.2} of bubblewrap",
                time.as_secs_f64() / theirs.as_secs_f64()
            ),
            None => println!("; bubblewrap is not installed"),
        }
    }
}

fn plain(program: &str, args: &[&str]) -> bool {
    let mut command = std::process::Command::new(program);
    command.args(args).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
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
