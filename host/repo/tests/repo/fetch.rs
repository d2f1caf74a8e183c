//! The mirror: made whole or not at all, holds what was fetched, and only that moves.

use std::fs;
use std::time::Duration;

use flow::id::RunId;
use repo::{Kept, Mirror, StoreError};

use crate::fixture::{Fixture, fixture};

fn fsck(fixture: &Fixture) {
    fixture.run_git(
        fixture.mirror.git_dir(),
        &["fsck", "--strict", "--no-dangling"],
    );
}

#[test]
fn a_fetch_brings_the_branch_and_nothing_else() {
    let fixture = fixture(&[("a", "1"), ("d/b", "2")]);
    let repo = fixture.git();
    let stray = repo
        .blob(b"a secret that was added once and never committed")
        .unwrap();
    let head = repo.head().unwrap().peel_to_commit().unwrap();
    repo.branch("other", &head, false).unwrap();
    let (tip, tree) = fixture.fetch();
    assert_eq!(
        fixture.files(&tree).into_keys().collect::<Vec<_>>(),
        ["a", "d/b"]
    );
    let mirror = git2::Repository::open_bare(fixture.mirror.git_dir()).unwrap();
    assert!(mirror.find_blob(stray).is_err());
    let names: Vec<_> = mirror
        .references()
        .unwrap()
        .map(|r| r.unwrap().name().unwrap().to_owned())
        .collect();
    assert_eq!(names, [format!("refs/moat/complete/{tip}")]);
    fsck(&fixture);

    let next = fixture.commit(&[("a", "3"), ("d/c/e", "4")]);
    assert_eq!(fixture.fetch().0, next);
    let names: Vec<_> = mirror
        .references()
        .unwrap()
        .map(|r| r.unwrap().name().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [format!("refs/moat/complete/{next}")],
        "what a tip contains is not noted twice"
    );
    fixture
        .mirror
        .fetch_commit(&fixture.source(), &tip)
        .unwrap();
    assert!(fixture.mirror.is_ancestor(&tip, &next).unwrap());
    assert!(!fixture.mirror.is_ancestor(&next, &tip).unwrap());
    assert_eq!(fixture.mirror.parents_of(&next).unwrap(), [tip]);
    fsck(&fixture);
}

#[test]
fn packed_and_borrowed_objects_come_along() {
    let fixture = fixture(&[("a", "1"), ("d/b", "2")]);
    fixture.commit(&[("a", "2")]);
    fixture.run_git(&fixture.user(), &["gc", "-q"]);
    fixture.commit(&[("a", "3")]);
    // A clone that borrows its objects from the first.
    fixture.run_git(
        fixture.dir.path(),
        &["clone", "-q", "--shared", "user", "borrower"],
    );
    let borrower = repo::Source::open(&fixture.dir.path().join("borrower")).unwrap();
    let tip = fixture.mirror.fetch(&borrower, "main").unwrap();
    fs::remove_dir_all(fixture.user()).unwrap();
    let tree = fixture.mirror.tree_of(&tip).unwrap();
    assert_eq!(fixture.files(&tree)["a"], "3");
    fsck(&fixture);
}

#[test]
fn a_rewritten_branch_is_fetched_too() {
    let fixture = fixture(&[("a", "1")]);
    fixture.commit(&[("a", "2")]);
    let (old, _) = fixture.fetch();
    fixture.run_git(&fixture.user(), &["reset", "-q", "--hard", "HEAD~1"]);
    let new = fixture.commit(&[("b", "other history")]);
    fixture.run_git(
        &fixture.user(),
        &["reflog", "expire", "--expire=now", "--all"],
    );
    fixture.run_git(&fixture.user(), &["gc", "-q", "--prune=now"]);
    assert_eq!(fixture.fetch().0, new);
    assert!(!fixture.mirror.is_ancestor(&old, &new).unwrap());
    assert!(
        fixture.mirror.has_commit(&old).unwrap(),
        "what a run started from stays"
    );
    fsck(&fixture);
}

#[test]
fn runs_that_start_together_share_one_mirror() {
    let fixture = fixture(&[("a", "1"), ("b/c", "2")]);
    let at = fixture.dir.path().join("new/state/mirror.git");
    let tip = fixture.source().branch_tip("main").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..15 {
            scope.spawn(|| {
                let mirror = Mirror::open_or_create(&at).unwrap();
                assert_eq!(mirror.fetch(&fixture.source(), "main").unwrap(), tip);
            });
        }
    });
    let beside: Vec<_> = fs::read_dir(at.parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(beside, ["mirror.git"], "no half-made one is left");
    fixture.run_git(&at, &["fsck", "--strict"]);
}

#[test]
fn what_a_dead_process_left_half_made_is_swept() {
    let fixture = fixture(&[("a", "1")]);
    let state = fixture.dir.path().join("state2");
    let left = state.join(".mirror.git.new-1-1");
    fs::create_dir_all(left.join("objects")).unwrap();
    let maker = fs::File::open(&state).unwrap();
    maker.lock().unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| Mirror::open_or_create(&state.join("mirror.git")).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        assert!(left.exists(), "its maker lives");
        drop(maker);
        other.join().unwrap();
    });
    assert!(!left.exists());
}

#[test]
fn a_lock_that_a_dead_process_left_in_the_mirror_holds_nobody_up() {
    let fixture = fixture(&[("a", "1")]);
    let (tip, tree) = fixture.fetch();
    let run: RunId = "r-1".parse().unwrap();
    let mirror = &fixture.mirror;
    mirror.keep(&run, "base", tip.clone()).unwrap();
    let kept = mirror.git_dir().join("refs/moat/runs/r-1");
    for name in ["base", "candidate"] {
        fs::write(kept.join(format!("{name}.lock")), "").unwrap();
        mirror.keep(&run, name, tree.clone()).unwrap();
        fs::write(kept.join(format!("{name}.lock")), "").unwrap();
    }
    mirror.release(&run).unwrap();
    assert_eq!(mirror.kept(&run).unwrap(), []);
    let mut left = fs::read_dir(&kept).into_iter().flatten();
    assert!(left.next().is_none(), "no lock is left");
}

#[test]
fn kept_objects_have_plain_names_and_can_be_let_go() {
    let fixture = fixture(&[("a", "1")]);
    let (tip, tree) = fixture.fetch();
    let (run, other): (RunId, RunId) = ("r-1".parse().unwrap(), "r-10".parse().unwrap());
    let mirror = &fixture.mirror;
    mirror.keep(&run, "base", tip.clone()).unwrap();
    mirror.keep(&run, "candidate", tree.clone()).unwrap();
    mirror.keep(&run, "candidate", tree.clone()).unwrap();
    mirror.keep(&other, "base", tip.clone()).unwrap();
    assert_eq!(
        mirror.kept(&run).unwrap(),
        [
            ("base".into(), Kept::Commit(tip.clone())),
            ("candidate".into(), Kept::Tree(tree))
        ]
    );
    for name in [
        "",
        "-x",
        "a/b",
        "..",
        "a.lock",
        "A",
        "a b",
        "é",
        "@{",
        &"x".repeat(65),
    ] {
        assert!(
            matches!(
                mirror.keep(&run, name, tip.clone()),
                Err(StoreError::KeptName { .. })
            ),
            "{name:?}"
        );
    }
    let missing: flow::id::CommitId = "1".repeat(40).parse().unwrap();
    assert!(matches!(
        mirror.keep(&run, "x", missing),
        Err(StoreError::Missing { .. })
    ));
    // A racing reader takes a reference's lock for a moment; neither loses.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| mirror.keep(&run, "base", tip.clone()).unwrap()));
        }
    });
    mirror.release(&run).unwrap();
    assert_eq!(mirror.kept(&run).unwrap(), []);
    assert_eq!(mirror.kept(&other).unwrap().len(), 1);
    fsck(&fixture);
}

#[test]
fn reads_are_bounded_and_only_of_files() {
    let fixture = fixture(&[("dir/a", "hello"), ("b", "x")]);
    std::os::unix::fs::symlink("dir/a", fixture.user().join("link")).unwrap();
    fixture.commit(&[]);
    let (_, tree) = fixture.fetch();
    let read = |path: &str, max| {
        fixture
            .mirror
            .read(&tree, path, max)
            .unwrap()
            .map(|b| String::from_utf8(b).unwrap())
    };
    assert_eq!(read("dir/a", 100).as_deref(), Some("hello"));
    assert_eq!(read("dir/a", 2).as_deref(), Some("he"));
    for path in [
        "dir", "link", "nope", "b/x", "", "/", "dir//a", "../b", "./b",
    ] {
        assert_eq!(read(path, 100), None, "{path:?}");
    }
    let list: Vec<_> = fixture
        .mirror
        .list(&tree)
        .unwrap()
        .into_iter()
        .map(|e| (e.path, e.size))
        .collect();
    assert_eq!(
        list,
        [("b".into(), 1), ("dir/a".into(), 5), ("link".into(), 5)]
    );
}

#[test]
fn a_fetch_that_breaks_off_leaves_no_commit_without_its_files() {
    let fixture = fixture(&[("a", "1")]);
    let old = fixture.git().blob(b"1").unwrap().to_string();
    let tip = fixture.commit(&[("a", "2")]);
    let (fan, rest) = old.split_at(2);
    let lost = fixture.user().join(".git/objects").join(fan).join(rest);
    let bytes = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    let error = fixture
        .mirror
        .fetch_commit(&fixture.source(), &tip)
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::Missing { kind: "file", id } if *id == old),
        "{error}"
    );
    assert!(!fixture.mirror.has_commit(&tip).unwrap());
    fs::write(&lost, bytes).unwrap();
    assert_eq!(fixture.fetch().0, tip);
    fsck(&fixture);
}

#[test]
fn the_same_commit_is_made_of_the_same_parts() {
    let fixture = fixture(&[("a", "1")]);
    let (tip, tree) = fixture.fetch();
    let commit = |time, message: &str| {
        let who = repo::Identity::new("moat", "moat@localhost").unwrap();
        let message = repo::Message::new(message, "why").with_trailer("Moat-Run", "r-1");
        fixture
            .mirror
            .commit(&tree, std::slice::from_ref(&tip), &who, &message, time)
            .unwrap()
    };
    let id = commit(1_700_000_000, "one");
    assert_eq!(id, commit(1_700_000_000, "one"));
    assert_ne!(id, commit(1_700_000_001, "one"));
    let text = fixture.run_git(
        fixture.mirror.git_dir(),
        &["log", "-1", "--format=%an <%ae> %at %ct%n%B", id.as_str()],
    );
    assert_eq!(
        text.trim(),
        "moat <moat@localhost> 1700000000 1700000000\none\n\nwhy\n\nMoat-Run: r-1"
    );
    let missing: flow::id::TreeId = "1".repeat(40).parse().unwrap();
    let who = repo::Identity::new("moat", "moat@localhost").unwrap();
    let error = fixture
        .mirror
        .commit(&missing, &[], &who, &repo::Message::new("x", ""), 0)
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Missing { kind: "tree", .. }),
        "{error}"
    );
}
