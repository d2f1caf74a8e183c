//! Base directories: made once, whole or not at all, and never taken away from whoever uses them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use flow::id::TreeId;
use repo::{Base, Bases, Keep, Mirror, Part, Stack, StoreError, Swept};

use crate::fixture::{Fixture, fixture, snapshot, write};

const NOTHING: Keep = Keep {
    idle_max: Duration::ZERO,
    bytes_max: 0,
};

/// What a file is counted for beside its content.
const BLOCK: u64 = 4096;

struct Place {
    fixture: Fixture,
    tree: TreeId,
    bases: Bases,
}

impl Place {
    fn new() -> Place {
        let fixture = fixture(&[("a", "1"), ("dir/b", "2")]);
        let (_, tree) = fixture.fetch();
        let bases = Bases::at(&fixture.dir.path().join("bases"));
        Place {
            fixture,
            tree,
            bases,
        }
    }

    fn lease(&self, part: &Part<'_>) -> Base {
        let lease = self.bases.lease(&self.fixture.mirror, &self.tree, part);
        lease.unwrap()
    }

    /// The directory of the only base there is.
    fn only(&self) -> PathBuf {
        let entries = fs::read_dir(self.bases.root()).unwrap().flatten();
        let mut directories = entries.map(|e| e.path()).filter(|p| p.is_dir());
        let only = directories.next().unwrap();
        assert_eq!(directories.next(), None);
        only
    }
}

/// As if a base had been used at that time, and not since.
fn set_used(base: &Path, at: SystemTime) {
    let lock = fs::File::options()
        .write(true)
        .open(base.with_extension("lock"))
        .unwrap();
    lock.set_modified(at).unwrap();
}

/// Who saw no base and wants to make it, while another has made it and uses it, takes that one; it does not wait for its end.
#[test]
fn nobody_waits_for_the_end_of_anothers_use() {
    let place = Place::new();
    for round in 0..200 {
        let name = format!("round-{round}");
        let part = || Part {
            name: &name,
            ..Part::ALL
        };
        let start = Barrier::new(4);
        let bases: Vec<Base> = std::thread::scope(|scope| {
            let ask = || {
                start.wait();
                place.lease(&part())
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(bases.iter().all(|b| b.path() == bases[0].path()));
    }
}

#[test]
fn a_base_is_written_once_and_shared() {
    let place = Place::new();
    let inodes: Vec<(u64, Base)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let base = place.lease(&Part::ALL);
                    (fs::metadata(base.path().join("dir/b")).unwrap().ino(), base)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(inodes.iter().all(|(ino, _)| *ino == inodes[0].0));
    let seen = snapshot(inodes[0].1.path());
    assert_eq!((&*seen["a"], &*seen["dir/b"], seen.len()), ("1", "2", 3));
    assert!(place.bases.have_grown() && !place.bases.have_grown());
    drop(place.lease(&Part::ALL));
    assert!(!place.bases.have_grown(), "one that is there is no growth");
    let part = Part {
        name: "some",
        keep: &|path, _| path != "a",
    };
    let other = place.lease(&part);
    assert_eq!(
        snapshot(other.path()).len(),
        2,
        "another part is another base"
    );
    for name in ["", "A", "a/b", "..", &"a".repeat(101)] {
        let part = Part { name, ..Part::ALL };
        let refused = place.bases.lease(&place.fixture.mirror, &place.tree, &part);
        assert!(
            matches!(refused, Err(StoreError::PartName { .. })),
            "{name}"
        );
    }
}

#[test]
fn one_in_use_is_never_removed() {
    let place = Place::new();
    let (first, second) = (place.lease(&Part::ALL), place.lease(&Part::ALL));
    let held = Swept {
        left: 1,
        ..Swept::default()
    };
    assert_eq!(place.bases.sweep(NOTHING).unwrap(), held);
    drop(first);
    assert_eq!(place.bases.sweep(NOTHING).unwrap(), held);
    assert_eq!(fs::read_to_string(second.path().join("a")).unwrap(), "1");
    drop(second);
    let removed = Swept {
        removed: 1,
        bytes: 2 * (1 + BLOCK),
        left: 0,
    };
    assert_eq!(place.bases.sweep(NOTHING).unwrap(), removed);
    assert_eq!(fs::read_dir(place.bases.root()).unwrap().count(), 0);
    assert_eq!(
        snapshot(place.lease(&Part::ALL).path()).len(),
        3,
        "and again"
    );
}

#[test]
fn age_and_space_decide_what_goes_the_longest_unused_first() {
    let place = Place::new();
    let names = ["first", "second", "third"];
    for (n, name) in names.iter().enumerate() {
        drop(place.lease(&Part { name, ..Part::ALL }));
        let base = place.bases.root().join(format!("{}-{name}", place.tree));
        let used = SystemTime::now() - Duration::from_secs(1_000 - 100 * n as u64);
        set_used(&base, used);
    }
    let left = || {
        let entries = fs::read_dir(place.bases.root()).unwrap().flatten();
        let mut names: Vec<String> = entries
            .filter(|e| e.path().is_dir())
            .map(|e| e.file_name().to_str().unwrap()[41..].to_owned())
            .collect();
        names.sort();
        names
    };
    let keep = |seconds, bytes_max| Keep {
        idle_max: Duration::from_secs(seconds),
        bytes_max,
    };
    assert_eq!(
        place
            .bases
            .sweep(keep(5_000, 6 * (1 + BLOCK)))
            .unwrap()
            .removed,
        0
    );
    assert_eq!(
        place
            .bases
            .sweep(keep(5_000, 6 * (1 + BLOCK) - 1))
            .unwrap()
            .removed,
        1
    );
    assert_eq!(left(), ["second", "third"]);
    assert_eq!(place.bases.sweep(keep(850, 10 * BLOCK)).unwrap().removed, 1);
    assert_eq!(left(), ["third"]);
    // A use makes it young again.
    drop(place.lease(&Part {
        name: "third",
        ..Part::ALL
    }));
    assert_eq!(place.bases.sweep(keep(100, 10 * BLOCK)).unwrap().removed, 0);
}

#[test]
fn what_is_half_written_or_of_an_earlier_boot_is_made_anew() {
    let place = Place::new();
    drop(place.lease(&Part::ALL));
    let only = place.only();
    for harm in ["no mark", "another boot", "cut mark"] {
        // What a power cut leaves: a file without its content.
        write(&only.join("tree/a"), "");
        let mark = only.join("whole");
        match harm {
            "no mark" => fs::remove_file(mark).unwrap(),
            "another boot" => {
                fs::write(mark, "00000000-0000-0000-0000-000000000000\n2\n").unwrap();
            }
            _ => {
                let text = fs::read_to_string(&mark).unwrap();
                fs::write(mark, text.trim_end()).unwrap();
            }
        }
        let base = place.lease(&Part::ALL);
        assert_eq!(
            fs::read_to_string(base.path().join("a")).unwrap(),
            "1",
            "{harm}"
        );
    }
    fs::remove_file(only.join("whole")).unwrap();
    assert_eq!(
        place
            .bases
            .sweep(Keep {
                idle_max: Duration::MAX,
                bytes_max: u64::MAX
            })
            .unwrap()
            .removed,
        1,
        "half a base is of no use to anybody"
    );
}

/// For the process that holds a lease until it is killed: the place.
const HOLDER: &str = "MOAT_TEST_HOLDS_A_BASE";

#[test]
fn a_lease_ends_with_its_process() {
    if let Some(directory) = std::env::var_os(HOLDER) {
        hold(Path::new(&directory));
    }
    let place = Place::new();
    let directory = place.fixture.dir.path();
    write(&directory.join("tree-id"), place.tree.as_str());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bases::a_lease_ends_with_its_process"])
        .env(HOLDER, directory)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !directory.join("held").exists() {
        assert_eq!(child.try_wait().unwrap(), None, "it should hold on");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(
        place.bases.sweep(NOTHING).unwrap().left,
        1,
        "held by another process"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(place.bases.sweep(NOTHING).unwrap().removed, 1);
}

fn hold(directory: &Path) -> ! {
    let mirror = Mirror::open_or_create(&directory.join("state/mirror.git")).unwrap();
    let tree = fs::read_to_string(directory.join("tree-id")).unwrap();
    let bases = Bases::at(&directory.join("bases"));
    let _base = bases
        .lease(&mirror, &tree.parse().unwrap(), &Part::ALL)
        .unwrap();
    write(&directory.join("held"), "");
    loop {
        std::thread::park();
    }
}

#[test]
fn what_was_begun_in_vain_is_a_reason_to_look_for_room_and_goes() {
    let place = Place::new();
    let tree: TreeId = "0123456789012345678901234567890123456789".parse().unwrap();
    let refused = (place.bases).lease(&place.fixture.mirror, &tree, &Part::ALL);
    assert!(refused.is_err() && place.bases.have_grown());
    let swept = place.bases.sweep(Keep {
        idle_max: Duration::from_secs(60),
        bytes_max: u64::MAX,
    });
    assert_eq!(swept.unwrap().removed, 1);
    assert_eq!(fs::read_dir(place.bases.root()).unwrap().count(), 0);
}

/// Trees of files of which each counts for as much as the others, and few are other ones than those of the first tree.
struct Branch {
    place: Place,
    others: u64,
}

impl Branch {
    const FILES: u64 = 640;

    fn new() -> Branch {
        let place = Place::new();
        let mut branch = Branch { place, others: 0 };
        let names = (0..Branch::FILES).map(|n| format!("many/{n}"));
        let names: Vec<String> = names.collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "same")).collect();
        branch.place.fixture.commit(&files);
        branch.place.tree = branch.place.fixture.fetch().1;
        branch
    }

    /// Commits so many other files than ever; the directory they are in differs as well.
    fn change(&mut self, count: u64) {
        let names = (self.others..self.others + count - 1).map(|n| format!("many/{n}"));
        let names: Vec<String> = names.collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "")).collect();
        self.place.fixture.commit(&files);
        self.place.tree = self.place.fixture.fetch().1;
        self.others += count - 1;
    }

    fn stack(&self) -> Stack {
        let stack =
            (self.place.bases).stack(&self.place.fixture.mirror, &self.place.tree, &Part::ALL);
        stack.unwrap()
    }
}

#[test]
fn what_differs_little_is_a_layer_over_what_is_there_and_the_rest_is_written_out() {
    let mut branch = Branch::new();
    let first = branch.stack();
    assert_eq!(first.layers().len(), 1, "there is nothing to lie over");
    branch.change(4);
    let second = branch.stack();
    assert_eq!(second.layers()[1..], first.layers()[..]);
    assert_eq!(snapshot(&second.layers()[0]).len(), 4, "only what differs");
    assert_eq!(branch.stack().layers(), second.layers(), "and once");
    branch.change(4);
    let third = branch.stack();
    assert_eq!(
        third.layers()[1..],
        first.layers()[..],
        "no layer lies over another"
    );
    branch.change(8);
    let fourth = branch.stack();
    assert_eq!(
        fourth.layers().len(),
        1,
        "it differs more than a little by now"
    );
    branch.change(2);
    let fifth = branch.stack();
    assert_eq!(
        fifth.layers()[1..],
        fourth.layers()[..],
        "the last used first"
    );
    let part = Part {
        name: "b-all",
        ..Part::ALL
    };
    let other = branch
        .place
        .bases
        .stack(&branch.place.fixture.mirror, &branch.place.tree, &part);
    assert_eq!(
        other.unwrap().layers().len(),
        1,
        "another part is another base"
    );
}

#[test]
fn what_lies_beneath_a_layer_in_use_stays_and_may_come_back() {
    let mut branch = Branch::new();
    let below = branch.stack().layers()[0].clone();
    branch.change(4);
    let stack = branch.stack();
    let layer = stack.layers()[0].clone();
    assert_eq!(branch.place.bases.sweep(NOTHING).unwrap().left, 2);
    drop(stack);
    let keep = |bytes_max| Keep {
        idle_max: Duration::from_secs(60),
        bytes_max,
    };
    // The older of the two, as far as their times tell.
    let used = SystemTime::now() - Duration::from_secs(1);
    set_used(below.parent().unwrap(), used);
    assert_eq!(
        branch.place.bases.sweep(keep(100 * BLOCK)).unwrap().removed,
        1
    );
    assert!(!below.exists() && layer.exists());
    let stack = branch.stack();
    assert_eq!(
        stack.layers().len(),
        1,
        "a layer over nothing shows nothing"
    );
    assert_eq!(snapshot(&stack.layers()[0])["many/639"], "same");
    assert_eq!(snapshot(&stack.layers()[0])["many/0"], "");
}

/// One state directory is for all repositories of a person.
#[test]
fn what_another_repository_has_on_the_shelf_is_in_nobodys_way() {
    let mut branch = Branch::new();
    let others: Vec<Stack> = (0..6)
        .map(|n| {
            let name = format!("of-{n}");
            let other = fixture(&[("another", &name)]);
            let stack = branch
                .place
                .bases
                .stack(&other.mirror, &other.fetch().1, &Part::ALL);
            stack.unwrap()
        })
        .collect();
    let first = branch.stack();
    assert_eq!(snapshot(&first.layers()[0])["many/0"], "same");
    for other in &others {
        // Used after all that is this repository's.
        assert_eq!(other.layers().len(), 1);
        let used = SystemTime::now() + Duration::from_secs(10);
        set_used(other.layers()[0].parent().unwrap(), used);
    }
    branch.change(4);
    assert_eq!(branch.stack().layers()[1..], first.layers()[..]);
}

/// Once it is there it is taken, whatever else it could lie over by now.
#[test]
fn a_layer_is_made_once() {
    let mut branch = Branch::new();
    drop(branch.stack());
    branch.change(4);
    let layer = branch.stack();
    // All of a neighbour is written, and used last.
    let tree = branch.place.tree.clone();
    branch.change(2);
    drop(branch.place.lease(&Part::ALL));
    branch.place.tree = tree;
    assert_eq!(branch.stack().layers(), layer.layers());
    let layers = fs::read_dir(branch.place.bases.root()).unwrap().flatten();
    let layers =
        layers.filter(|one| one.path().is_dir() && one.file_name().to_string_lossy().contains('+'));
    assert_eq!(layers.count(), 1);
}

#[test]
fn a_mark_that_cannot_be_read_is_in_nobodys_way() {
    for is_text in [true, false] {
        let mut branch = Branch::new();
        drop(branch.stack());
        let mark = branch.place.only().join("whole");
        if is_text {
            fs::write(&mark, b"\xff\xfe").unwrap();
        } else {
            fs::remove_file(&mark).unwrap();
            fs::create_dir(&mark).unwrap();
        }
        branch.change(2);
        let stack = branch.stack();
        assert_eq!(stack.layers().len(), 1);
        assert_eq!(snapshot(&stack.layers()[0])["many/639"], "same");
    }
}
