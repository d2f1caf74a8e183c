//! Importing a directory: which changes are taken, kept back, refused, and where it stops.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use repo::{ChangeKind, ImportError, ImportReport, ImportRules, RefusedReason};

use crate::fixture::{Fixture, fixture, make_executable, write};

fn changes(report: &ImportReport) -> Vec<(&str, ChangeKind)> {
    report
        .changed
        .iter()
        .map(|c| (c.path.as_str(), c.kind))
        .collect()
}

fn refusals(report: &ImportReport) -> Vec<(&str, RefusedReason)> {
    report
        .refused
        .iter()
        .map(|r| (r.path.as_str(), r.reason))
        .collect()
}

/// Imports what `edit` makes of a worktree; checks that a second look at the same directory sees the same.
fn check(fixture: &Fixture, rules: &ImportRules<'_>, edit: impl Fn(&Path)) -> ImportReport {
    let (_, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    edit(&path);
    let report = fixture.mirror.import(&path, &base, rules).unwrap();
    assert_eq!(report, fixture.mirror.import(&path, &base, rules).unwrap());
    report
}

#[test]
fn every_kind_of_change_is_taken() {
    let fixture = fixture(&[
        ("same", "1"),
        ("edit", "1"),
        ("gone", "1"),
        ("mode", "1"),
        ("dir/a", "1"),
        ("dir/b", "1"),
        ("file", "1"),
        ("kind", "1"),
    ]);
    let report = check(&fixture, &ImportRules::default(), |path| {
        write(&path.join("edit"), "2");
        fs::remove_file(path.join("gone")).unwrap();
        make_executable(&path.join("mode"));
        write(&path.join("new/deep"), "3");
        fs::create_dir(path.join("empty")).unwrap();
        fs::remove_dir_all(path.join("dir")).unwrap();
        write(&path.join("dir"), "now a file");
        fs::remove_file(path.join("file")).unwrap();
        write(&path.join("file/inside"), "now a directory");
        fs::remove_file(path.join("kind")).unwrap();
        symlink("same", path.join("kind")).unwrap();
    });
    use ChangeKind::{Added, Deleted, ModeChanged, Modified};
    assert_eq!(
        changes(&report),
        [
            ("dir", Added),
            ("dir/a", Deleted),
            ("dir/b", Deleted),
            ("edit", Modified),
            ("file", Deleted),
            ("file/inside", Added),
            ("gone", Deleted),
            ("kind", Modified),
            ("mode", ModeChanged),
            ("new/deep", Added),
        ]
    );
    assert_eq!(report.refused, []);
    let names: Vec<_> = fixture.files(&report.tree).into_keys().collect();
    assert_eq!(
        names,
        [
            "dir",
            "edit",
            "file/inside",
            "kind",
            "mode",
            "new/deep",
            "same"
        ]
    );
    let commit = fixture.commit_in_mirror(&report.tree, &[&fixture.fetch().0]);
    fixture.run_git(
        fixture.mirror.git_dir(),
        &["fsck", "--strict", commit.as_str()],
    );
}

#[test]
fn an_untouched_directory_is_the_base() {
    let fixture = fixture(&[("a", "1"), ("b/c", "2")]);
    let report = check(&fixture, &ImportRules::default(), |_| {});
    assert_eq!(
        (report.tree, report.changed, report.files),
        (fixture.fetch().1, vec![], 2)
    );
}

#[test]
fn only_the_bases_gitignore_counts() {
    let fixture = fixture(&[
        (".gitignore", "target/\n*.log\n!keep.log\n/root-only\n"),
        ("sub/.gitignore", "local\n"),
        ("target/tracked", "1"),
        ("tracked.log", "1"),
        ("sub/x", "1"),
    ]);
    let report = check(&fixture, &ImportRules::default(), |path| {
        // A candidate's own ignore file hides nothing.
        write(&path.join(".gitignore"), "*\n");
        write(&path.join("build.rs"), "fn main() {}");
        write(&path.join("deep/.gitignore"), "*\n");
        write(&path.join("deep/hidden"), "x");
        for ignored in [
            "target/out/a",
            "target/out/b",
            "target/c",
            "x.log",
            "sub/y.log",
            "root-only",
            "sub/local/z",
        ] {
            write(&path.join(ignored), "x");
        }
        write(&path.join("keep.log"), "x");
        write(&path.join("sub/root-only"), "x");
        write(&path.join("target/tracked"), "2");
        write(&path.join("tracked.log"), "2");
    });
    use ChangeKind::{Added, Modified};
    assert_eq!(
        changes(&report),
        [
            (".gitignore", Modified),
            ("build.rs", Added),
            ("deep/.gitignore", Added),
            ("deep/hidden", Added),
            ("keep.log", Added),
            ("sub/root-only", Added),
            ("target/tracked", Modified),
            ("tracked.log", Modified),
        ]
    );
    assert_eq!(report.ignored, 6, "target/out counts once, sub/local once");
}

#[test]
fn withheld_paths_come_back_and_cannot_be_planted() {
    let fixture = fixture(&[
        (".env", "SECRET"),
        ("keys/a.pem", "SECRET"),
        ("keys/readme", "1"),
        ("src/a", "1"),
    ]);
    let withheld = |path: &str| path.ends_with(".env") || path.ends_with(".pem");
    let rules = ImportRules {
        withheld: &withheld,
        ..ImportRules::default()
    };
    let (_, base) = fixture.fetch();
    let path = fixture.dir.path().join("view");
    fixture
        .mirror
        .materialise(&base, &path, &|p, _| !withheld(p))
        .unwrap();
    let report = fixture.mirror.import(&path, &base, &rules).unwrap();
    assert_eq!((report.tree, report.refused), (base.clone(), vec![]));

    write(&path.join(".env"), "mine");
    write(&path.join("src/.env/x"), "mine");
    write(&path.join("src/new.pem"), "mine");
    write(&path.join("src/a"), "2");
    fs::remove_dir_all(path.join("keys")).unwrap();
    write(&path.join("keys"), "a file where a secret must stay");
    let report = fixture.mirror.import(&path, &base, &rules).unwrap();
    assert_eq!(
        changes(&report),
        [
            ("keys/readme", ChangeKind::Deleted),
            ("src/a", ChangeKind::Modified)
        ]
    );
    assert_eq!(
        refusals(&report),
        [
            (".env", RefusedReason::Withheld),
            ("keys", RefusedReason::DirectoryStays),
            ("src/.env", RefusedReason::Withheld),
            ("src/new.pem", RefusedReason::Withheld)
        ]
    );
    let files = fixture.files(&report.tree);
    assert_eq!(files[".env"], "SECRET");
    assert_eq!(files["keys/a.pem"], "SECRET");
    assert_eq!(files.len(), 3);
}

#[test]
fn changes_outside_the_writable_paths_are_refused() {
    let fixture = fixture(&[
        ("src/a", "1"),
        ("tests/t", "1"),
        ("moat.toml", "1"),
        ("gone", "1"),
        ("file", "1"),
    ]);
    let rules = ImportRules {
        writable: &|path| path.starts_with("src/"),
        ..ImportRules::default()
    };
    let report = check(&fixture, &rules, |path| {
        write(&path.join("src/a"), "2");
        write(&path.join("src/b"), "2");
        write(&path.join("tests/t"), "weaker");
        make_executable(&path.join("moat.toml"));
        fs::remove_file(path.join("gone")).unwrap();
        write(&path.join("new"), "x");
        fs::remove_file(path.join("file")).unwrap();
        write(&path.join("file/x"), "x");
    });
    assert_eq!(
        changes(&report),
        [
            ("src/a", ChangeKind::Modified),
            ("src/b", ChangeKind::Added)
        ]
    );
    let refused: Vec<_> = refusals(&report)
        .into_iter()
        .map(|(path, reason)| (path, reason == RefusedReason::NotWritable))
        .collect();
    assert_eq!(
        refused,
        [
            ("file", true),
            ("gone", true),
            ("moat.toml", true),
            ("new", true),
            ("tests/t", true)
        ]
    );
    let files = fixture.files(&report.tree);
    assert_eq!(
        (
            files["tests/t"].as_str(),
            files["moat.toml"].as_str(),
            files["gone"].as_str()
        ),
        ("1", "1", "1")
    );
}

#[test]
fn limits_stop_the_import_with_a_clear_error() {
    let fixture = fixture(&[("a", "1"), ("big", &"x".repeat(5_000))]);
    let (_, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    let import = |rules: &ImportRules<'_>| fixture.mirror.import(&path, &base, rules);
    let small = ImportRules {
        file_bytes_max: 1_000,
        ..ImportRules::default()
    };
    assert!(
        import(&small).is_ok(),
        "a large file of the base, unchanged, is fine"
    );

    // A sparse gigabyte costs no disk and must cost no memory either.
    fs::File::create(path.join("huge.bin"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    let error = import(&ImportRules::default()).unwrap_err();
    assert!(
        matches!(&error, ImportError::FileTooLarge { path, size, .. } if path == "huge.bin" && *size == 1 << 30),
        "{error}"
    );
    assert!(error.to_string().contains(".gitignore"), "{error}");
    fs::remove_file(path.join("huge.bin")).unwrap();

    write(&path.join("big"), &"y".repeat(5_000));
    assert!(matches!(import(&small), Err(ImportError::FileTooLarge { path, .. }) if path == "big"));
    assert!(matches!(
        import(&ImportRules {
            bytes_max: 4_000,
            ..ImportRules::default()
        }),
        Err(ImportError::TooManyBytes { .. })
    ));
    assert!(matches!(
        import(&ImportRules {
            entries_max: 1,
            ..ImportRules::default()
        }),
        Err(ImportError::TooManyEntries { max: 1, .. })
    ));
    write(&path.join("1/2/3/4/x"), "x");
    assert!(
        matches!(import(&ImportRules { depth_max: 3, ..ImportRules::default() }), Err(ImportError::TooDeep { path, .. }) if path == "1/2/3/4")
    );
    assert!(
        import(&ImportRules {
            depth_max: 4,
            ..ImportRules::default()
        })
        .is_ok()
    );
}

#[test]
fn a_project_keeps_its_own_odd_names() {
    let fixture = fixture(&[
        ("aux.c", "1"),
        ("a:b", "1"),
        ("Makefile", "1"),
        ("makefile", "1"),
    ]);
    let report = check(&fixture, &ImportRules::default(), |path| {
        write(&path.join("aux.c"), "2");
        write(&path.join("con.c"), "2");
        write(&path.join("MAKEFILE"), "2");
        write(&path.join("Readme"), "2");
        write(&path.join("README"), "2");
    });
    assert_eq!(changes(&report), [("aux.c", ChangeKind::Modified)]);
    let refused: Vec<_> = report.refused.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(refused, ["con.c", "MAKEFILE", "README", "Readme"]);
    assert_eq!(fixture.files(&report.tree).len(), 4);
}

#[test]
fn many_new_files_are_one_import() {
    let fixture = fixture(&[("a", "1")]);
    let report = check(&fixture, &ImportRules::default(), |path| {
        for n in 0..300 {
            write(&path.join(format!("d{}/f{n}", n % 7)), &n.to_string());
        }
    });
    assert_eq!((report.changed.len(), report.files), (300, 301));
    assert_eq!(fixture.files(&report.tree)["d2/f9"], "9");
}

#[test]
fn what_was_installed_is_found_where_the_base_has_nothing() {
    let fixture = fixture(&[("web/package.json", "{}"), ("held/x", ""), ("file", "")]);
    let (_, tree) = fixture.fetch();
    let layer = tempfile::tempdir().unwrap();
    for directory in ["web/node_modules/a", ".venv", "held/y", "new/node_modules"] {
        fs::create_dir_all(layer.path().join(directory)).unwrap();
    }
    write(&layer.path().join("web/plain"), "");
    symlink("/etc", layer.path().join("link")).unwrap();
    symlink("/", layer.path().join("held/root")).unwrap();
    let asked = [
        "web/node_modules",
        ".venv",
        "held",
        "held/y",
        "held/root/etc",
        "new/node_modules",
        "web/plain",
        "link",
        "file/x",
        "absent",
    ];
    let asked: Vec<PathBuf> = asked.iter().map(PathBuf::from).collect();
    let found = fixture.mirror.installed(layer.path(), &tree, &asked);
    let expected = ["web/node_modules", ".venv", "held/y"].map(PathBuf::from);
    assert_eq!(found.unwrap(), expected);
}
