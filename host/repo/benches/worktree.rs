//! A worktree of 10,000 files: `materialise` against `git worktree add`, and the import of it; then a thousand of them at one time, by each
//! means: how long they take to make and to remove, and how much of the disk; and a merge of two changes to such a tree, against
//! `git merge-tree`. One run, ratios printed.
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

use flow::id::TreeId;
use repo::{Bases, Files, ImportRules, Means, MergeOutcome, Mirror, Part, Source};

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
    let gits_disk = used(&dir.path().join("git-0"));
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
    merges(&user, &mirror, &source);
    let place = Place {
        directory: dir.path(),
        mirror: &mirror,
        tree: &tree,
    };
    let gits = Cost {
        made: gits,
        removed: removed_by_git(&user, dir.path()),
        disk: gits_disk,
    };
    println!("each, in a row:              made     removed    disk");
    gits.print("git worktree", 1, &gits);
    for (name, means, many) in [
        ("layer", Means::Layer, MANY),
        ("copy", Means::of_copies(dir.path()), 3),
    ] {
        let cost = place.many(means, many);
        cost.print(name, many, &gits);
    }
}

/// Two branches that change a file each.
fn merges(user: &Path, mirror: &Mirror, source: &Source) {
    let tips: Vec<_> = [("one", "d0/e0/f0.rs"), ("other", "d1/e1/f1.rs")]
        .map(|(branch, file)| {
            git(user, &["checkout", "-q", "-b", branch, "main"]);
            std::fs::write(user.join(file), branch).unwrap();
            git(user, &["commit", "-qam", branch]);
            git(user, &["checkout", "-q", "main"]);
            mirror.fetch(source, branch).unwrap()
        })
        .into();
    let (mut ours, mut gits) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (took, merged) = timed(|| mirror.merge(&tips[0], &tips[1]).unwrap());
        assert!(matches!(merged, MergeOutcome::Clean { .. }));
        ours.push(took);
        let merge = ["merge-tree", "--write-tree", "one", "other"];
        gits.push(timed(|| git(user, &merge)).0);
    }
    let (ours, gits) = (median(ours), median(gits));
    println!("git merge-tree            {:8.1} ms", ms(gits));
    println!(
        "merge                     {:8.1} ms   {:.2} of git merge-tree",
        ms(ours),
        ms(ours) / ms(gits)
    );
}

/// Worktrees at one time.
const MANY: u32 = 1_000;

struct Place<'a> {
    directory: &'a Path,
    mirror: &'a Mirror,
    tree: &'a TreeId,
}

/// What worktrees cost, all of them.
struct Cost {
    made: Duration,
    removed: Duration,
    disk: u64,
}

impl Cost {
    fn print(&self, name: &str, count: u32, gits: &Cost) {
        let (made, removed) = (self.made / count, self.removed / count);
        let disk = self.disk as f64 / f64::from(count);
        println!(
            "{name:<13} {count:>6} x {:8.3} ms {:8.3} ms {:7.2} MiB   {:.4}, {:.4} and {:.4} of git's; {:.2} and {:.2} s in all",
            ms(made),
            ms(removed),
            disk / (1 << 20) as f64,
            ms(made) / ms(gits.made),
            ms(removed) / ms(gits.removed),
            disk / gits.disk as f64,
            self.made.as_secs_f64(),
            self.removed.as_secs_f64(),
        );
    }
}

impl Place<'_> {
    /// Makes so many, has one file changed in each as a mount of it would do it, and removes them. The base is counted: in time, and in disk.
    fn many(&self, means: Means, count: u32) -> Cost {
        let root = self.directory.join("many");
        std::fs::create_dir(&root).unwrap();
        let bases = Bases::at(&root.join("bases"));
        let (made, worktrees) = timed(|| {
            let make = |n: u32| {
                let path = root.join(n.to_string());
                let made = bases.worktree(self.mirror, self.tree, &Part::ALL, &path, means);
                made.unwrap()
            };
            (0..count).map(make).collect::<Vec<_>>()
        });
        for worktree in &worktrees {
            let (Files::Directory(root) | Files::Layers { upper: root, .. }) = worktree.files();
            std::fs::create_dir_all(root.join("d0/e0")).unwrap();
            std::fs::write(root.join("d0/e0/f0.rs"), "changed").unwrap();
        }
        let disk = used(&root);
        let (removed, ()) = timed(|| {
            for n in 0..count {
                std::fs::remove_dir_all(root.join(n.to_string())).unwrap();
            }
        });
        drop(worktrees);
        std::fs::remove_dir_all(&root).unwrap();
        Cost {
            made,
            removed,
            disk,
        }
    }
}

fn removed_by_git(user: &Path, directory: &Path) -> Duration {
    let removed = (0..ROUNDS).map(|round| {
        let path = directory.join(format!("git-{round}"));
        let args = ["worktree", "remove", "--force", path.to_str().unwrap()];
        timed(|| git(user, &args)).0
    });
    median(removed.collect())
}

/// What a directory takes of the disk, in whole blocks.
fn used(directory: &Path) -> u64 {
    let output = Command::new("du").arg("-sB1").arg(directory).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
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
        .stdout(std::process::Stdio::null())
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
