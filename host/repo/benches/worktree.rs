//! A worktree of 10,000 files: `materialise` against `git worktree add`, and the import of it; one run, ratios printed.
//!
//! `cargo bench -p repo --bench worktree`, or with another number of files: `-- 1000`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints its figures"
)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use repo::{ImportRules, Mirror, Source};

const ROUNDS: usize = 5;

fn main() {
    let count: usize = std::env::args()
        .skip(1)
        .find_map(|a| a.parse().ok())
        .unwrap_or(10_000);
    let dir = tempfile::tempdir().unwrap();
    let user = dir.path().join("user");
    for n in 0..count {
        let path = user.join(format!("d{}/e{}/f{n}.rs", n % 20, n % 400));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("// file {n}\n").repeat(n % 500 + 1)).unwrap();
    }
    git(&user, &["init", "-q", "-b", "main"]);
    git(&user, &["add", "-A"]);
    git(&user, &["commit", "-q", "-m", "all"]);
    git(&user, &["gc", "-q"]);

    let mirror = Mirror::open_or_create(&dir.path().join("mirror.git")).unwrap();
    let source = Source::open(&user).unwrap();
    let (fetched, tip) = timed(|| mirror.fetch(&source, "main").unwrap());
    let tree = mirror.tree_of(&tip).unwrap();

    // Alternating, so that both meet the same weather.
    let (mut ours, mut gits, mut imports) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let path = dir.path().join(format!("ours-{round}"));
        let (took, done) = timed(|| mirror.materialise(&tree, &path, &|_, _| true).unwrap());
        assert_eq!(done.files as usize, count);
        ours.push(took);
        let path = dir.path().join(format!("git-{round}"));
        let (took, ()) = timed(|| {
            git(
                &user,
                &["worktree", "add", "-q", "--detach", path.to_str().unwrap()],
            )
        });
        gits.push(took);
    }
    for round in 0..ROUNDS {
        let path = dir.path().join(format!("ours-{round}"));
        std::fs::write(path.join("d0/e0/f0.rs"), format!("changed {round}")).unwrap();
        let (took, report) = timed(|| {
            mirror
                .import(&path, &tree, &ImportRules::default())
                .unwrap()
        });
        assert_eq!(report.changed.len(), 1);
        imports.push(took);
    }
    let (ours, gits, imports) = (median(ours), median(gits), median(imports));
    println!("{count} files, median of {ROUNDS}, 2 or more writers");
    println!("fetch into a new mirror   {:8.1} ms", ms(fetched));
    println!("git worktree add          {:8.1} ms", ms(gits));
    println!(
        "materialise               {:8.1} ms   {:.2} of git worktree add",
        ms(ours),
        ms(ours) / ms(gits)
    );
    println!(
        "import, one file changed  {:8.1} ms   {:.2} of git worktree add",
        ms(imports),
        ms(imports) / ms(gits)
    );
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn git(directory: &Path, args: &[&str]) {
    // A collection in the background would disturb the measurement and the collection that we ask for.
    let done = Command::new("git")
        .args([
            "-c",
            "user.name=User",
            "-c",
            "user.email=user@example.com",
            "-c",
            "maintenance.auto=false",
        ])
        .args(args)
        .current_dir(directory)
        .status()
        .unwrap();
    assert!(done.success(), "git {args:?}");
}
