//! A confined start against a plain one and bubblewrap's, alternately in one run: `cargo bench -p confine`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints"
)]

use std::path::Path;
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
    // By its path: what it takes to find it is not its own.
    let found = std::env::var_os("PATH").and_then(|path| {
        let mut programs = std::env::split_paths(&path).map(|place| place.join("bwrap"));
        programs.find(|program| program.is_file())
    });
    let (mut bare, mut warm, mut cold, mut theirs) = (vec![], vec![], vec![], vec![]);
    confined(&launcher);
    for _ in 0..ROUNDS {
        std::thread::sleep(PAUSE);
        bare.push(timed(&mut || assert!(plain(Path::new("/bin/true"), &[]))));
        warm.push(timed(&mut || confined(&launcher)));
        std::thread::sleep(PAUSE);
        if let Some(bubblewrap) = &found {
            theirs.push(timed(&mut || assert!(plain(bubblewrap, BUBBLEWRAP))));
        }
        // One that has no launcher waiting.
        let unused = Launcher::new(&program);
        cold.push(timed(&mut || confined(&unused)));
    }
    let mut row = vec![];
    for _ in 0..ROUNDS {
        row.push(timed(&mut || confined(&launcher)));
    }
    let figures = [
        ("plain", &mut bare),
        ("bubblewrap", &mut theirs),
        ("confined, a launcher waiting", &mut warm),
        ("confined, none waiting", &mut cold),
        ("confined, one after the other without a pause", &mut row),
    ];
    // The fastest tenth tells what it costs where the machine had nothing else to do.
    println!("median, fastest tenth, and their ratios to plain and to bubblewrap:");
    let figures = figures.map(|(name, times)| {
        times.sort();
        (
            name,
            [times.len() / 2, times.len() / 10].map(|at| times.get(at).copied()),
        )
    });
    let [(_, plain), (_, theirs), ..] = figures;
    for (name, times) in figures {
        print!("{name}:");
        for (at, time) in times.into_iter().enumerate() {
            let ratio = |to: Option<Duration>| Some(time?.as_secs_f64() / to?.as_secs_f64());
            print!(
                "  {time:.1?} {:.2?} {:.2?}",
                ratio(plain[at]),
                ratio(theirs[at])
            );
        }
        println!();
    }
}

fn plain(program: &Path, args: &[&str]) -> bool {
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
        since: None,
        stdin: vec![],
        pass: vec![],
    }
}
