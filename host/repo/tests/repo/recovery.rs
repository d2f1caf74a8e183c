//! A publication that was killed half-way: called again, it finishes what is left and touches nothing else.

use std::fs;

use flow::id::CommitId;
use repo::{CheckoutOutcome, LeftReason, SourceError};

use crate::fixture::{Fixture, fixture, snapshot, write};

/// A publication of which only the branch has moved, as after a kill.
fn killed_after_the_move() -> (Fixture, CommitId, CommitId) {
    let fixture = fixture(&[
        ("a", "1\n"),
        ("b", "1\n"),
        ("gone", "1\n"),
        ("other", "1\n"),
        ("d/x", "1\n"),
        ("f", "1\n"),
    ]);
    let (from, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    write(&path.join("a"), "2\n");
    write(&path.join("b"), "2\n");
    write(&path.join("new/n"), "2\n");
    fs::remove_file(path.join("gone")).unwrap();
    fs::remove_dir_all(path.join("d")).unwrap();
    write(&path.join("d"), "2\n");
    fs::remove_file(path.join("f")).unwrap();
    write(&path.join("f/y"), "2\n");
    let to = fixture.commit_in_mirror(&fixture.import(&path, &base).tree, &[&from]);
    // The branch moves while nothing is checked out, then HEAD comes back without its files being touched.
    let head = fixture.user().join(".git/HEAD");
    fs::write(&head, format!("{from}\n")).unwrap();
    fixture
        .source()
        .publish(&fixture.mirror, "main", &from, &to)
        .unwrap();
    fs::write(&head, "ref: refs/heads/main\n").unwrap();
    assert_ne!(fixture.git_status(), "");
    (fixture, from, to)
}

fn again(fixture: &Fixture, from: &CommitId, to: &CommitId) -> CheckoutOutcome {
    let done = fixture
        .source()
        .publish(&fixture.mirror, "main", from, to)
        .unwrap();
    assert!(!done.moved);
    done.checkouts.into_iter().next().unwrap().outcome
}

/// As the killed process had noted it.
fn note(fixture: &Fixture, from: &CommitId, to: &CommitId) -> std::path::PathBuf {
    let path = fixture.user().join(".git/moat-publication");
    write(&path, &format!("{from} {to} main\n"));
    path
}

#[test]
fn whoever_publishes_next_finishes_it_first() {
    let (fixture, from, to) = killed_after_the_move();
    write(&fixture.user().join("a"), "2\n");
    let note = note(&fixture, &from, &to);
    let next = fixture.change(&to, &[("a", Some("3\n")), ("other", Some("3\n"))]);
    let done = fixture
        .source()
        .publish(&fixture.mirror, "main", &to, &next);
    let outcome = done.unwrap().checkouts.remove(0).outcome;
    assert_eq!(outcome, CheckoutOutcome::Updated { files: 2 });
    assert_eq!(fixture.git_status(), "");
    let new = fs::read_to_string(fixture.user().join("new/n"));
    assert_eq!(new.unwrap(), "2\n");
    assert!(!note.exists());
}

#[test]
fn whoever_begins_a_run_finishes_it_first() {
    let (fixture, from, to) = killed_after_the_move();
    assert!(fixture.source().inspect("main").is_err());
    let note = note(&fixture, &from, &to);
    assert_eq!(fixture.source().inspect("main").unwrap().tip, to);
    assert_eq!(fixture.git_status(), "");
    assert!(!note.exists());
}

/// What is noted is done when it is sure that it was begun, and not a word of anything else.
#[test]
fn a_note_that_says_nothing_is_as_good_as_none() {
    let (fixture, from, to) = killed_after_the_move();
    let before = snapshot(&fixture.user());
    let head = fixture.user().join(".git/moat-publication");
    for noted in [
        String::new(),
        "x\n\n  \n".into(),
        format!("{from} {to}\n"),
        format!("{from} {to} no/such\n"),
        format!("{from} {to} main more\n"),
        format!("{to} {from} main\n"),
    ] {
        write(&head, &noted);
        assert!(fixture.source().inspect("main").is_err(), "{noted:?}");
        assert!(!head.exists(), "{noted:?}");
        let mut after = snapshot(&fixture.user());
        after.remove(".git/moat-publication");
        assert_eq!(after, before, "{noted:?}");
    }
    fs::create_dir(&head).unwrap();
    assert!(fixture.source().inspect("main").is_err());
}

/// Killed before the branch had moved; or its owner has moved it back since.
#[test]
fn what_was_never_begun_is_not_finished() {
    let fixture = fixture(&[("a", "1\n")]);
    let (from, _) = fixture.fetch();
    let to = fixture.commit(&[("a", "2\n")]);
    fixture.run_git(&fixture.user(), &["reset", "-q", "--hard", from.as_str()]);
    let note = note(&fixture, &from, &to);
    let other = fixture.change(&from, &[("b", Some("1\n"))]);
    let source = fixture.source();
    let done = source.publish(&fixture.mirror, "main", &from, &other);
    let outcome = done.unwrap().checkouts.remove(0).outcome;
    assert_eq!(outcome, CheckoutOutcome::Updated { files: 1 });
    let a = fs::read_to_string(fixture.user().join("a")).unwrap();
    assert_eq!((&*a, note.exists()), ("1\n", false));
}

/// A move is noted before it is made, and until the checkout has followed.
#[test]
fn a_publication_is_noted_as_long_as_it_is_under_way() {
    let fixture = fixture(&[("a", "1\n"), ("b", "1\n")]);
    let (from, _) = fixture.fetch();
    let to = fixture.change(&from, &[("a", Some("2\n")), ("b", Some("2\n"))]);
    let git_dir = fixture.user().join(".git");
    let note = git_dir.join("moat-publication");
    let publish = || {
        let source = fixture.source();
        source.publish(&fixture.mirror, "main", &from, &to)
    };
    write(&git_dir.join("refs/heads/main.lock"), "");
    let refused = publish();
    assert!(matches!(refused, Err(repo::PublishError::Locked { .. })));
    let noted = fs::read_to_string(&note).unwrap();
    assert_eq!(noted, format!("{from} {to} main\n"));
    assert_eq!(fixture.fetch().0, from);
    fs::remove_file(git_dir.join("refs/heads/main.lock")).unwrap();
    assert!(publish().unwrap().moved);
    assert!(!note.exists());
}

/// Another git process held the index when the checkout was to follow.
#[test]
fn a_checkout_that_could_not_follow_is_not_forgotten() {
    let (fixture, from, to) = killed_after_the_move();
    let lock = fixture.user().join(".git/index.lock");
    write(&lock, "");
    let left = again(&fixture, &from, &to);
    let reason = LeftReason::Locked;
    assert_eq!(
        left,
        CheckoutOutcome::Left {
            reason,
            paths: vec![]
        }
    );
    assert!(fixture.user().join(".git/moat-publication").exists());
    let refused = fixture.source().inspect("main");
    assert!(matches!(refused, Err(SourceError::Behind { .. })));
    fs::remove_file(lock).unwrap();
    assert_eq!(fixture.source().inspect("main").unwrap().tip, to);
    assert_eq!(fixture.git_status(), "");
}

#[test]
fn killed_right_after_the_branch_moved() {
    let (fixture, from, to) = killed_after_the_move();
    assert_eq!(
        again(&fixture, &from, &to),
        CheckoutOutcome::Updated { files: 8 }
    );
    assert_eq!(fixture.git_status(), "");
    assert_eq!(again(&fixture, &from, &to), CheckoutOutcome::Current);
}

/// Files are written one by one, each whole: any subset of them may be done.
#[test]
fn killed_between_any_two_files() {
    type Step = fn(&Fixture);
    let steps: [Step; 7] = [
        |f| fs::remove_file(f.user().join("gone")).unwrap(),
        |f| fs::remove_dir_all(f.user().join("d")).unwrap(),
        |f| fs::remove_file(f.user().join("f")).unwrap(),
        |f| write(&f.user().join("a"), "2\n"),
        |f| write(&f.user().join("d"), "2\n"),
        |f| write(&f.user().join("f/y"), "2\n"),
        |f| write(&f.user().join("new/n"), "2\n"),
    ];
    for done in 0..=steps.len() {
        let (fixture, from, to) = killed_after_the_move();
        steps.iter().take(done).for_each(|step| step(&fixture));
        // What a killed writer leaves aside.
        fs::write(
            fixture
                .user()
                .join(".git")
                .join(format!("moat-checkout-{}", std::process::id())),
            "half",
        )
        .unwrap();
        assert!(
            matches!(again(&fixture, &from, &to), CheckoutOutcome::Updated { .. }),
            "after {done} steps"
        );
        assert_eq!(fixture.git_status(), "", "after {done} steps");
        assert_eq!(
            fixture
                .run_git(&fixture.user(), &["rev-parse", "HEAD"])
                .trim(),
            to.as_str()
        );
    }
}

#[test]
fn work_done_since_then_is_left_alone() {
    type Work = fn(&Fixture);
    let table: [(Work, LeftReason, &str); 4] = [
        (
            |f| write(&f.user().join("a"), "mine\n"),
            LeftReason::Changed,
            "a",
        ),
        (
            |f| write(&f.user().join("other"), "mine\n"),
            LeftReason::Changed,
            "other",
        ),
        (
            |f| write(&f.user().join("new/n"), "mine\n"),
            LeftReason::InTheWay,
            "new/n",
        ),
        (
            |f| {
                write(&f.user().join("staged"), "mine\n");
                f.run_git(&f.user(), &["add", "staged"]);
            },
            LeftReason::Staged,
            "staged",
        ),
    ];
    for (work, wanted, path) in table {
        let (fixture, from, to) = killed_after_the_move();
        work(&fixture);
        let before = snapshot(&fixture.user());
        assert_eq!(
            again(&fixture, &from, &to),
            CheckoutOutcome::Left {
                reason: wanted,
                paths: vec![path.to_owned()]
            }
        );
        assert_eq!(snapshot(&fixture.user()), before);
    }
}

/// A real kill: a child publishes and is killed at a random moment, over and over; then it is called once more.
#[test]
fn killed_for_real_it_ends_as_if_it_had_not_been() {
    const CHILD: &str = "MOAT_REPO_TEST_PUBLISH";
    if let Ok(at) = std::env::var(CHILD) {
        let mut at = at.split('\n');
        let mut next = || at.next().unwrap().to_owned();
        let (user, mirror) = (next(), next());
        let mirror = repo::Mirror::open_or_create(mirror.as_ref()).unwrap();
        let source = repo::Source::open(user.as_ref()).unwrap();
        let _ = source.publish(
            &mirror,
            "main",
            &next().parse().unwrap(),
            &next().parse().unwrap(),
        );
        return;
    }
    let files: Vec<_> = (0..40)
        .map(|n| (format!("d{}/f{n}", n % 5), format!("{n}\n")))
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(p, t)| (p.as_str(), t.as_str()))
        .collect();
    for round in 0_u64..12 {
        let fixture = fixture(&files);
        let (from, _) = fixture.fetch();
        let edits: Vec<_> = files.iter().map(|(p, _)| (*p, Some("changed\n"))).collect();
        let to = fixture.change(&from, &edits);
        let place = format!(
            "{}\n{}\n{from}\n{to}",
            fixture.user().display(),
            fixture.mirror.git_dir().display()
        );
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "recovery::killed_for_real_it_ends_as_if_it_had_not_been",
            ])
            .env(CHILD, place)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2 + round * 4));
        child.kill().unwrap();
        child.wait().unwrap();
        fixture.run_git(&fixture.user(), &["fsck", "--strict"]);
        if round % 2 == 1 {
            // Whoever comes first, and knows nothing of it.
            fixture.source().inspect("main").unwrap();
            assert_eq!(fixture.git_status(), "", "round {round}");
        }
        let done = fixture
            .source()
            .publish(&fixture.mirror, "main", &from, &to)
            .unwrap();
        assert!(
            !matches!(done.checkouts[0].outcome, CheckoutOutcome::Left { .. }),
            "round {round}: {done:?}"
        );
        assert_eq!(fixture.git_status(), "", "round {round}");
        assert_eq!(
            fixture
                .run_git(&fixture.user(), &["rev-parse", "main"])
                .trim(),
            to.as_str()
        );
    }
}
