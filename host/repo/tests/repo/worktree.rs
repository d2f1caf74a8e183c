//! Materialising a tree: what is written, what is not, and that nothing lands outside.

use std::fs;
use std::os::unix::fs::symlink;

use repo::names::NameFault;
use repo::{EntryKind, SkippedReason, StoreError};

use crate::fixture::{fixture, make_executable, raw_tree, snapshot, write};

#[test]
fn bytes_modes_and_links_come_out_as_they_went_in() {
    let fixture = fixture(&[
        (
            ".gitattributes",
            "* text eol=crlf ident filter=evil working-tree-encoding=UTF-16\n",
        ),
        ("unix.txt", "a\nb\n$Id$\n"),
        ("dos.txt", "a\r\nb\r\n"),
        ("deep/er/file", "x"),
    ]);
    let repo = fixture.git();
    write(&fixture.user().join("run.sh"), "#!/bin/sh\n");
    make_executable(&fixture.user().join("run.sh"));
    symlink("deep/er/file", fixture.user().join("link")).unwrap();
    // Bytes straight into the tree, as attributes must not matter on the way in either.
    let blob = |bytes: &[u8]| repo.blob(bytes).unwrap();
    let tree = raw_tree(
        &repo,
        &[
            (
                0o100_644,
                b".gitattributes",
                blob(b"* text eol=crlf ident filter=evil working-tree-encoding=UTF-16\n"),
            ),
            (0o100_644, b"dos.txt", blob(b"a\r\nb\r\n")),
            (0o120_000, b"link", blob(b"dos.txt")),
            (0o100_755, b"run.sh", blob(b"#!/bin/sh\n")),
            (0o100_644, b"unix.txt", blob(b"a\nb\n$Id$\n")),
        ],
    );
    fixture.commit_tree(tree);
    let (_, tree) = fixture.fetch();
    let (path, done) = fixture.worktree(&tree);
    let found = snapshot(&path);
    assert_eq!(found["unix.txt"], "a\nb\n$Id$\n");
    assert_eq!(found["dos.txt"], "a\r\nb\r\n");
    assert_eq!(found["run.sh"], "*#!/bin/sh\n");
    assert_eq!(found["link"], "-> dos.txt");
    assert_eq!(found.len(), 5);
    assert_eq!((done.files, done.skipped.len()), (5, 0));
    assert_eq!(done.bytes, 63 + 6 + 7 + 10 + 9, "the sum of all contents");
}

#[test]
fn hidden_paths_are_not_written() {
    let fixture = fixture(&[
        ("a", "1"),
        (".env", "SECRET"),
        ("keys/one.pem", "SECRET"),
        ("src/.env", "SECRET"),
        ("src/b", "2"),
    ]);
    let (_, tree) = fixture.fetch();
    let path = fixture.dir.path().join("view");
    let done = fixture
        .mirror
        .materialise(&tree, &path, &|path, kind| {
            !(path.ends_with(".env") || (path == "keys" && kind == EntryKind::Directory))
        })
        .unwrap();
    assert_eq!(
        snapshot(&path).into_keys().collect::<Vec<_>>(),
        ["a", "src", "src/b"]
    );
    assert_eq!((done.files, done.hidden), (2, 3));
}

#[test]
fn only_an_empty_directory_is_written_into() {
    let fixture = fixture(&[("a", "1")]);
    let (_, tree) = fixture.fetch();
    let path = fixture.dir.path().join("full");
    write(&path.join("mine"), "keep");
    let error = fixture
        .mirror
        .materialise(&tree, &path, &|_, _| true)
        .unwrap_err();
    assert!(matches!(error, StoreError::NotEmpty { .. }), "{error}");
    let link = fixture.dir.path().join("link");
    fs::create_dir(fixture.dir.path().join("target")).unwrap();
    symlink("target", &link).unwrap();
    assert!(
        fixture
            .mirror
            .materialise(&tree, &link, &|_, _| true)
            .is_err(),
        "a symlink is no directory"
    );
    assert_eq!(snapshot(&path).len(), 1);
    assert!(snapshot(&fixture.dir.path().join("target")).is_empty());
}

#[test]
fn dangerous_entries_of_a_crafted_tree_stay_out() {
    let fixture = fixture(&[("ok", "1")]);
    let repo = fixture.git();
    let blob = |text: &str| repo.blob(text.as_bytes()).unwrap();
    let evil = raw_tree(
        &repo,
        &[(
            0o100_644,
            b"config",
            blob("[core]\nfsmonitor = touch /tmp/x\n"),
        )],
    );
    let head = repo.head().unwrap().peel_to_commit().unwrap().id();
    let tree = raw_tree(
        &repo,
        &[
            (0o100_644, b"..", blob("up")),
            (0o040_000, b".GIT", evil),
            (0o040_000, b".git", evil),
            (0o120_000, b"abs", blob("/etc/passwd")),
            (0o100_644, b"bad\nname", blob("x")),
            (0o120_000, b"climb", blob("a/../../x")),
            (0o040_000, b"git~1", evil),
            (0o160_000, b"module", head),
            (0o100_644, b"ok", blob("1")),
            (0o120_000, b"up", blob("../outside")),
            (0o100_644, b"\xff", blob("x")),
        ],
    );
    fixture.commit_tree(tree);
    let (_, tree) = fixture.fetch();
    let before = snapshot(fixture.dir.path()).len();
    let (path, done) = fixture.worktree(&tree);
    assert_eq!(snapshot(&path).into_keys().collect::<Vec<_>>(), ["ok"]);
    assert_eq!(
        snapshot(fixture.dir.path()).len(),
        before + 2,
        "the worktree and its one file, nothing outside"
    );
    let reasons: Vec<_> = done
        .skipped
        .iter()
        .map(|s| (s.path.as_str(), s.reason))
        .collect();
    assert_eq!(
        reasons,
        [
            ("..", SkippedReason::Name(NameFault::NotAName)),
            (".GIT", SkippedReason::Name(NameFault::DotGit)),
            (".git", SkippedReason::Name(NameFault::DotGit)),
            ("abs", SkippedReason::SymlinkEscapes),
            ("bad\\u{a}name", SkippedReason::Name(NameFault::Control)),
            ("climb", SkippedReason::SymlinkEscapes),
            ("git~1", SkippedReason::Name(NameFault::DotGit)),
            ("module", SkippedReason::Submodule),
            ("up", SkippedReason::SymlinkEscapes),
            ("\\xff", SkippedReason::Name(NameFault::NotUtf8)),
        ]
    );
    // What was not written was not deleted either.
    let report = fixture.import(&path, &tree);
    assert_eq!(
        (report.tree, report.changed, report.refused),
        (tree, vec![], vec![])
    );
}

#[test]
fn broken_and_endless_trees_are_refused() {
    let fixture = fixture(&[("ok", "1")]);
    let repo = fixture.git();
    let blob = repo.blob(b"x").unwrap();
    for (name, tree) in [
        (
            "doubled",
            raw_tree(&repo, &[(0o100_644, b"a", blob), (0o100_644, b"a", blob)]),
        ),
        (
            "out of order",
            raw_tree(&repo, &[(0o100_644, b"b", blob), (0o100_644, b"a", blob)]),
        ),
        ("slash", raw_tree(&repo, &[(0o100_644, b"../../x", blob)])),
    ] {
        let error = fixture
            .mirror
            .fetch_commit(&fixture.source(), &fixture.orphan(tree))
            .unwrap_err();
        assert!(
            matches!(error, StoreError::BrokenTree { .. }),
            "{name}: {error}"
        );
    }
    let mut deep = raw_tree(&repo, &[(0o100_644, b"a", blob)]);
    for _ in 0..2_000 {
        deep = raw_tree(&repo, &[(0o040_000, b"d", deep)]);
    }
    // Four levels of a thousand names each for the same tree below; submodules at the end, as they cost nothing to read.
    let names: Vec<_> = (1_000..2_000).map(|n: u32| n.to_string()).collect();
    let fan = |mode, id| {
        let entries: Vec<_> = names.iter().map(|n| (mode, n.as_bytes(), id)).collect();
        raw_tree(&repo, &entries)
    };
    let mut wide = fan(0o160_000, repo.head().unwrap().target().unwrap());
    for _ in 0..3 {
        wide = fan(0o040_000, wide);
    }
    let error = fixture
        .mirror
        .fetch_commit(&fixture.source(), &fixture.orphan(deep))
        .unwrap_err();
    assert!(
        matches!(error, StoreError::TreeTooLarge { what: "levels", .. }),
        "{error}"
    );
    // The bomb is small enough to fetch; unfolding it is what would never end.
    let bomb = fixture.orphan(wide);
    fixture
        .mirror
        .fetch_commit(&fixture.source(), &bomb)
        .unwrap();
    let tree = fixture.mirror.tree_of(&bomb).unwrap();
    let error = fixture.mirror.list(&tree).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::TreeTooLarge {
                what: "entries",
                ..
            }
        ),
        "{error}"
    );
}
