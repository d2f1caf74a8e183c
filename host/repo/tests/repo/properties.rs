//! Properties over generated trees.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use repo::names;

use crate::fixture::{Fixture, fixture, make_executable, raw_tree};

/// A tree as nested maps.
#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>, bool),
    Link(String),
    Directory(BTreeMap<Vec<u8>, Node>),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => "[a-zA-Z0-9._é-]{1,6}".prop_map(String::into_bytes),
        1 => prop::sample::select(vec![".git", ".GIT", "git~1", "CON", "a:b", "x.", "aux.c", "a\\b", ".g\u{200c}it", "new\nline", ".gitignore"])
            .prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>().prop_filter("no separator", |b| *b != 0 && *b != b'/'), 1..5),
    ]
    .prop_filter("not dots", |n| n != b"." && n != b"..")
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        5 => (prop::collection::vec(any::<u8>(), 0..50), any::<bool>()).prop_map(|(bytes, x)| Node::File(bytes, x)),
        1 => "(\\.\\./|a/|/|\\./){0,3}[a-c.]{1,2}".prop_map(Node::Link),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop::collection::btree_map(name(), inner, 1..5).prop_map(Node::Directory)
    })
}

fn root() -> impl Strategy<Value = BTreeMap<Vec<u8>, Node>> {
    prop::collection::btree_map(name(), node(), 1..6)
}

fn put(repo: &git2::Repository, entries: &BTreeMap<Vec<u8>, Node>) -> git2::Oid {
    let mut items: Vec<_> = entries
        .iter()
        .map(|(name, node)| match node {
            Node::File(bytes, x) => (
                if *x { 0o100_755 } else { 0o100_644 },
                name.as_slice(),
                repo.blob(bytes).unwrap(),
            ),
            Node::Link(target) => (
                0o120_000,
                name.as_slice(),
                repo.blob(target.as_bytes()).unwrap(),
            ),
            Node::Directory(inner) => (0o040_000, name.as_slice(), put(repo, inner)),
        })
        .collect();
    let key = |(mode, name, _): &(u32, &[u8], git2::Oid)| {
        [
            *name,
            if *mode == 0o040_000 {
                b"/".as_slice()
            } else {
                b"".as_slice()
            },
        ]
        .concat()
    };
    items.sort_by_key(key);
    raw_tree(repo, &items)
}

fn write(directory: &std::path::Path, entries: &BTreeMap<Vec<u8>, Node>) {
    for (name, node) in entries {
        let path = directory.join(std::ffi::OsStr::from_bytes(name));
        match node {
            Node::File(bytes, x) => {
                fs::write(&path, bytes).unwrap();
                if *x {
                    make_executable(&path);
                }
            }
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::Directory(inner) => {
                fs::create_dir(&path).unwrap();
                write(&path, inner);
            }
        }
    }
}

fn base() -> Fixture {
    fixture(&[("readme", "1")])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_written_out_and_read_back_is_the_same_tree(entries in root()) {
        let fixture = base();
        fixture.commit_tree(put(&fixture.git(), &entries));
        let (_, tree) = fixture.fetch();
        let (path, _) = fixture.worktree(&tree);
        let report = fixture.import(&path, &tree);
        prop_assert_eq!(&report.tree, &tree);
        prop_assert_eq!(report.changed, vec![]);
        prop_assert_eq!(report.refused, vec![]);
    }

    #[test]
    fn an_import_never_holds_a_refused_name_or_an_escaping_link(entries in root()) {
        let fixture = base();
        let (tip, tree) = fixture.fetch();
        let (path, _) = fixture.worktree(&tree);
        fs::remove_file(path.join("readme")).unwrap();
        write(&path, &entries);
        let report = fixture.import(&path, &tree);
        let git = git2::Repository::open_bare(fixture.mirror.git_dir()).unwrap();
        let root = git.find_tree(git2::Oid::from_str(report.tree.as_str()).unwrap()).unwrap();
        let mut folded = std::collections::HashSet::new();
        root.walk(git2::TreeWalkMode::PreOrder, |parent, entry| {
            let name = entry.name_bytes();
            assert!(names::check(name).is_ok(), "{}", names::escape(name));
            assert!(folded.insert((parent.to_owned(), names::fold(std::str::from_utf8(name).unwrap()))));
            if entry.filemode() == 0o120_000 {
                let target = git.find_blob(entry.id()).unwrap();
                assert!(names::link_is_contained(target.content(), parent.matches('/').count()));
            }
            git2::TreeWalkResult::Ok
        }).unwrap();
        // Writing it out and reading it back gives it again, and git agrees that it is well made.
        let (again, done) = fixture.worktree(&report.tree);
        prop_assert_eq!(done.skipped, vec![]);
        prop_assert_eq!(fixture.import(&again, &report.tree).changed, vec![]);
        let commit = fixture.commit_in_mirror(&report.tree, &[&tip]);
        fixture.run_git(fixture.mirror.git_dir(), &["fsck", "--strict", commit.as_str()]);
    }
}
