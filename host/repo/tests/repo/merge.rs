//! Merges: clean ones agree with git itself, conflicts name their paths, nothing moves.

use repo::{ConflictKind, MergeOutcome};

use crate::fixture::{Fixture, fixture};

type Edits<'a> = &'a [(&'a str, Option<&'a str>)];

fn conflicts(
    base: &[(&str, &str)],
    ours: Edits<'_>,
    theirs: Edits<'_>,
) -> Vec<(String, ConflictKind)> {
    let fixture = fixture(base);
    let (tip, _) = fixture.fetch();
    let (ours, theirs) = (fixture.change(&tip, ours), fixture.change(&tip, theirs));
    match fixture.mirror.merge(&ours, &theirs).unwrap() {
        MergeOutcome::Conflict { conflicts } => {
            conflicts.into_iter().map(|c| (c.path, c.kind)).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// git's own merge of two commits of the mirror.
fn git_merge_tree(fixture: &Fixture, ours: &str, theirs: &str) -> String {
    fixture
        .run_git(
            fixture.mirror.git_dir(),
            &["merge-tree", "--write-tree", ours, theirs],
        )
        .trim()
        .to_owned()
}

const LINES: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";

#[test]
fn changes_in_different_places_merge_as_git_merges_them() {
    let fixture = fixture(&[
        ("a", LINES),
        ("b", "1"),
        ("d/c", "1"),
        ("d/e", "1"),
        ("gone", "1"),
        ("x/y", "1"),
    ]);
    let (tip, _) = fixture.fetch();
    let first = LINES.replace('1', "one");
    let last = LINES.replace('9', "nine");
    let ours = fixture.change(
        &tip,
        &[
            ("a", Some(&first)),
            ("d/c", Some("ours")),
            ("gone", None),
            ("n/ew", Some("both")),
        ],
    );
    let theirs = fixture.change(
        &tip,
        &[
            ("a", Some(&last)),
            ("d/e", Some("theirs")),
            ("b", Some("theirs")),
            ("n/ew", Some("both")),
            ("x/y", None),
            ("x", Some("now a file")),
        ],
    );
    let MergeOutcome::Clean { tree } = fixture.mirror.merge(&ours, &theirs).unwrap() else {
        panic!()
    };
    assert_eq!(
        tree.as_str(),
        git_merge_tree(&fixture, ours.as_str(), theirs.as_str())
    );
    let files = fixture.files(&tree);
    assert_eq!(files["a"], "one\n2\n3\n4\n5\n6\n7\n8\nnine\n");
    assert!(!files.contains_key("gone"));
    assert_eq!(files["x"], "now a file");
}

#[test]
fn a_mode_change_and_an_edit_merge() {
    let fixture = fixture(&[("run", "1\n")]);
    let (tip, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    crate::fixture::make_executable(&path.join("run"));
    let ours = fixture.commit_in_mirror(&fixture.import(&path, &base).tree, &[&tip]);
    let theirs = fixture.change(&tip, &[("run", Some("2\n"))]);
    let MergeOutcome::Clean { tree } = fixture.mirror.merge(&ours, &theirs).unwrap() else {
        panic!()
    };
    let (kind, _) = fixture.mirror.entry(&tree, "run").unwrap().unwrap();
    assert_eq!(kind, repo::EntryKind::File { executable: true });
    assert_eq!(fixture.files(&tree)["run"], "2\n");
}

#[test]
fn forwards_and_up_to_date() {
    let fixture = fixture(&[("a", "1")]);
    let (tip, _) = fixture.fetch();
    let next = fixture.change(&tip, &[("a", Some("2"))]);
    let tree = fixture.mirror.tree_of(&next).unwrap();
    assert_eq!(
        fixture.mirror.merge(&tip, &next).unwrap(),
        MergeOutcome::FastForward { tree }
    );
    assert_eq!(
        fixture.mirror.merge(&next, &tip).unwrap(),
        MergeOutcome::UpToDate
    );
    assert_eq!(
        fixture.mirror.merge(&tip, &tip).unwrap(),
        MergeOutcome::UpToDate
    );
    let unrelated = fixture.commit_in_mirror(&fixture.mirror.tree_of(&tip).unwrap(), &[]);
    assert_eq!(
        fixture.mirror.merge(&tip, &unrelated).unwrap(),
        MergeOutcome::Unrelated
    );
}

#[test]
fn each_conflict_is_named() {
    use ConflictKind::{
        BothAdded, CaseCollision, ChangedAndRemoved, Content, FileAndDirectory, NotText,
    };
    let one = |path: &str, kind| vec![(path.to_owned(), kind)];
    assert_eq!(
        conflicts(
            &[("a", LINES)],
            &[("a", Some("x\n"))],
            &[("a", Some("y\n"))]
        ),
        one("a", Content)
    );
    assert_eq!(
        conflicts(&[("a", "\0")], &[("a", Some("\0x"))], &[("a", Some("\0y"))]),
        one("a", NotText)
    );
    assert_eq!(
        conflicts(&[("a", "1")], &[("d/n", Some("x"))], &[("d/n", Some("y"))]),
        one("d/n", BothAdded)
    );
    assert_eq!(
        conflicts(
            &[("a", "1"), ("k", "")],
            &[("a", None)],
            &[("a", Some("y"))]
        ),
        one("a", ChangedAndRemoved)
    );
    assert_eq!(
        conflicts(&[("a", "1")], &[("n", Some("x"))], &[("n/m", Some("y"))]),
        one("n", FileAndDirectory)
    );
    assert_eq!(
        conflicts(&[("a", "1")], &[("New", Some("x"))], &[("new", Some("y"))]),
        one("new", CaseCollision)
    );
    // A rename on one side and an edit on the other is a conflict, not a guess.
    assert_eq!(
        conflicts(
            &[("a", LINES), ("k", "")],
            &[("a", None), ("b", Some(LINES))],
            &[("a", Some("1\n2\n"))]
        ),
        one("a", ChangedAndRemoved)
    );
}

#[test]
fn criss_cross_histories_merge_too() {
    let fixture = fixture(&[("a", LINES), ("b", LINES)]);
    let (tip, _) = fixture.fetch();
    let left = fixture.change(&tip, &[("a", Some(&LINES.replace('1', "left")))]);
    let right = fixture.change(&tip, &[("b", Some(&LINES.replace('9', "right")))]);
    let MergeOutcome::Clean { tree } = fixture.mirror.merge(&left, &right).unwrap() else {
        panic!()
    };
    let first = fixture.commit_in_mirror(&tree, &[&left, &right]);
    let second = fixture.commit_in_mirror(&tree, &[&right, &left]);
    let ours = fixture.change(&first, &[("a", Some("ours\n"))]);
    let theirs = fixture.change(&second, &[("b", Some("theirs\n"))]);
    let MergeOutcome::Clean { tree } = fixture.mirror.merge(&ours, &theirs).unwrap() else {
        panic!()
    };
    let files = fixture.files(&tree);
    assert_eq!(
        (files["a"].as_str(), files["b"].as_str()),
        ("ours\n", "theirs\n")
    );
    let theirs = fixture.change(&second, &[("a", Some("theirs\n"))]);
    assert!(
        matches!(fixture.mirror.merge(&ours, &theirs).unwrap(), MergeOutcome::Conflict { conflicts } if conflicts[0].path == "a")
    );
}
