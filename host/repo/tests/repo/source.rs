//! Opening the user's repository: each odd one gets its own error, and nothing in it changes.

use std::fs;

use repo::{Head, Source, SourceError};

use crate::fixture::{fixture, raw_tree, snapshot, write};

#[test]
fn a_checkout_a_linked_checkout_and_a_bare_repository_open() {
    let fixture = fixture(&[("a", "1")]);
    let linked = fixture.dir.path().join("linked");
    fixture.run_git(
        &fixture.user(),
        &[
            "worktree",
            "add",
            "-q",
            "-b",
            "side",
            linked.to_str().unwrap(),
        ],
    );
    fixture.run_git(
        fixture.dir.path(),
        &["clone", "-q", "--bare", "user", "bare.git"],
    );
    let before = snapshot(fixture.dir.path());

    let main = fixture.source();
    assert_eq!(
        main.worktree(),
        Some(fixture.user().canonicalize().unwrap().as_path())
    );
    assert!(
        matches!(main.head().unwrap(), Head::Branch { name, tip } if name == "main" && tip == main.branch_tip("main").unwrap())
    );
    let side = Source::open(&linked).unwrap();
    assert_eq!(side.current_branch().unwrap(), "side");
    assert_eq!(side.common_dir(), main.common_dir());
    assert_eq!(
        side.branch_tip("main").unwrap(),
        main.branch_tip("main").unwrap()
    );
    assert_eq!(side.dirty().unwrap(), Vec::<String>::new());
    let bare = Source::open(&fixture.dir.path().join("bare.git")).unwrap();
    assert_eq!(
        (bare.worktree(), bare.current_branch().unwrap().as_str()),
        (None, "main")
    );
    assert_eq!(
        Source::open(&fixture.user().join(".git"))
            .unwrap()
            .worktree(),
        main.worktree()
    );
    assert_eq!(
        snapshot(fixture.dir.path()),
        before,
        "looking changes nothing"
    );
}

#[test]
fn what_is_no_repository_is_not_searched_for() {
    let fixture = fixture(&[("src/a", "1")]);
    for path in [
        fixture.user().join("src"),
        fixture.user().join("missing"),
        fixture.dir.path().to_path_buf(),
        "/dev/null".into(),
    ] {
        assert!(
            matches!(Source::open(&path), Err(SourceError::NotARepository { .. })),
            "{}",
            path.display()
        );
    }
    write(&fixture.dir.path().join("odd/.git"), "gitdir: ../nowhere\n");
    assert!(matches!(
        Source::open(&fixture.dir.path().join("odd")),
        Err(SourceError::NotARepository { .. })
    ));
    fs::write(fixture.dir.path().join("odd/.git"), "rubbish").unwrap();
    assert!(matches!(
        Source::open(&fixture.dir.path().join("odd")),
        Err(SourceError::NotARepository { .. })
    ));
}

#[test]
fn empty_detached_and_missing_branches_are_told_apart() {
    let fixture = fixture(&[("a", "1")]);
    let empty = fixture.dir.path().join("empty");
    fixture.run_git(fixture.dir.path(), &["init", "-q", "-b", "trunk", "empty"]);
    let source = Source::open(&empty).unwrap();
    assert_eq!(
        source.head().unwrap(),
        Head::Unborn {
            name: "trunk".into()
        }
    );
    assert!(
        matches!(source.current_branch(), Err(SourceError::Empty { branch, .. }) if branch == "trunk")
    );
    assert!(matches!(
        source.inspect("trunk"),
        Err(SourceError::Empty { .. })
    ));
    assert!(matches!(
        source.branch_tip("other"),
        Err(SourceError::NoBranch { .. })
    ));

    let source = fixture.source();
    for name in [
        "nope",
        "",
        "-x",
        "a..b",
        "x.lock",
        "@{",
        "HEAD",
        "a b",
        "a\n",
        "../../main",
        "a~1",
    ] {
        assert!(
            matches!(source.branch_tip(name), Err(SourceError::NoBranch { .. })),
            "{name:?}"
        );
    }
    fixture.run_git(&fixture.user(), &["checkout", "-q", "--detach"]);
    assert!(matches!(
        source.current_branch(),
        Err(SourceError::Detached { .. })
    ));
    assert!(
        source.inspect("main").is_ok(),
        "a named branch is fine all the same"
    );
}

#[test]
fn dirt_counts_only_where_it_is_tracked() {
    let fixture = fixture(&[("a", "1"), ("b", "1"), ("c", "1"), (".gitignore", "out/\n")]);
    write(&fixture.user().join("untracked"), "x");
    write(&fixture.user().join("out/x"), "x");
    assert!(fixture.source().inspect("main").is_ok());
    write(&fixture.user().join("a"), "22");
    fs::remove_file(fixture.user().join("b")).unwrap();
    write(&fixture.user().join("c"), "33");
    fixture.run_git(&fixture.user(), &["add", "c", "untracked"]);
    match fixture.source().inspect("main") {
        Err(SourceError::Dirty { paths, .. }) => assert_eq!(paths, ["a", "b", "c", "untracked"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn formats_that_cannot_be_read_are_named() {
    let fixture = fixture(&[("a", "1")]);
    fixture.run_git(
        fixture.dir.path(),
        &["init", "-q", "--object-format=sha256", "sha256"],
    );
    let error = Source::open(&fixture.dir.path().join("sha256")).unwrap_err();
    assert!(
        matches!(&error, SourceError::ObjectFormat { format, .. } if format == "sha256"),
        "{error}"
    );

    fixture.run_git(
        fixture.dir.path(),
        &["init", "-q", "--ref-format=reftable", "reftable"],
    );
    let error = Source::open(&fixture.dir.path().join("reftable")).unwrap_err();
    assert!(
        matches!(&error, SourceError::Extension { extension, .. } if extension.starts_with("refstorage")),
        "{error}"
    );

    fixture.commit(&[("a", "2")]);
    let url = format!("file://{}", fixture.user().display());
    fixture.run_git(
        fixture.dir.path(),
        &["clone", "-q", "--depth=1", &url, "shallow"],
    );
    let error = Source::open(&fixture.dir.path().join("shallow")).unwrap_err();
    assert!(matches!(error, SourceError::Shallow { .. }), "{error}");
}

#[test]
fn submodules_stop_and_lfs_pointers_warn() {
    let fixture = fixture(&[
        (
            ".gitattributes",
            "*.bin filter=lfs diff=lfs merge=lfs -text\n",
        ),
        (
            "model.bin",
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        ),
        ("small.txt", "version 1"),
    ]);
    assert_eq!(
        fixture.source().inspect("main").unwrap().lfs_pointers,
        ["model.bin"]
    );
    let repo = fixture.git();
    let head = repo.head().unwrap().peel_to_commit().unwrap();
    let blob = repo.blob(b"x").unwrap();
    let vendor = raw_tree(&repo, &[(0o160_000, b"lib", head.id())]);
    fixture.commit_tree(raw_tree(
        &repo,
        &[(0o100_644, b"a", blob), (0o040_000, b"vendor", vendor)],
    ));
    fixture.run_git(&fixture.user(), &["checkout", "-q", "--detach"]);
    match fixture.source().inspect("main") {
        Err(SourceError::Submodules { paths }) => assert_eq!(paths, ["vendor/lib"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_repository_of_another_user_is_refused() {
    // Only root can give a file away.
    if !rustix::process::geteuid().is_root() || std::env::var_os("SUDO_UID").is_some() {
        return;
    }
    let fixture = fixture(&[("a", "1")]);
    for path in [fixture.user(), fixture.user().join(".git")] {
        std::os::unix::fs::chown(path, Some(12_345), Some(12_345)).unwrap();
    }
    let error = Source::open(&fixture.user()).unwrap_err();
    assert!(matches!(error, SourceError::ForeignOwner { .. }), "{error}");
}
