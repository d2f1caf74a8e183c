//! Worktrees by each of the means: they look alike, take the same changes, and come to the same tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use flow::id::TreeId;
use repo::{Bases, EntryKind, Files, ImportReport, ImportRules, Means, Part, Worktree};

use crate::fixture::{Fixture, fixture, snapshot};

const ALL_MEANS: [Means; 3] = [Means::Checkout, Means::Clone, Means::Layer];

const FILES: [(&str, &str); 12] = [
    (".gitignore", "target/\n*.log\n"),
    ("a", "1"),
    ("b.sh", "#!/bin/sh\n"),
    ("dir/one", "one"),
    ("dir/two", "two"),
    ("dir/deep/three", "three"),
    ("dir/deep/er/four", "four"),
    ("secret/key", "SECRET"),
    ("half/seen", "seen"),
    ("half/.env", "SECRET"),
    ("only/.env", "SECRET"),
    ("z", "last"),
];

/// What the same repository held before: other content, other kinds, other places, less and more, also of what is not seen.
const OLDER: [(&str, &str); 13] = [
    (".gitignore", "older\n"),
    ("a", "older"),
    ("b.sh/inside/older", "older"),
    ("dir/one", "one"),
    ("dir/deep", "older"),
    ("dir/older/still", "older"),
    ("older/than", "older"),
    ("older/secret", "older"),
    ("secret/key", "OLDER SECRET"),
    ("secret/older", "OLDER SECRET"),
    ("half", "older"),
    ("only/.env/older", "older"),
    ("z", "older"),
];

/// What a writer does in the worktree; each in one of its own.
const DEEDS: [&str; 32] = [
    "true",
    "echo changed > a",
    "printf 1 > a; touch -d 2001-01-01 z; cat z > copy; mv copy z",
    "echo new > new; mkdir -p x/y; echo deep > x/y/z",
    "rm a",
    "chmod +x a; chmod -x b.sh",
    "mv a renamed",
    "mv dir moved",
    "mv dir/deep deep; mv dir/one dir/deep",
    "rm -r dir",
    "rm -r dir; mkdir dir",
    "rm -r dir; mkdir dir; echo other > dir/one; mkdir dir/deep; echo new > dir/deep/new",
    "rm -r dir/deep/er; mkdir -p dir/deep/er/four; echo now-a-directory > dir/deep/er/four/x",
    "rm -r dir; echo a-file > dir",
    "rm a; mkdir a; echo inside > a/file",
    "rm a; ln -s dir/one a; ln -s ../../etc/passwd out; ln -s /etc/passwd abs",
    "rm -r dir; ln -s half dir",
    "rm dir/one; echo again > dir/one; rm dir/two",
    "rm dir/one dir/two; rm -r dir/deep; rmdir dir",
    "mkfifo pipe; rm z; mkfifo z",
    "ln a hard; ln dir/one dir/deep/hard",
    "chmod u+s a; chmod 1777 dir",
    "mkdir target; echo built > target/x; echo log > a.log; mkdir -p dir/target; echo y > dir/target/y",
    "mkdir -p secret; echo planted > secret/key; echo planted > secret/new",
    "rm -r half; mkdir half; echo planted > half/.env; echo kept > half/new",
    "rm -rf half only",
    "rm -rf only; echo file > only",
    "echo x > A; mkdir DIR; echo y > DIR/x",
    "mkdir .git; echo x > .git/config; mkdir dir/.GIT; echo x > 'a\\b'; echo x > aux.c",
    "rm -rf ./* ./.gitignore",
    "rm -rf ./* ; mkdir dir; echo two > dir/two; rm dir/two; echo one > dir/one",
    "mkdir -p 1/2/3/4/5/6/7/8; echo x > 1/2/3/4/5/6/7/8/x; rm -r 1/2/3/4; echo y > 1/2/3/4",
];

fn shown(path: &str, kind: EntryKind) -> bool {
    !(path.ends_with(".env") || (path == "secret" && kind == EntryKind::Directory))
}

fn hidden(path: &str) -> bool {
    path.ends_with(".env") || path == "secret" || path.starts_with("secret/")
}

const SHOWN: Part<'static> = Part {
    name: "without-secrets",
    keep: &shown,
};

struct Place {
    fixture: Fixture,
    base: TreeId,
    bases: Bases,
    /// What is written whole for clones would be found by layers as well.
    for_clones: Bases,
    /// What a layer lies over.
    lower: usize,
    made: u32,
}

impl Place {
    fn new() -> Place {
        Place::of(fixture(&FILES))
    }

    /// One where an older tree's base is there, and a layer over it shows the tree: the older one is so much larger that the tree differs little.
    fn stacked() -> Place {
        let fixture = fixture(&OLDER);
        let weight = fixture.user().join("older/weight");
        fs::write(weight, vec![0; 6 << 20]).unwrap();
        fixture.commit(&[]);
        let (_, older) = fixture.fetch();
        let bases = Bases::at(&fixture.dir.path().join("bases"));
        bases.lease(&fixture.mirror, &older, &SHOWN).unwrap();
        for path in OLDER.iter().map(|(path, _)| fixture.user().join(path)) {
            fs::remove_file(path).unwrap();
        }
        for path in ["b.sh", "secret", "only", "older", "dir/older"] {
            fs::remove_dir_all(fixture.user().join(path)).unwrap();
        }
        fixture.commit(&FILES);
        Place {
            lower: 2,
            ..Place::of(fixture)
        }
    }

    fn each() -> [Place; 2] {
        [Place::new(), Place::stacked()]
    }

    fn of(fixture: Fixture) -> Place {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(fixture.user().join("b.sh"), mode).unwrap();
        fixture.commit(&[]);
        let (_, base) = fixture.fetch();
        let bases = Bases::at(&fixture.dir.path().join("bases"));
        let for_clones = Bases::at(&fixture.dir.path().join("bases-for-clones"));
        Place {
            fixture,
            base,
            bases,
            for_clones,
            lower: 1,
            made: 0,
        }
    }

    fn worktree(&mut self, means: Means) -> Worktree {
        self.made += 1;
        let path = self.fixture.dir.path().join(format!("w{}", self.made));
        let mirror = &self.fixture.mirror;
        let bases = match means {
            Means::Clone => &self.for_clones,
            Means::Layer | Means::Checkout => &self.bases,
        };
        let made = bases.worktree(mirror, &self.base, &SHOWN, &path, means);
        let made = made.unwrap();
        if let Files::Layers { lower, .. } = made.files() {
            assert_eq!(lower.len(), self.lower, "{lower:?}");
        }
        made
    }

    fn import(&self, worktree: &Worktree) -> ImportReport {
        let rules = ImportRules {
            withheld: &hidden,
            writable: &|path| path != "z",
            ..ImportRules::default()
        };
        let mirror = &self.fixture.mirror;
        worktree.import(mirror, &self.base, &rules).unwrap()
    }
}

/// Runs a script in a worktree, as it is seen when it is mounted, and answers with what it printed.
fn act(worktree: &Worktree, scratch: &Path, script: &str) -> String {
    let mut command = match worktree.files() {
        Files::Directory(root) => {
            let mut command = Command::new("sh");
            command.arg("-c").arg(script).current_dir(root);
            command
        }
        Files::Layers { lower, upper } => {
            let (work, seen) = (scratch.join("work"), scratch.join("seen"));
            for directory in [&work, &seen] {
                fs::create_dir_all(directory).unwrap();
            }
            let lower: Vec<&str> = lower.iter().map(|layer| layer.to_str().unwrap()).collect();
            let options = format!(
                "userxattr,index=off,volatile,lowerdir={},upperdir={},workdir={}",
                lower.join(":"),
                upper.display(),
                work.display()
            );
            let mut command = Command::new("unshare");
            command
                .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
                .arg("mount -t overlay overlay -o \"$1\" \"$2\" && cd \"$2\" && exec sh -c \"$3\"")
                .args(["sh", &options])
                .arg(&seen)
                .arg(script);
            command
        }
    };
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    // The kernel leaves a directory without permissions, which only root could remove as it is.
    let left = scratch.join("work/work");
    if left.exists() {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&left, mode).unwrap();
        fs::remove_dir_all(left).unwrap();
    }
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that can be seen of files, but for times and inodes.
const LOOK: &str = "find . ! -name . ! -type d -printf '%P %y %m %s %l\\n' | sort; find . -type d -printf '%P/ %m\\n' | sort; \
    find . -type f -print0 | sort -z | xargs -0r cat";

/// What must be the same whatever the means; how much was read for it is not.
fn told(report: ImportReport) -> impl PartialEq + std::fmt::Debug {
    (
        report.tree,
        report.changed,
        report.refused,
        report.refused_more,
        report.ignored,
    )
}

#[test]
fn whatever_the_means_a_worktree_looks_and_is_taken_in_alike() {
    for mut place in Place::each() {
        for deed in DEEDS {
            let mut seen = Vec::new();
            for means in ALL_MEANS {
                let worktree = place.worktree(means);
                let scratch = tempfile::tempdir_in(place.fixture.dir.path()).unwrap();
                let script = format!("set -e; umask 022; ({LOOK}); {deed}; echo; {LOOK}");
                let looked = act(&worktree, scratch.path(), &script);
                seen.push((looked, told(place.import(&worktree))));
            }
            for other in &seen[1..] {
                assert_eq!(&seen[0], other, "{deed}");
            }
        }
    }
}

/// A layer is looked through as far as it goes, and no further.
#[test]
fn what_was_not_touched_is_not_read() {
    let mut place = Place::new();
    let worktree = place.worktree(Means::Layer);
    let scratch = tempfile::tempdir_in(place.fixture.dir.path()).unwrap();
    act(&worktree, scratch.path(), "echo 2 > dir/one");
    let report = place.import(&worktree);
    assert_eq!((report.files, report.bytes), (1, 2));
    assert_eq!(report.changed.len(), 1);
}

/// Names that a writer comes back to, so that deeds meet one another.
fn random_script(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let path = |next: &mut dyn FnMut(u64) -> u64| {
        let names = ["dir", "deep", "one", "a", "half", "x"];
        let depth = 1 + next(3);
        let parts: Vec<&str> = (0..depth).map(|_| names[next(6) as usize]).collect();
        parts.join("/")
    };
    let mut script = String::from("umask 022\n");
    for step in 0..12 {
        let (one, other) = (path(&mut next), path(&mut next));
        let deed = match next(8) {
            0 | 1 => format!("mkdir -p $(dirname {one}) && echo {step} > {one}"),
            2 => format!("rm -rf {one}"),
            3 => format!("mkdir -p {one}"),
            4 => format!("mv {one} {other}"),
            5 => format!("chmod 755 {one}"),
            6 => format!("ln -s one {one}"),
            _ => format!("cp {one} {other}"),
        };
        script.push_str(&format!("( {deed} ) 2>/dev/null || true\n"));
    }
    script
}

#[test]
fn random_deeds_come_to_the_same_tree() {
    for (mut place, seeds) in Place::each().into_iter().zip([1..=20, 21..=40]) {
        for seed in seeds {
            let script = format!("{}{LOOK}", random_script(seed));
            let mut seen = Vec::new();
            for means in [Means::Checkout, Means::Layer] {
                let worktree = place.worktree(means);
                let scratch = tempfile::tempdir_in(place.fixture.dir.path()).unwrap();
                let looked = act(&worktree, scratch.path(), &script);
                seen.push((looked, told(place.import(&worktree))));
            }
            assert_eq!(seen[0], seen[1], "seed {seed}: {script}");
        }
    }
}

/// A worktree of a tree that differs little from another looks like one of its own, and comes to it again.
#[test]
fn what_only_differs_is_written_over_another_base() {
    let mut place = Place::new();
    let whole = |place: &mut Place, tree: &TreeId, like: &TreeId, means| {
        place.made += 1;
        let path = place.fixture.dir.path().join(format!("w{}", place.made));
        let mirror = &place.fixture.mirror;
        let made = place.bases.worktree_like(mirror, tree, like, &path, means);
        (made.unwrap(), path)
    };
    let base = place.base.clone();
    let mut trees = vec![];
    for deed in DEEDS.into_iter().step_by(2) {
        let (worktree, path) = whole(&mut place, &base, &base, Means::Checkout);
        let scratch = tempfile::tempdir_in(place.fixture.dir.path()).unwrap();
        act(&worktree, scratch.path(), &format!("umask 022; {deed}"));
        let mirror = &place.fixture.mirror;
        let taken = worktree.import(mirror, &base, &ImportRules::default());
        trees.push((deed, taken.unwrap().tree));
        fs::remove_dir_all(path).unwrap();
    }
    let mut written = 0;
    for (deed, made) in trees {
        for (tree, like) in [(&made, &base), (&base, &made)] {
            let mut seen = vec![];
            for means in ALL_MEANS {
                let (worktree, path) = whole(&mut place, tree, like, means);
                let scratch = tempfile::tempdir_in(place.fixture.dir.path()).unwrap();
                seen.push(act(&worktree, scratch.path(), LOOK));
                let mirror = &place.fixture.mirror;
                let again = worktree.import(mirror, like, &ImportRules::default());
                let again = again.unwrap();
                assert_eq!(again.tree, *tree, "{means:?} {deed}");
                assert_eq!(again.refused, []);
                if means == Means::Layer {
                    written += again.files;
                }
                fs::remove_dir_all(path).unwrap();
            }
            for other in &seen[1..] {
                assert_eq!(&seen[0], other, "{deed}");
            }
        }
    }
    let all = (DEEDS.len() * FILES.len()) as u64;
    assert!(written < all / 3, "{written} of {all} files");
}

#[test]
fn the_shared_base_stays_as_it_is() {
    for mut place in Place::each() {
        let stack = place
            .bases
            .stack(&place.fixture.mirror, &place.base, &SHOWN)
            .unwrap();
        let whole = place
            .for_clones
            .lease(&place.fixture.mirror, &place.base, &SHOWN)
            .unwrap();
        let all = || {
            stack
                .layers()
                .iter()
                .map(PathBuf::as_path)
                .chain([whole.path()])
        };
        let shown = || all().map(snapshot);
        let before: Vec<_> = shown().collect();
        for means in [Means::Clone, Means::Layer] {
            let worktree = place.worktree(means);
            let scratch = tempfile::tempdir_in(place.fixture.dir.path()).unwrap();
            act(
                &worktree,
                scratch.path(),
                "rm -rf dir; echo 2 > a; chmod 600 b.sh; echo 3 > dir",
            );
        }
        assert!(shown().eq(before));
    }
}

#[test]
fn what_is_there_can_be_asked_in_every_form() {
    for mut place in Place::each() {
        for means in ALL_MEANS {
            let worktree = place.worktree(means);
            let scratch = tempfile::tempdir_in(place.fixture.dir.path()).unwrap();
            let script =
                "rm -r dir/deep; mkdir dir/deep; rm z; ln -s dir link; rm a; mkdir a; echo 1 > new";
            act(&worktree, scratch.path(), script);
            for (path, there) in [
                ("", true),
                ("dir", true),
                ("dir/one", true),
                ("dir/deep", true),
                ("dir/deep/three", false),
                ("a", true),
                ("a/x", false),
                ("z", false),
                ("new", true),
                ("new/x", false),
                ("link", false),
                ("link/one", false),
                ("secret", false),
                ("half/seen", true),
                ("b.sh/inside", false),
                ("older", false),
                ("older/than", false),
                ("..", false),
            ] {
                assert_eq!(worktree.has(Path::new(path)), there, "{means:?} {path}");
            }
        }
    }
}

/// What no mount of ours makes is not guessed at.
#[test]
fn a_layer_with_unknown_marks_is_not_taken() {
    for (what, value) in [("redirect", "/dir"), ("metacopy", ""), ("opaque", "x")] {
        let mut place = Place::new();
        let worktree = place.worktree(Means::Layer);
        let Files::Layers { upper, .. } = worktree.files() else {
            unreachable!()
        };
        let marked = match what {
            "metacopy" => upper.join("a"),
            _ => upper.join("dir"),
        };
        match what {
            "metacopy" => fs::write(&marked, "").unwrap(),
            _ => fs::create_dir(&marked).unwrap(),
        }
        let (name, flags) = (
            format!("user.overlay.{what}"),
            rustix::fs::XattrFlags::empty(),
        );
        rustix::fs::setxattr(&marked, name, value.as_bytes(), flags).unwrap();
        let rules = ImportRules::default();
        let taken = worktree.import(&place.fixture.mirror, &place.base, &rules);
        assert!(
            matches!(&taken, Err(repo::ImportError::Layer { .. })),
            "{what}: {taken:?}"
        );
    }
}
