//! Differences: every file is listed, nothing a candidate writes hides a line.

use repo::{DiffLimits, FileStatus};

use crate::fixture::{fixture, make_executable, write};

#[test]
fn every_change_is_listed_with_its_counts() {
    let fixture = fixture(&[
        ("edit", "a\nb\nc\n"),
        ("gone", "1\n2\n"),
        ("mode", "x\n"),
        ("bin", "a\0b"),
        ("same", "1"),
    ]);
    let (_, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    write(&path.join("edit"), "a\nB\nc\nd\n");
    std::fs::remove_file(path.join("gone")).unwrap();
    make_executable(&path.join("mode"));
    write(&path.join("bin"), "a\0c");
    write(&path.join("new"), "evil \u{202e}text\x1b[2J\n");
    write(
        &path.join(".gitattributes"),
        "* -diff binary linguist-generated export-ignore\n",
    );
    write(&path.join("void"), "");
    let tree = fixture.import(&path, &base).tree;
    let diff = fixture
        .mirror
        .diff(&base, &tree, &DiffLimits::default())
        .unwrap();
    let rows: Vec<_> = diff
        .files
        .iter()
        .map(|f| {
            (
                f.path.as_str(),
                f.status,
                f.additions,
                f.deletions,
                f.binary,
            )
        })
        .collect();
    use FileStatus::{Added, Deleted, Modified};
    assert_eq!(
        rows,
        [
            (".gitattributes", Added, 1, 0, false),
            ("bin", Modified, 0, 0, true),
            ("edit", Modified, 2, 1, false),
            ("gone", Deleted, 0, 2, false),
            ("mode", Modified, 0, 0, false),
            ("new", Added, 1, 0, false),
            ("void", Added, 0, 0, false),
        ]
    );
    assert_eq!(
        (diff.files[4].old_mode, diff.files[4].new_mode),
        (0o100_644, 0o100_755)
    );
    assert_eq!((diff.files[5].old_mode, diff.files[3].new_mode), (0, 0));
    for part in [
        "-b\n+B\n",
        "+evil \u{202e}text\x1b[2J\n",
        "old mode 100644\nnew mode 100755",
        "Binary files",
    ] {
        assert!(diff.patch.contains(part), "{part:?} in {}", diff.patch);
    }
    assert!(!diff.truncated);
}

#[test]
fn a_long_patch_is_cut_but_the_list_is_whole() {
    let fixture = fixture(&[("a", "1\n")]);
    let (tip, base) = fixture.fetch();
    let long = "line\n".repeat(1_000);
    let next = fixture.change(
        &tip,
        &[("a", Some("2\n")), ("b", Some(&long)), ("c", Some("3\n"))],
    );
    let tree = fixture.mirror.tree_of(&next).unwrap();
    let limits = DiffLimits {
        patch_bytes_max: 1_000,
        ..DiffLimits::default()
    };
    let diff = fixture.mirror.diff(&base, &tree, &limits).unwrap();
    assert!(diff.truncated && diff.patch.len() <= 1_000);
    assert!(
        diff.patch.contains("+2\n") && !diff.patch.contains("+3\n"),
        "no holes"
    );
    assert_eq!(diff.files.len(), 3);
    assert_eq!(diff.files[1].additions, 1_000);
    let limits = DiffLimits {
        file_bytes_max: 100,
        ..DiffLimits::default()
    };
    assert!(fixture.mirror.diff(&base, &tree, &limits).unwrap().files[1].binary);
    assert!(
        fixture
            .mirror
            .diff(&base, &base, &limits)
            .unwrap()
            .files
            .is_empty()
    );
}
