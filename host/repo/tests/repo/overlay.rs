//! The base's own tests over a candidate: whatever the candidate did to them does not count.

use crate::fixture::fixture;

#[test]
fn matching_paths_come_from_the_base_alone() {
    let fixture = fixture(&[
        ("src/a", "1"),
        ("tests/kept", "t"),
        ("tests/weak", "t"),
        ("tests/gone", "t"),
        ("tests/deep/x", "t"),
        ("z", "1"),
    ]);
    let (tip, base) = fixture.fetch();
    let next = fixture.change(
        &tip,
        &[
            ("src/a", Some("2")),
            ("src/tests/mine", Some("no match")),
            ("tests/weak", Some("true")),
            ("tests/gone", None),
            ("tests/added", Some("mine")),
            ("tests/deep/x", None),
            ("z", None),
        ],
    );
    let candidate = fixture.mirror.tree_of(&next).unwrap();
    let overlay = |pattern: &dyn Fn(&str) -> bool| {
        fixture.files(&fixture.mirror.overlay(&candidate, &base, pattern).unwrap())
    };
    let files = overlay(&|path| path.starts_with("tests/"));
    let expected = [
        ("src/a", "2"),
        ("src/tests/mine", "no match"),
        ("tests/deep/x", "t"),
        ("tests/gone", "t"),
        ("tests/kept", "t"),
        ("tests/weak", "t"),
    ];
    assert_eq!(
        files
            .iter()
            .map(|(p, t)| (p.as_str(), t.as_str()))
            .collect::<Vec<_>>(),
        expected
    );
    assert_eq!(
        fixture
            .mirror
            .overlay(&candidate, &base, &|_| true)
            .unwrap(),
        base
    );
    assert_eq!(
        fixture
            .mirror
            .overlay(&candidate, &base, &|_| false)
            .unwrap(),
        candidate
    );
}

#[test]
fn the_base_wins_where_files_and_directories_clash() {
    let fixture = fixture(&[
        ("tests/a", "t"),
        ("tests/helper", "h"),
        ("test.py", "t"),
        ("k", ""),
    ]);
    let (tip, base) = fixture.fetch();
    let next = fixture.change(
        &tip,
        &[
            ("tests/a", None),
            ("tests/helper", None),
            ("test.py", None),
            ("test.py/sneaky", Some("x")),
        ],
    );
    let next = {
        let tree = fixture.mirror.tree_of(&next).unwrap();
        let (path, _) = fixture.worktree(&tree);
        crate::fixture::write(&path.join("tests"), "a file in the way");
        fixture.import(&path, &tree).tree
    };
    let matches = |path: &str| path == "tests/a" || path == "test.py";
    let files = fixture.files(&fixture.mirror.overlay(&next, &base, &matches).unwrap());
    assert_eq!(
        files.into_iter().collect::<Vec<_>>(),
        [
            ("k".into(), String::new()),
            ("test.py".into(), "t".into()),
            ("tests/a".into(), "t".into())
        ]
    );
}
