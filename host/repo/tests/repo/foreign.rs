//! Trees as other tools write them: odd modes, padding, empty directories, and what no tree may be.

use std::fs;

use git2::{ObjectType, Oid, Repository};
use repo::{ChangeKind, StoreError};

use crate::fixture::{Fixture, fixture, raw_tree, write};

/// A tree object with its modes as they are spelled.
fn spelled_tree(repo: &Repository, entries: &[(&str, &[u8], Oid)]) -> Oid {
    let mut data = Vec::new();
    for (mode, name, id) in entries {
        data.extend_from_slice(mode.as_bytes());
        data.push(b' ');
        data.extend_from_slice(name);
        data.push(0);
        data.extend_from_slice(id.as_bytes());
    }
    repo.odb().unwrap().write(ObjectType::Tree, &data).unwrap()
}

/// Spellings that git took once: a mode that groups may write to, modes with a zero in front, a directory of nothing.
fn odd(fixture: &Fixture) -> Oid {
    let repo = fixture.git();
    let blob = |text: &str| repo.blob(text.as_bytes()).unwrap();
    let empty = raw_tree(&repo, &[]);
    let below = spelled_tree(
        &repo,
        &[
            ("040000", b"empty", empty),
            ("100664", b"shared", blob("shared")),
            ("0100644", b"zero", blob("zero")),
        ],
    );
    spelled_tree(
        &repo,
        &[
            ("100664", b"file", blob("file")),
            ("40000", b"hollow", empty),
            ("040000", b"odd", below),
            (
                "40000",
                b"plain",
                raw_tree(&repo, &[(0o100_644, b"a", blob("a"))]),
            ),
        ],
    )
}

#[test]
fn an_odd_tree_that_nobody_touched_comes_back_as_the_same_object() {
    let fixture = fixture(&[("a", "1")]);
    fixture.commit_tree(odd(&fixture));
    let (_, base) = fixture.fetch();
    let (path, done) = fixture.worktree(&base);
    assert_eq!(done.skipped, []);
    let report = fixture.import(&path, &base);
    assert_eq!((&report.tree, report.changed), (&base, vec![]));
    assert_eq!(report.refused, []);
}

#[test]
fn a_change_leaves_the_odd_trees_beside_it_alone() {
    let fixture = fixture(&[("a", "1")]);
    fixture.commit_tree(odd(&fixture));
    let (_, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    write(&path.join("plain/a"), "changed");
    fs::remove_dir(path.join("hollow")).unwrap();
    let report = fixture.import(&path, &base);
    let changed: Vec<_> = report.changed.iter().map(|c| (&*c.path, c.kind)).collect();
    assert_eq!(changed, [("plain/a", ChangeKind::Modified)]);
    for untouched in [
        "file",
        "hollow",
        "odd",
        "odd/empty",
        "odd/shared",
        "odd/zero",
    ] {
        let entry = |tree| fixture.mirror.entry(tree, untouched).unwrap();
        assert!(entry(&base).is_some(), "{untouched}");
        assert_eq!(entry(&report.tree), entry(&base), "{untouched}");
    }
}

/// Two things at one path: whoever reads such a tree takes one of them, and not everybody the same.
#[test]
fn a_tree_with_two_entries_of_one_name_is_refused() {
    let fixture = fixture(&[("a", "1")]);
    let repo = fixture.git();
    let blob = repo.blob(b"x").unwrap();
    let below = raw_tree(&repo, &[(0o100_644, b"x", blob)]);
    for (leaf, id) in [
        (0o100_644, blob),
        (0o120_000, blob),
        (0o160_000, Oid::from_bytes(&[7; 20]).unwrap()),
    ] {
        let neighbours = raw_tree(&repo, &[(leaf, b"a", id), (0o040_000, b"a", below)]);
        let apart = raw_tree(
            &repo,
            &[
                (leaf, b"a", id),
                (0o100_644, b"a-b", blob),
                (0o100_644, b"a.c", blob),
                (0o040_000, b"a", below),
                (0o040_000, b"b", below),
            ],
        );
        for tree in [neighbours, apart] {
            let root = raw_tree(&repo, &[(0o040_000, b"deep", tree)]);
            let tip = fixture.orphan(root);
            let refused = fixture.mirror.fetch_commit(&fixture.source(), &tip);
            assert!(
                matches!(&refused, Err(StoreError::BrokenTree { why, .. }) if why.contains("one name")),
                "{refused:?}"
            );
            assert!(!fixture.mirror.has_commit(&tip).unwrap());
        }
    }
}
