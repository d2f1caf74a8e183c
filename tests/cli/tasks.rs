//! One item as many tasks: done at the same time where that is safe, joined, and merged as one.

use std::process::Stdio;

use serde_json::Value;

use crate::house::{git, told};
use crate::planned::{Planned, Span, spans};

/// Eight tasks: `e` claims what `a` claims, `h` what `d` does; `f` comes after `b` and `c`, `g` after `f`.
pub const EIGHT: &str = "eight parts\n\
    TASK a|a.txt||append a.txt a\n\
    TASK b|b/**||write b/b.txt b\n\
    TASK c|c.txt||write c.txt c\n\
    TASK d|d.txt||append d.txt d\n\
    TASK e|A.TXT||append a.txt e\n\
    TASK f|f.txt|b,c|append f.txt f; test\n\
    TASK g|g.txt|f|write g.txt g\n\
    TASK h|d*||append d.txt h";

fn kinds<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let events = events.iter().filter(|one| one["event"]["type"] == kind);
    events.collect()
}

/// First and last event of a run, in milliseconds.
fn lifetime(events: &[Value]) -> Span {
    let at = |one: &Value| one["at_ms"].as_u64().unwrap();
    Span {
        begun: at(&events[0]),
        ended: at(events.last().unwrap()),
        resource: String::new(),
        copies: 0,
    }
}

/// What is so of the branch after the eight parts, however the way there was.
pub fn eight_parts_are_merged(place: &Planned) {
    for (path, content) in [
        ("a.txt", "a\ne"),
        ("b/b.txt", "b"),
        ("c.txt", "c"),
        ("d.txt", "d\nh"),
        ("f.txt", "f"),
        ("g.txt", "g"),
    ] {
        assert_eq!(place.file(path), content, "{path}");
    }
    assert_eq!(place.commits(), "1", "merged as one");
    assert_eq!(git(&place.repo, &["status", "--porcelain"]), "");
    git(&place.repo, &["fsck", "--strict"]);
}

#[test]
fn eight_tasks_are_done_at_the_same_time_where_that_is_safe_and_merged_as_one() {
    let place = Planned::with("0.4", |text| text.to_owned());
    let output = place.run(EIGHT);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    eight_parts_are_merged(&place);

    let events = |task: &str| place.events(&place.child(task));
    let checks = |task: &str| spans(&events(task));
    // Checks of different tasks ran at the same time, as they said themselves …
    let independent: Vec<Vec<Span>> = ["a", "b", "c", "d"].map(checks).into();
    let overlapping = (0..4)
        .flat_map(|n| (n + 1..4).map(move |m| (n, m)))
        .filter(|(n, m)| {
            let mut pairs = independent[*n]
                .iter()
                .flat_map(|a| independent[*m].iter().map(move |b| (a, b)));
            pairs.any(|(a, b)| a.overlaps(b))
        });
    assert!(overlapping.count() > 0, "{independent:?}");
    // … the runs of tasks that may change one path did not, and none began before what it comes after.
    for (one, other) in [("a", "e"), ("d", "h")] {
        let (one, other) = (lifetime(&events(one)), lifetime(&events(other)));
        assert!(one.ended <= other.begun, "{one:?} {other:?}");
    }
    let parent = place.events(&place.parent());
    let position = |kind: &str, task: &str| {
        let is_it = |one: &Value| one["event"]["type"] == kind && one["event"]["task"] == task;
        parent.iter().position(is_it).unwrap()
    };
    for (first, then) in [("b", "f"), ("c", "f"), ("f", "g"), ("a", "e"), ("d", "h")] {
        assert!(position("task-ended", first) < position("task-opened", then));
    }
    // Nobody saw another's files, and nothing is left of any of them.
    let all = ["a", "b", "c", "d", "e", "f", "g", "h"]
        .map(checks)
        .concat();
    assert!(all.iter().all(|span| span.copies == 1), "{all:?}");
    let left = std::fs::read_dir(place.house.home().join("runs")).map_or(0, |all| all.count());
    assert_eq!(left, 0, "views are left");
    assert_eq!(git(&place.repo, &["worktree", "list"]).lines().count(), 1);
    assert_eq!(git(&place.repo, &["for-each-ref"]).lines().count(), 1);
    let states = place.states();
    let joined = states.iter().filter(|(_, state)| state == "joined").count();
    assert_eq!(
        (states.len(), joined, states[0].1.as_str()),
        (9, 8, "merged")
    );
}

#[test]
fn a_task_that_leaves_its_claims_is_red_and_hears_why() {
    let place = Planned::new();
    let report = "two parts\n\
        TASK a|a.txt||write shared.txt mine; AGAIN write a.txt a\n\
        TASK b|b.txt||write b.txt b";
    let output = place.run(report);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(
        (place.file("shared.txt"), place.file("a.txt")),
        ("shared".into(), "a".into())
    );
    let events = place.events(&place.child("a"));
    let attempts = kinds(&events, "attempted");
    assert_eq!(
        attempts[0]["event"]["candidate"]["changed"][0],
        "shared.txt"
    );
    let types: Vec<&str> = events
        .iter()
        .map(|one| one["event"]["type"].as_str().unwrap())
        .collect();
    let first = types.iter().position(|kind| *kind == "attempted").unwrap();
    assert_eq!(types[first + 1], "step-started");
    assert_eq!(
        events[first + 1]["event"]["step"]["name"],
        "implement",
        "no gate looked at it"
    );
    let show = told(&place.house.moat(&["runs", "show", &place.child("a")]));
    assert!(
        show.contains("shared.txt") && show.contains("claims"),
        "{show}"
    );
}

#[test]
fn a_task_that_lacks_a_grant_waits_alone_and_goes_on_with_it() {
    let place = Planned::new();
    let report = "three parts\n\
        TASK a|a.txt||need TOKEN; write a.txt a\n\
        TASK b|b.txt||write b.txt b\n\
        TASK c|c.txt|b|write c.txt c";
    let output = place.run(report);
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
    let state = |task: &str| {
        let child = place.child(task);
        let states = place.states();
        states.into_iter().find(|(run, _)| *run == child).unwrap().1
    };
    assert_eq!(
        [state("a"), state("b"), state("c")],
        ["blocked-on-grant", "joined", "joined"]
    );
    assert_eq!(place.states()[0].1, "waiting-for-tasks");
    assert_eq!(git(&place.repo, &["rev-parse", "main"]), place.base);
    // Nothing that waits for a person is taken for interrupted.
    let all = place.house.moat(&["runs", "resume", "--all"]);
    assert_eq!(state("a"), "blocked-on-grant", "{}", told(&all));
    place.edit(|text| {
        text.replace(
            "models = [\"coder\"]",
            "models = [\"coder\"]\nenv = [\"TOKEN\"]",
        )
    });
    let output = place.house.moat(&["runs", "resume", &place.child("a")]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(state("a"), "joined");
    assert_eq!(place.states()[0].1, "merged", "its parent went on with it");
    for name in ["a", "b", "c"] {
        assert_eq!(place.file(&format!("{name}.txt")), name);
    }
}

#[test]
fn a_joined_tree_that_is_red_is_mended_where_it_stands() {
    let place = Planned::with("0", |text| {
        let gate = "[[gate]]\nname = \"base-tests\"\nkind = \"base-tests\"\ncommand = \"old\"\npaths = [\"old.py\"]\n\n[models]";
        text.replace("[models]", gate).replace(
            "[commands]\n",
            "[commands]\nold = [\"python3\", \"old.py\"]\n",
        )
    });
    std::fs::write(
        place.repo.join("old.py"),
        "import os, sys\nsys.exit(os.path.exists('code.txt') and 'new' in open('code.txt').read())\n",
    )
    .unwrap();
    git(&place.repo, &["add", "-A"]);
    git(&place.repo, &["commit", "-qm", "a test"]);
    // One part weakens the test, the other leans on that: each is green on what was joined before it, and the whole is not on the branch.
    let report = "two parts\nDO write code.txt old\n\
        TASK a|old.py||write old.py import sys\n\
        TASK b|code.txt|a|write code.txt new";
    let output = place.run(report);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(
        [place.file("code.txt"), place.file("old.py")],
        ["old", "import sys"]
    );
    let events = place.events(&place.parent());
    assert_eq!(
        kinds(&events, "attempted").len(),
        1,
        "one attempt at the whole"
    );
    assert_eq!(
        events
            .iter()
            .filter(|one| one["event"]["verdict"]["finding"] == "fail")
            .count(),
        1
    );
}

#[test]
fn a_cancelled_item_takes_its_tasks_along_and_their_work_is_kept() {
    let place = Planned::new();
    let report = "two parts\n\
        TASK a|a.txt||write a.txt a\n\
        TASK b|b.txt||need TOKEN; write b.txt b";
    assert_eq!(place.run(report).status.code(), Some(4));
    let (parent, a, b) = (place.parent(), place.child("a"), place.child("b"));
    let output = place.house.moat(&["runs", "cancel", &parent]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let states = place.states();
    let of = |run: &str| states.iter().find(|(one, _)| one == run).unwrap().1.clone();
    assert_eq!(
        [of(&parent), of(&a), of(&b)],
        ["cancelled", "joined", "cancelled"]
    );
    let homes = place.house.home().join("repositories");
    let mirror = std::fs::read_dir(homes)
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .path()
        .join("mirror.git");
    let kept = git(&mirror, &["for-each-ref", "--format=%(refname)"]);
    for name in [
        format!("{parent}/joined"),
        format!("{a}/attempt-1"),
        format!("{b}/base"),
    ] {
        assert!(kept.contains(&name), "{name} is not in {kept}");
    }
    let joined = git(
        &mirror,
        &["show", &format!("refs/moat/runs/{parent}/joined:a.txt")],
    );
    assert_eq!(joined, "a");
}

#[test]
fn a_cancelled_task_is_begun_again_when_a_person_says_so() {
    let place = Planned::new();
    let report = "two parts\n\
        TASK a|a.txt||write a.txt a\n\
        TASK b|b.txt||fail as told; AGAIN write b.txt b";
    let output = place.run(report);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let place = Planned::new();
    let report = "two parts\n\
        TASK a|a.txt||write a.txt a\n\
        TASK b|b.txt||need TOKEN; write b.txt b";
    assert_eq!(place.run(report).status.code(), Some(4));
    let first = place.child("b");
    assert!(
        place
            .house
            .moat(&["runs", "cancel", &first])
            .status
            .success()
    );
    let parent = place.parent();
    let output = place.house.moat(&["runs", "resume", &parent]);
    assert_eq!(place.states()[0].1, "parked", "{}", told(&output));
    place.edit(|text| {
        text.replace(
            "models = [\"coder\"]",
            "models = [\"coder\"]\nenv = [\"TOKEN\"]",
        )
    });
    place.house.moat(&["runs", "resume", &parent]);
    let second = place.child("b");
    assert_ne!(first, second);
    // Its grants are those that the whole was opened with, until a person looks.
    let output = place.house.moat(&["runs", "resume", &second]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(
        (place.file("b.txt"), place.states()[0].1.clone()),
        ("b".into(), "merged".into())
    );
}

#[test]
fn what_tasks_spend_is_bounded_by_the_items_budget() {
    let chats = "chat a; chat b; chat c";
    let report = format!(
        "two parts\nTASK a|a.txt||{chats}; write a.txt a\nTASK b|b.txt||{chats}; write b.txt b"
    );
    let place = Planned::new();
    let output = place.run(&report);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let money = |run: &Value| run["money-micros"].as_u64().unwrap();
    let runs = place.runs();
    assert!(money(&runs[0]) > 0);
    assert_eq!(money(&runs[0]), money(&runs[1]) + money(&runs[2]));
    assert_eq!(place.server.seen().len(), 6);

    // Enough for one task and not for both, whether they are done at once or not: the rest waits for a person, who gives the same again.
    let place = Planned::with("0", |text| text.replace("money = 5", "money = 0.01"));
    let output = place.run(&report);
    assert_ne!(output.status.code(), Some(0), "{}", told(&output));
    let runs = place.runs();
    assert!(runs.iter().any(|run| run["state"] == "parked"), "{runs:?}");
    assert!(money(&runs[0]) <= 10_000, "{runs:?}");
    assert_eq!(money(&runs[0]), money(&runs[1]) + money(&runs[2]));
    for _ in 0..8 {
        for (run, state) in place.states() {
            if state == "parked" {
                place.house.moat(&["runs", "resume", &run]);
            }
        }
    }
    assert_eq!(place.states()[0].1, "merged", "{:?}", place.states());
}

/// Spans of all gates of all runs.
fn all_spans(place: &Planned) -> Vec<Span> {
    let states = place.states();
    let of_run = |(run, _): &(String, String)| spans(&place.events(run));
    states.iter().flat_map(of_run).collect()
}

fn most_at_once(spans: &[Span]) -> usize {
    let at = |time: u64| {
        spans
            .iter()
            .filter(|one| one.begun <= time && time < one.ended)
            .count()
    };
    spans.iter().map(|one| at(one.begun)).max().unwrap_or(0)
}

#[test]
fn limits_hold_over_all_processes_of_the_machine() {
    let place = Planned::with("0.15", |text| {
        format!("{text}\n[[resource]]\nname = \"bench\"\ncount = 2\ncommands = [\"test\"]\n")
    });
    let ceilings = capability::Policy::BUILTIN_TEXT;
    let limit = |commands: u32| {
        let text = format!("{ceilings}\n[at-once]\ncommands = {commands}\n");
        std::fs::write(place.house.home().join("policy.toml"), text).unwrap();
    };
    let both = |tag: &str| {
        let report = |n: u32| {
            let task = |m: u32| format!("TASK t{m}|{tag}{n}{m}.txt||write {tag}{n}{m}.txt x");
            format!("parts\n{}\n{}\n{}", task(1), task(2), task(3))
        };
        let children = [1, 2].map(|n| {
            let mut command = place.command(&report(n));
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        }
    };
    limit(8);
    both("x");
    let spans = all_spans(&place);
    assert!(most_at_once(&spans) <= 2, "two benches: {spans:?}");
    for (n, one) in spans.iter().enumerate() {
        let same = |other: &&Span| one.resource == other.resource && one.overlaps(other);
        assert!(["0", "1"].contains(&one.resource.as_str()));
        assert_eq!(
            spans[n + 1..].iter().find(same),
            None,
            "one bench for two: {one:?}"
        );
    }
    limit(1);
    both("y");
    let after = all_spans(&place);
    let later: Vec<Span> = after
        .into_iter()
        .filter(|one| !spans.contains(one))
        .collect();
    assert!(later.len() >= 6);
    assert_eq!(most_at_once(&later), 1, "{later:?}");
}
