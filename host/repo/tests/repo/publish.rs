//! Publishing: one winner, forwards only, and a checkout follows only when it is clean.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use repo::{CheckoutOutcome, LeftReason, PublishError, Published, Source};

use crate::fixture::{Fixture, fixture, snapshot, write};

fn tip(fixture: &Fixture, branch: &str) -> flow::id::CommitId {
    fixture.source().branch_tip(branch).unwrap()
}

fn reason(result: Result<Published, PublishError>) -> (LeftReason, Vec<String>) {
    match result {
        Err(PublishError::CheckoutDirty { reason, paths, .. }) => (reason, paths),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clean_checkout_follows_the_branch() {
    let fixture = fixture(&[
        ("edit", "1\n"),
        ("gone/deep/file", "1"),
        ("dir/a", "1"),
        ("dir/b", "1"),
        ("file", "1"),
        ("same", "1"),
        (".gitignore", "out/\n"),
    ]);
    let (from, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    write(&path.join("edit"), "2\n");
    fs::remove_dir_all(path.join("gone")).unwrap();
    fs::remove_dir_all(path.join("dir")).unwrap();
    write(&path.join("dir"), "a file now");
    fs::remove_file(path.join("file")).unwrap();
    write(&path.join("file/inside"), "a directory now");
    write(&path.join("new/run.sh"), "#!/bin/sh\n");
    crate::fixture::make_executable(&path.join("new/run.sh"));
    symlink("edit", path.join("link")).unwrap();
    let to = fixture.commit_in_mirror(&fixture.import(&path, &base).tree, &[&from]);

    write(&fixture.user().join("untracked"), "mine");
    write(&fixture.user().join("out/built"), "mine");
    let done = fixture
        .source()
        .publish(&fixture.mirror, "main", &from, &to)
        .unwrap();
    assert!(done.moved);
    assert!(
        matches!(&done.checkouts[..], [one] if one.outcome == CheckoutOutcome::Updated { files: 9 }),
        "{done:?}"
    );
    assert_eq!(tip(&fixture, "main"), to);
    assert_eq!(fixture.git_status(), "?? untracked\n");
    let mut expected = snapshot(&path);
    for (path, content) in [
        ("untracked", "mine"),
        ("out", "<dir>"),
        ("out/built", "mine"),
    ] {
        expected.insert(path.into(), content.into());
    }
    let mut found = snapshot(&fixture.user());
    found.retain(|path, _| path != ".git" && !path.starts_with(".git/"));
    assert_eq!(found, expected);
    fixture.run_git(&fixture.user(), &["fsck", "--strict"]);
    assert!(
        fixture
            .run_git(&fixture.user(), &["reflog", "-1"])
            .contains("moat: fast-forward")
    );
    // Again: nothing left to do.
    let again = fixture
        .source()
        .publish(&fixture.mirror, "main", &from, &to)
        .unwrap();
    assert!(
        !again.moved && again.checkouts[0].outcome == CheckoutOutcome::Current,
        "{again:?}"
    );
}

#[test]
fn a_checkout_with_work_in_it_stops_the_publication() {
    type Dirt = fn(&Fixture, &Path);
    let table: [(&str, Dirt, LeftReason, &[&str]); 9] = [
        (
            "edited",
            |_, p| write(&p.join("other"), "mine"),
            LeftReason::Changed,
            &["other"],
        ),
        (
            "edited where we write",
            |_, p| write(&p.join("a"), "mine"),
            LeftReason::Changed,
            &["a"],
        ),
        (
            "removed",
            |_, p| fs::remove_file(p.join("a")).unwrap(),
            LeftReason::Changed,
            &["a"],
        ),
        (
            "staged",
            |f, p| {
                write(&p.join("staged"), "mine");
                f.run_git(p, &["add", "staged"]);
            },
            LeftReason::Staged,
            &["staged"],
        ),
        (
            "untracked in the way",
            |_, p| write(&p.join("new"), "mine"),
            LeftReason::InTheWay,
            &["new"],
        ),
        (
            "ignored in the way",
            |f, p| {
                write(&f.user().join(".git/info/exclude"), "new\n");
                write(&p.join("new"), "mine");
            },
            LeftReason::InTheWay,
            &["new"],
        ),
        (
            "a file where a directory goes",
            |_, p| write(&p.join("d"), "mine"),
            LeftReason::InTheWay,
            &["d/new"],
        ),
        (
            "a link where a directory goes",
            |f, p| {
                fs::create_dir(f.dir.path().join("outside")).unwrap();
                symlink("../outside", p.join("d")).unwrap();
            },
            LeftReason::InTheWay,
            &["d/new"],
        ),
        (
            "a merge under way",
            |f, _| {
                let head = f.source().branch_tip("main").unwrap();
                fs::write(f.user().join(".git/MERGE_HEAD"), format!("{head}\n")).unwrap();
            },
            LeftReason::Busy,
            &[],
        ),
    ];
    for (name, dirt, wanted, paths) in table {
        let fixture = fixture(&[("a", "1"), ("other", "1")]);
        let (from, _) = fixture.fetch();
        let to = fixture.change(
            &from,
            &[("a", Some("2")), ("new", Some("2")), ("d/new", Some("2"))],
        );
        dirt(&fixture, &fixture.user());
        let before = snapshot(fixture.dir.path());
        let (found, at) = reason(
            fixture
                .source()
                .publish(&fixture.mirror, "main", &from, &to),
        );
        assert_eq!(
            (found, at.as_slice()),
            (
                wanted,
                paths
                    .iter()
                    .map(|p| (*p).to_owned())
                    .collect::<Vec<_>>()
                    .as_slice()
            ),
            "{name}"
        );
        assert_eq!(
            snapshot(fixture.dir.path()),
            before,
            "{name}: nothing moved, nothing was written"
        );
    }
}

#[test]
fn a_directory_with_work_in_it_does_not_become_a_file() {
    let fixture = fixture(&[("dir/a", "1"), ("k", "")]);
    let (from, _) = fixture.fetch();
    let to = fixture.change(&from, &[("dir/a", None), ("dir", Some("a file now"))]);
    write(&fixture.user().join("dir/deep/mine"), "mine");
    let before = snapshot(&fixture.user());
    let publish = || {
        fixture
            .source()
            .publish(&fixture.mirror, "main", &from, &to)
    };
    assert_eq!(
        reason(publish()),
        (LeftReason::InTheWay, vec!["dir".to_owned()])
    );
    assert_eq!(snapshot(&fixture.user()), before);
    // An empty directory is nobody's work.
    fs::remove_file(fixture.user().join("dir/deep/mine")).unwrap();
    publish().unwrap();
    assert_eq!(
        fs::read_to_string(fixture.user().join("dir")).unwrap(),
        "a file now"
    );
}

#[test]
fn a_branch_that_is_not_checked_out_just_moves() {
    let fixture = fixture(&[("a", "1")]);
    let (from, _) = fixture.fetch();
    let to = fixture.change(&from, &[("a", Some("2"))]);
    fixture.run_git(&fixture.user(), &["checkout", "-q", "-b", "mine"]);
    write(&fixture.user().join("a"), "work in progress");
    let done = fixture
        .source()
        .publish(&fixture.mirror, "main", &from, &to)
        .unwrap();
    assert_eq!(
        done,
        Published {
            moved: true,
            checkouts: vec![]
        }
    );
    assert_eq!((tip(&fixture, "main"), tip(&fixture, "mine")), (to, from));
    assert_eq!(
        fs::read_to_string(fixture.user().join("a")).unwrap(),
        "work in progress"
    );
}

#[test]
fn linked_checkouts_follow_or_stop_as_well() {
    let fixture = fixture(&[("a", "1")]);
    let linked = fixture.dir.path().join("linked");
    fixture.run_git(&fixture.user(), &["checkout", "-q", "-b", "mine"]);
    fixture.run_git(
        &fixture.user(),
        &["worktree", "add", "-q", linked.to_str().unwrap(), "main"],
    );
    let (from, _) = fixture.fetch();
    let to = fixture.change(&from, &[("a", Some("2"))]);
    write(&linked.join("a"), "mine");
    assert_eq!(
        reason(
            fixture
                .source()
                .publish(&fixture.mirror, "main", &from, &to)
        )
        .0,
        LeftReason::Changed
    );
    write(&linked.join("a"), "1");
    let done = fixture
        .source()
        .publish(&fixture.mirror, "main", &from, &to)
        .unwrap();
    assert_eq!(
        done.checkouts
            .iter()
            .map(|c| c.path.clone())
            .collect::<Vec<_>>(),
        [linked.canonicalize().unwrap()]
    );
    assert_eq!(fs::read_to_string(linked.join("a")).unwrap(), "2");
    assert_eq!(fs::read_to_string(fixture.user().join("a")).unwrap(), "1");
    assert_eq!(fixture.run_git(&linked, &["status", "--porcelain"]), "");
    // A bare clone and a linked checkout as the source work alike.
    let next = fixture.change(&to, &[("b", Some("3"))]);
    Source::open(&linked)
        .unwrap()
        .publish(&fixture.mirror, "main", &to, &next)
        .unwrap();
    assert_eq!(fs::read_to_string(linked.join("b")).unwrap(), "3");
    // A checkout that is gone, and one that was half made when its git died, stand in nobody's way.
    fs::remove_dir_all(&linked).unwrap();
    write(
        &fixture.user().join(".git/worktrees/dead/HEAD"),
        "ref: refs/heads/main\n",
    );
    write(&fixture.user().join(".git/worktrees/dead/commondir"), "");
    let last = fixture.change(&next, &[("c", Some("4"))]);
    let done = fixture
        .source()
        .publish(&fixture.mirror, "main", &next, &last)
        .unwrap();
    assert_eq!(done.checkouts, []);
}

#[test]
fn a_branch_under_rebase_does_not_move() {
    let fixture = fixture(&[("a", "1")]);
    let (from, _) = fixture.fetch();
    let to = fixture.change(&from, &[("a", Some("2"))]);
    fixture.run_git(&fixture.user(), &["checkout", "-q", "--detach"]);
    write(
        &fixture.user().join(".git/rebase-merge/head-name"),
        "refs/heads/main\n",
    );
    assert_eq!(
        reason(
            fixture
                .source()
                .publish(&fixture.mirror, "main", &from, &to)
        )
        .0,
        LeftReason::Busy
    );
    assert_eq!(tip(&fixture, "main"), from);
}

#[test]
fn only_forwards_and_only_from_where_it_is() {
    let fixture = fixture(&[("a", "1")]);
    let (first, tree) = fixture.fetch();
    let next = fixture.change(&first, &[("a", Some("2"))]);
    let unrelated = fixture.commit_in_mirror(&tree, &[]);
    let source = fixture.source();
    let publish =
        |branch: &str, from: &_, to: &_| source.publish(&fixture.mirror, branch, from, to);
    assert!(matches!(
        publish("main", &next, &first),
        Err(PublishError::NotForwards { .. })
    ));
    assert!(matches!(
        publish("main", &first, &unrelated),
        Err(PublishError::NotForwards { .. })
    ));
    assert!(matches!(
        publish("other", &first, &next),
        Err(PublishError::Source(_))
    ));
    let theirs = fixture.commit(&[("b", "user's own")]);
    match publish("main", &first, &next) {
        Err(PublishError::Moved { actual, .. }) => assert_eq!(actual, theirs),
        other => panic!("{other:?}"),
    }
    assert_eq!(tip(&fixture, "main"), theirs);
    assert!(source.branch_contains("main", &theirs).unwrap());
    assert!(!source.branch_contains("main", &next).unwrap());
}

#[test]
fn other_references_stashes_and_settings_stay() {
    let fixture = fixture(&[("a", "1")]);
    write(&fixture.user().join("a"), "stashed");
    fixture.run_git(&fixture.user(), &["stash", "-q"]);
    fixture.run_git(&fixture.user(), &["tag", "v1"]);
    fixture.run_git(&fixture.user(), &["branch", "other"]);
    fixture.run_git(&fixture.user(), &["pack-refs", "--all"]);
    let refs = || {
        fixture
            .run_git(&fixture.user(), &["for-each-ref"])
            .lines()
            .filter(|l| !l.ends_with("refs/heads/main"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let config = || fs::read(fixture.user().join(".git/config")).unwrap();
    let (refs_before, config_before) = (refs(), config());
    let (from, _) = fixture.fetch();
    let to = fixture.change(&from, &[("a", Some("2"))]);
    fixture
        .source()
        .publish(&fixture.mirror, "main", &from, &to)
        .unwrap();
    assert_eq!(tip(&fixture, "main"), to, "a packed branch moves as well");
    assert_eq!((refs(), config()), (refs_before, config_before));
    assert_eq!(
        fixture
            .run_git(&fixture.user(), &["stash", "list"])
            .lines()
            .count(),
        1
    );
    let left: Vec<_> = snapshot(&fixture.user())
        .into_keys()
        .filter(|p| p.contains("moat") || p.ends_with(".lock"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn of_racing_publishers_exactly_one_wins() {
    for checked_out in [true, false] {
        let fixture = fixture(&[("a", "1")]);
        let (from, _) = fixture.fetch();
        if !checked_out {
            fixture.run_git(&fixture.user(), &["checkout", "-q", "--detach"]);
        }
        let rivals: Vec<_> = (0..8)
            .map(|n| fixture.change(&from, &[("a", Some(&format!("rival {n}")))]))
            .collect();
        let barrier = std::sync::Barrier::new(rivals.len());
        let results: Vec<_> = std::thread::scope(|scope| {
            let run = |to| {
                let (fixture, from, barrier) = (&fixture, &from, &barrier);
                scope.spawn(move || {
                    let source = fixture.source();
                    barrier.wait();
                    source.publish(&fixture.mirror, "main", from, to)
                })
            };
            let threads: Vec<_> = rivals.iter().map(run).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let winners: Vec<_> = results
            .iter()
            .zip(&rivals)
            .filter(|(r, _)| r.is_ok())
            .map(|(_, c)| c)
            .collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert_eq!(tip(&fixture, "main"), *winners[0]);
        for result in &results {
            assert!(
                matches!(result, Ok(_) | Err(PublishError::Moved { .. })),
                "{result:?}"
            );
        }
        if checked_out {
            assert_eq!(fixture.git_status(), "");
        }
    }
}

/// git knows nothing of our lock: only the compare-and-swap stands between its user's commits and ours.
#[test]
fn nobodys_commits_are_lost_between_us_and_git() {
    let fixture = fixture(&[("a", "1")]);
    let (first, _) = fixture.fetch();
    fixture.run_git(&fixture.user(), &["checkout", "-q", "--detach"]);
    let (theirs, ours) = std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            let repo = fixture.git();
            let who = git2::Signature::now("User", "user@example.com").unwrap();
            let mut made = Vec::new();
            for _ in 0..600 {
                let Ok(tip) = repo.refname_to_id("refs/heads/main") else {
                    continue;
                };
                let parent = repo.find_commit(tip).unwrap();
                let text = format!("user {}", made.len());
                let id = repo
                    .commit(None, &who, &who, &text, &parent.tree().unwrap(), &[&parent])
                    .unwrap();
                if repo
                    .reference_matching("refs/heads/main", id, true, tip, "")
                    .is_ok()
                {
                    made.push(crate::fixture::commit_id(id));
                }
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
            made
        });
        let (source, mut made) = (fixture.source(), Vec::new());
        for _ in 0..100 {
            let Ok(tip) = fixture.mirror.fetch(&source, "main") else {
                continue;
            };
            let tree = fixture.mirror.tree_of(&tip).unwrap();
            let next = fixture.commit_in_mirror(&tree, &[&tip]);
            match source.publish(&fixture.mirror, "main", &tip, &next) {
                Ok(_) => made.push(next),
                Err(PublishError::Moved { .. } | PublishError::Locked { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        (user.join().unwrap(), made)
    });
    assert!(
        theirs.len() > 5 && ours.len() > 5,
        "{} {}",
        theirs.len(),
        ours.len()
    );
    let last = tip(&fixture, "main");
    for commit in [first].iter().chain(&theirs).chain(&ours) {
        assert!(
            fixture.source().is_ancestor(commit, &last).unwrap(),
            "{commit} was lost"
        );
    }
}

/// Two resumed processes finish the same publication at once.
#[test]
fn finishing_twice_at_once_is_finishing_once() {
    let files: Vec<_> = (0..60).map(|n| format!("f{n}")).collect();
    let files: Vec<_> = files.iter().map(|n| (n.as_str(), "1")).collect();
    for _ in 0..5 {
        let fixture = fixture(&files);
        let (from, _) = fixture.fetch();
        let edits: Vec<_> = files.iter().map(|(n, _)| (*n, Some("2"))).collect();
        let to = fixture.change(&from, &edits);
        let head = fixture.user().join(".git/HEAD");
        fs::write(&head, format!("{from}\n")).unwrap();
        fixture
            .source()
            .publish(&fixture.mirror, "main", &from, &to)
            .unwrap();
        fs::write(&head, "ref: refs/heads/main\n").unwrap();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let run = || {
                fixture
                    .source()
                    .publish(&fixture.mirror, "main", &from, &to)
                    .unwrap()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            threads
                .into_iter()
                .map(|t| t.join().unwrap().checkouts.remove(0).outcome)
                .collect()
        });
        let updated = outcomes
            .iter()
            .filter(|o| matches!(o, CheckoutOutcome::Updated { files: 60 }))
            .count();
        let current = outcomes
            .iter()
            .filter(|o| **o == CheckoutOutcome::Current)
            .count();
        assert_eq!((updated, current), (1, 3), "{outcomes:?}");
        assert_eq!(fixture.git_status(), "");
    }
}

#[test]
fn a_stale_lock_is_named() {
    let fixture = fixture(&[("a", "1")]);
    let (from, _) = fixture.fetch();
    let to = fixture.change(&from, &[("a", Some("2"))]);
    let lock = fixture.user().join(".git/refs/heads/main.lock");
    fs::write(&lock, "").unwrap();
    match fixture
        .source()
        .publish(&fixture.mirror, "main", &from, &to)
    {
        Err(PublishError::Locked { lock: named, .. }) => {
            assert_eq!(named, lock.canonicalize().unwrap())
        }
        other => panic!("{other:?}"),
    }
    fs::remove_file(&lock).unwrap();
    fs::write(fixture.user().join(".git/index.lock"), "").unwrap();
    assert_eq!(
        reason(
            fixture
                .source()
                .publish(&fixture.mirror, "main", &from, &to)
        )
        .0,
        LeftReason::Locked
    );
    assert_eq!(fs::read_to_string(fixture.user().join("a")).unwrap(), "1");
}

/// What a killed process of ours left is known by its second name; a lock of git's is not.
#[test]
fn a_lock_of_a_dead_process_of_ours_is_none() {
    for (aside, lock) in [("ref", "refs/heads/main.lock"), ("index", "index.lock")] {
        let fixture = fixture(&[("a", "1")]);
        let (from, _) = fixture.fetch();
        let to = fixture.change(&from, &[("a", Some("2"))]);
        let git_dir = fixture.user().join(".git");
        let own = git_dir.join(format!("moat-{aside}-1"));
        fs::write(&own, "half").unwrap();
        fs::hard_link(&own, git_dir.join(lock)).unwrap();
        fs::write(git_dir.join("moat-checkout-1"), "half").unwrap();
        let elsewhere = git_dir.join("moat-ref-2");
        fs::write(&elsewhere, "half").unwrap();
        fs::hard_link(&elsewhere, git_dir.join("refs/heads/other.lock")).unwrap();
        let done = fixture
            .source()
            .publish(&fixture.mirror, "main", &from, &to)
            .unwrap();
        assert!(done.moved, "{aside}: {done:?}");
        assert_eq!(fixture.git_status(), "", "{aside}");
        let log = fixture.run_git(&fixture.user(), &["reflog", "main"]);
        assert_eq!(log.matches("moat: fast-forward").count(), 1, "{log}");
        let mut left: Vec<_> = snapshot(&fixture.user())
            .into_keys()
            .filter(|p| p.contains("moat") || p.ends_with(".lock"))
            .collect();
        left.sort();
        // That of another branch is that branch's.
        assert_eq!(
            left,
            [".git/moat-ref-2", ".git/refs/heads/other.lock"],
            "{aside}"
        );
    }
}

/// Killed after the branch had moved, and before the second name was taken away.
#[test]
fn what_a_dead_process_of_ours_left_of_a_move_goes_with_the_next_look() {
    let fixture = fixture(&[("a", "1")]);
    let (from, _) = fixture.fetch();
    let to = fixture.change(&from, &[("a", Some("2"))]);
    let publish = || {
        let source = fixture.source();
        source.publish(&fixture.mirror, "main", &from, &to).unwrap()
    };
    assert!(publish().moved);
    let git_dir = fixture.user().join(".git");
    let second = git_dir.join("moat-ref-1");
    fs::hard_link(git_dir.join("refs/heads/main"), &second).unwrap();
    assert!(!publish().moved);
    assert!(!second.exists());
}

#[test]
fn a_symbolic_branch_is_not_overwritten() {
    let fixture = fixture(&[("a", "1")]);
    let (from, _) = fixture.fetch();
    let to = fixture.change(&from, &[("a", Some("2"))]);
    fixture.run_git(
        &fixture.user(),
        &["symbolic-ref", "refs/heads/alias", "refs/heads/main"],
    );
    assert!(matches!(
        fixture
            .source()
            .publish(&fixture.mirror, "alias", &from, &to),
        Err(PublishError::Symbolic { .. })
    ));
    assert_eq!(tip(&fixture, "main"), from);
}

#[test]
fn line_ends_of_a_checkout_stay_as_they_are() {
    let fixture = fixture(&[
        ("a.txt", "1\n2\n"),
        (".gitattributes", "*.txt text eol=crlf\n"),
    ]);
    fs::remove_file(fixture.user().join("a.txt")).unwrap();
    fixture.run_git(&fixture.user(), &["checkout", "-q", "--", "a.txt"]);
    assert_eq!(
        fs::read(fixture.user().join("a.txt")).unwrap(),
        b"1\r\n2\r\n"
    );
    let (from, _) = fixture.fetch();
    let to = fixture.change(&from, &[("a.txt", Some("1\n2\n3\n"))]);
    fixture
        .source()
        .publish(&fixture.mirror, "main", &from, &to)
        .unwrap();
    assert_eq!(
        fs::read(fixture.user().join("a.txt")).unwrap(),
        b"1\r\n2\r\n3\r\n"
    );
    assert_eq!(fixture.git_status(), "");
}
