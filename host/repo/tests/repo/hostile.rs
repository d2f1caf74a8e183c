//! Hostile directories (attacks 114-126): canaries outside stay unread and untouched, nothing is executed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use repo::names::NameFault;
use repo::{ChangeKind, RefusedReason, Source, SourceError, StoreError};

use crate::fixture::{Fixture, fixture, make_executable, snapshot, write};

const SECRET: &str = "TOPSECRET-canary";

/// Whether any object of the mirror holds the canary.
fn leaked(fixture: &Fixture) -> bool {
    let repo = git2::Repository::open_bare(fixture.mirror.git_dir()).unwrap();
    let odb = repo.odb().unwrap();
    let mut found = false;
    odb.foreach(|id| {
        let object = odb.read(*id).unwrap();
        found |= object
            .data()
            .windows(SECRET.len())
            .any(|w| w == SECRET.as_bytes());
        true
    })
    .unwrap();
    found
}

fn refusals(fixture: &Fixture, edit: impl FnOnce(&Path)) -> BTreeMap<String, RefusedReason> {
    let (_, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    edit(&path);
    let report = fixture.import(&path, &base);
    assert_eq!(
        report.tree, base,
        "nothing of it was taken: {:?}",
        report.changed
    );
    assert_eq!(report.changed, []);
    report
        .refused
        .into_iter()
        .map(|r| (r.path, r.reason))
        .collect()
}

#[test]
fn a_planted_dot_git_is_ignored_in_every_shape() {
    let fixture = fixture(&[("a", "1")]);
    let evil = fixture.dir.path().join("evil");
    git2::Repository::init(&evil).unwrap();
    write(&fixture.dir.path().join("secret"), SECRET);
    for shape in 0..4 {
        let refused = refusals(&fixture, |path| {
            let dot_git = path.join(".git");
            match shape {
                0 => write(
                    &dot_git,
                    &format!("gitdir: {}\n", evil.join(".git").display()),
                ),
                1 => symlink(evil.join(".git"), &dot_git).unwrap(),
                2 => {
                    git2::Repository::init(path).unwrap();
                    write(&path.join(".git/secret"), SECRET);
                }
                _ => mkfifo(&dot_git),
            }
        });
        assert_eq!(
            refused,
            BTreeMap::from([(".git".to_owned(), RefusedReason::Name(NameFault::DotGit))])
        );
    }
    assert!(!leaked(&fixture));
}

#[test]
fn nothing_outside_is_read_through_links() {
    let fixture = fixture(&[("a", "1"), ("dir/b", "1"), ("tracked", "1")]);
    let outside = fixture.dir.path().join("outside");
    write(&outside.join("secret"), SECRET);
    let before = snapshot(&outside);
    let refused = refusals(&fixture, |path| {
        symlink(&outside, path.join("absolute-dir")).unwrap();
        symlink(outside.join("secret"), path.join("absolute-file")).unwrap();
        symlink("../outside/secret", path.join("up")).unwrap();
        symlink("dir/../../outside", path.join("through")).unwrap();
        symlink("a\nb", path.join("newline")).unwrap();
        fs::remove_file(path.join("tracked")).unwrap();
        symlink(outside.join("secret"), path.join("tracked")).unwrap();
        fs::hard_link(outside.join("secret"), path.join("hard")).unwrap();
    });
    use RefusedReason::{HardLink, SymlinkEscapes};
    let expected = [
        ("absolute-dir", SymlinkEscapes),
        ("absolute-file", SymlinkEscapes),
        ("hard", HardLink),
        ("newline", SymlinkEscapes),
        ("through", SymlinkEscapes),
        ("tracked", SymlinkEscapes),
        ("up", SymlinkEscapes),
    ];
    assert_eq!(refused, expected.map(|(p, r)| (p.to_owned(), r)).into());
    assert!(!leaked(&fixture));
    assert_eq!(snapshot(&outside), before);
}

#[test]
fn a_directory_replaced_by_a_link_is_a_link() {
    let fixture = fixture(&[("dir/a", "1"), ("other/a", "2")]);
    let outside = fixture.dir.path().join("outside");
    write(&outside.join("a"), SECRET);
    let refused = refusals(&fixture, |path| {
        fs::remove_dir_all(path.join("dir")).unwrap();
        symlink(&outside, path.join("dir")).unwrap();
    });
    assert_eq!(
        refused,
        [("dir".to_owned(), RefusedReason::SymlinkEscapes)].into()
    );
    let (_, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    fs::remove_dir_all(path.join("dir")).unwrap();
    symlink("other", path.join("dir")).unwrap();
    let report = fixture.import(&path, &base);
    let changes: Vec<_> = report
        .changed
        .iter()
        .map(|c| (c.path.as_str(), c.kind))
        .collect();
    assert_eq!(
        changes,
        [("dir", ChangeKind::Added), ("dir/a", ChangeKind::Deleted)]
    );
    assert!(!leaked(&fixture));
}

#[test]
fn special_files_are_refused_without_being_opened() {
    let fixture = fixture(&[("a", "1"), ("b", "1"), ("c", "1")]);
    let refused = refusals(&fixture, |path| {
        mkfifo(&path.join("pipe"));
        fs::remove_file(path.join("b")).unwrap();
        mkfifo(&path.join("b"));
        drop(UnixListener::bind(path.join("socket")).unwrap());
        write(&path.join("suid"), "x");
        fs::set_permissions(path.join("suid"), fs::Permissions::from_mode(0o4755)).unwrap();
        write(&path.join("sticky"), "x");
        fs::set_permissions(path.join("sticky"), fs::Permissions::from_mode(0o1644)).unwrap();
        fs::hard_link(path.join("c"), path.join("c2")).unwrap();
        // Needs root; elsewhere there is just no device to refuse.
        if rustix::process::geteuid().is_root() {
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            let null = rustix::fs::makedev(1, 3);
            let _ = rustix::fs::mknodat(
                rustix::fs::CWD,
                path.join("null"),
                rustix::fs::FileType::CharacterDevice,
                mode,
                null,
            );
        }
    });
    use RefusedReason::{Device, HardLink, Pipe, Socket, SpecialMode};
    let mut expected: BTreeMap<_, _> = [
        ("b", Pipe),
        ("c", HardLink),
        ("c2", HardLink),
        ("pipe", Pipe),
        ("socket", Socket),
        ("sticky", SpecialMode),
        ("suid", SpecialMode),
    ]
    .map(|(p, r)| (p.to_owned(), r))
    .into();
    if refused.contains_key("null") {
        expected.insert("null".to_owned(), Device);
    }
    assert_eq!(refused, expected);
}

#[test]
fn names_with_a_meaning_are_refused() {
    let fixture = fixture(&[("a", "1")]);
    let names: [(&[u8], NameFault); 14] = [
        (b".GIT", NameFault::DotGit),
        (b".git ", NameFault::DotGit),
        (b"git~1", NameFault::DotGit),
        (b".git::$INDEX_ALLOCATION", NameFault::DotGit),
        (".g\u{200c}it".as_bytes(), NameFault::DotGit),
        (b"CON", NameFault::Device),
        (b"a\\b", NameFault::Separator),
        (b"a:b", NameFault::Separator),
        (b"trailing.", NameFault::Trailing),
        (b"trailing ", NameFault::Trailing),
        (b"new\nline", NameFault::Control),
        (b"car\rriage", NameFault::Control),
        ("rtl\u{202e}".as_bytes(), NameFault::Control),
        (b"\xff\xfe", NameFault::NotUtf8),
    ];
    for as_directory in [false, true] {
        for (name, fault) in names {
            let refused = refusals(&fixture, |path| {
                let path = path.join(std::ffi::OsStr::from_bytes(name));
                if as_directory {
                    write(&path.join("x"), "1")
                } else {
                    write(&path, "1")
                }
            });
            let path = repo::names::escape(name);
            assert_eq!(refused, [(path, RefusedReason::Name(fault))].into());
        }
    }
}

#[test]
fn nested_and_embedded_repositories_are_not_entered_as_such() {
    let fixture = fixture(&[("a", "1")]);
    let (_, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    git2::Repository::init(path.join("sub")).unwrap();
    write(&path.join("sub/file"), "1");
    git2::Repository::init_bare(path.join("bare")).unwrap();
    write(
        &path.join(".gitmodules"),
        "[submodule \"x\"]\n\tpath = x\r\n\turl = -u./payload\n",
    );
    let report = fixture.import(&path, &base);
    let refused: Vec<_> = report
        .refused
        .iter()
        .map(|r| (r.path.as_str(), r.reason))
        .collect();
    assert_eq!(
        refused,
        [("sub/.git", RefusedReason::Name(NameFault::DotGit))]
    );
    let files = fixture.files(&report.tree);
    assert!(
        files.contains_key("sub/file")
            && files.contains_key("bare/HEAD")
            && files.contains_key(".gitmodules")
    );
    assert!(
        fixture
            .mirror
            .list(&report.tree)
            .unwrap()
            .iter()
            .all(|e| e.kind != repo::EntryKind::Submodule)
    );
}

/// Every key that makes some git program run something, and every hook, armed in the user's own repository.
#[test]
fn hooks_filters_and_drivers_of_the_user_do_not_run() {
    let fixture = fixture(&[
        ("a.txt", "1\n"),
        (".gitattributes", "* filter=evil diff=evil merge=evil\n"),
    ]);
    let canary = fixture.dir.path().join("canary");
    let script = fixture.dir.path().join("evil.sh");
    write(
        &script,
        &format!("#!/bin/sh\ntouch {}\ncat\n", canary.display()),
    );
    make_executable(&script);
    let git_dir = fixture.user().join(".git");
    for hook in [
        "applypatch-msg",
        "pre-applypatch",
        "post-applypatch",
        "pre-commit",
        "pre-merge-commit",
        "prepare-commit-msg",
        "commit-msg",
        "post-commit",
        "pre-rebase",
        "post-checkout",
        "post-merge",
        "pre-push",
        "pre-receive",
        "update",
        "proc-receive",
        "post-receive",
        "post-update",
        "reference-transaction",
        "push-to-checkout",
        "pre-auto-gc",
        "post-rewrite",
        "sendemail-validate",
        "fsmonitor-watchman",
        "post-index-change",
    ] {
        let path = git_dir.join("hooks").join(hook);
        write(&path, &fs::read_to_string(&script).unwrap());
        make_executable(&path);
    }
    let mut config = fs::read_to_string(git_dir.join("config")).unwrap();
    let program = script.display().to_string();
    for (section, key) in [
        ("core", "fsmonitor"),
        ("core", "sshCommand"),
        ("core", "pager"),
        ("core", "editor"),
        ("credential", "helper"),
        ("gpg", "program"),
        ("filter \"evil\"", "clean"),
        ("filter \"evil\"", "smudge"),
        ("filter \"evil\"", "process"),
        ("diff", "external"),
        ("diff \"evil\"", "command"),
        ("diff \"evil\"", "textconv"),
        ("merge \"evil\"", "driver"),
        ("alias", "status"),
        ("uploadpack", "packObjectsHook"),
    ] {
        config.push_str(&format!("[{section}]\n\t{key} = {program}\n"));
    }
    config.push_str(
        "[user]\n\tname = Mallory\n\temail = mallory@example.com\n[commit]\n\tgpgSign = true\n",
    );
    fs::write(git_dir.join("config"), config).unwrap();

    let source = fixture.source();
    assert_eq!(source.dirty().unwrap(), Vec::<String>::new());
    source.inspect("main").unwrap();
    let (tip, base) = fixture.fetch();
    let next = fixture.change(&tip, &[("a.txt", Some("2\n")), ("b.txt", Some("new\n"))]);
    let tree = fixture.mirror.tree_of(&next).unwrap();
    fixture
        .mirror
        .diff(&base, &tree, &repo::DiffLimits::default())
        .unwrap();
    fixture.mirror.merge(&tip, &next).unwrap();
    source
        .publish(&fixture.mirror, "main", &tip, &next)
        .unwrap();
    assert_eq!(
        fs::read_to_string(fixture.user().join("a.txt")).unwrap(),
        "2\n"
    );
    assert!(!canary.exists(), "something of the repository was executed");
    let repo = fixture.git();
    let commit = repo
        .find_commit(git2::Oid::from_str(next.as_str()).unwrap())
        .unwrap();
    assert_eq!(commit.author().name().unwrap(), "moat");
}

#[test]
fn a_repository_that_points_elsewhere_is_refused() {
    let fixture = fixture(&[("a", "1")]);
    let victim = fixture.dir.path().join("victim");
    write(&victim.join("precious"), "1");
    let config = fixture.user().join(".git/config");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        format!("{text}[core]\n\tworktree = {}\n", victim.display()),
    )
    .unwrap();
    let error = Source::open(&fixture.user()).unwrap_err();
    assert!(
        matches!(&error, SourceError::WorktreeElsewhere { elsewhere, .. } if *elsewhere == victim.canonicalize().unwrap()),
        "{error}"
    );
    assert_eq!(snapshot(&victim).len(), 1);
}

#[test]
fn a_mirror_that_was_changed_is_refused() {
    let victim = fixture(&[("secret", SECRET)]);
    let tampering: [(&str, &str); 12] = [
        ("config", "[core]\n\tbare = true\n\tworktree = /\n"),
        ("HEAD", "ref: refs/heads/main\n"),
        ("commondir", "/elsewhere\n"),
        ("objects/info/alternates", "/elsewhere/objects\n"),
        ("objects/info/http-alternates", "http://x/\n"),
        ("info/grafts", "\n"),
        ("info/attributes", "* -diff\n"),
        ("packed-refs", "\n"),
        (
            "refs/replace/0000000000000000000000000000000000000000",
            "\n",
        ),
        ("shallow", "\n"),
        ("hooks/post-checkout", "#!/bin/sh\n"),
        ("index", "DIRC"),
    ];
    for (name, text) in tampering {
        let fixture = fixture(&[("a", "1")]);
        let (_, tree) = fixture.fetch();
        let alternate = victim.user().join(".git/objects").display().to_string();
        write(
            &fixture.mirror.git_dir().join(name),
            &text.replace("/elsewhere/objects", &alternate),
        );
        let error = fixture.mirror.list(&tree).unwrap_err();
        assert!(
            matches!(&error, StoreError::Tampered { .. }),
            "{name}: {error}"
        );
        assert!(
            repo::Mirror::open_or_create(fixture.mirror.git_dir()).is_err(),
            "{name}"
        );
    }
}

/// A process that still writes while the import reads: the tree is one set of reads, and later writes do not matter.
#[test]
fn a_racing_writer_cannot_change_what_was_committed() {
    // The many files give the racer time between the listing and the opening of the directory.
    let many: Vec<_> = (0..300).map(|n| format!("a{n}")).collect();
    let mut files: Vec<_> = many.iter().map(|n| (n.as_str(), "1")).collect();
    files.extend([("victim", "base"), ("zdir/x", "1"), ("zfile", "1")]);
    let fixture = fixture(&files);
    let (_, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    let outside = fixture.dir.path().join("outside");
    write(&outside.join("x"), SECRET);
    let stop = Arc::new(AtomicBool::new(false));
    let racer = {
        let (stop, path, outside) = (Arc::clone(&stop), path.clone(), outside.clone());
        std::thread::spawn(move || {
            let mut round = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let _ = fs::write(path.join("victim"), "v".repeat(round as usize % 5_000));
                // Swap a directory for a link to the outside and back.
                let _ = fs::rename(path.join("zdir"), path.join("zdir2"));
                let _ = symlink(&outside, path.join("zdir"));
                let _ = fs::remove_file(path.join("zdir"));
                let _ = fs::rename(path.join("zdir2"), path.join("zdir"));
                // The same with a file.
                let _ = fs::rename(path.join("zfile"), path.join("zfile2"));
                let _ = symlink(outside.join("x"), path.join("zfile"));
                let _ = fs::remove_file(path.join("zfile"));
                let _ = fs::rename(path.join("zfile2"), path.join("zfile"));
            }
        })
    };
    let read = |tree: &_| fixture.mirror.read(tree, "victim", usize::MAX).unwrap();
    let mut trees = Vec::new();
    for _ in 0..200 {
        if let Ok(report) = fixture
            .mirror
            .import(&path, &base, &repo::ImportRules::default())
        {
            trees.push((report.tree.clone(), read(&report.tree)));
        }
    }
    stop.store(true, Ordering::Relaxed);
    racer.join().unwrap();
    assert!(trees.len() > 100, "most imports succeed: {}", trees.len());
    for (tree, content) in trees {
        assert_eq!(
            read(&tree),
            content,
            "the tree does not follow the directory"
        );
    }
    assert!(!leaked(&fixture));
}

fn mkfifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}
