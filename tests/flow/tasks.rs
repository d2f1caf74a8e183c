//! Tasks: those that can be done at the same time are, overlapping claims never are, and a person's task waits alone.

use flow::Event;
use flow::effect::Asking;
use flow::event::{Candidate, Parking};
use flow::id::{RunId, TaskId};
use flow::money::{Micros, Reservation, Spend};
use flow::role::Outcome;
use flow::run::{Action, End, Stage};
use flow::step::Step;
use flow::task::{ChildCall, Standing, Task, TaskEnd, TaskState, ready};
use flow::verdict::Finding;
use proptest::prelude::*;

use crate::plan::{plan, to_plan};
use crate::script::{Script, base, commit, tree};

fn task(id: &str) -> TaskId {
    id.parse().unwrap()
}

fn run(id: &str) -> RunId {
    id.parse().unwrap()
}

/// A run whose plan has these tasks.
fn planned(tasks: &[(&str, &[&str], &[&str])]) -> Script {
    let mut script = to_plan();
    script.event(Event::Planned { tasks: plan(tasks) });
    script
}

fn ready_now(script: &Script) -> Vec<String> {
    match script.next() {
        Action::Tend { ready, .. } => ready.iter().map(TaskId::to_string).collect(),
        other => panic!("no tasks: {other:?}"),
    }
}

fn open(script: &mut Script, id: &str, child: &str) {
    script.event(Event::TaskOpened {
        task: task(id),
        run: run(child),
        base: base(1),
    });
}

fn end(script: &mut Script, id: &str, child: &str, end: TaskEnd) {
    script.event(Event::TaskEnded {
        task: task(id),
        run: run(child),
        end,
        active_ms: 7,
    });
}

fn joined() -> TaskEnd {
    TaskEnd::Joined { commit: commit(50) }
}

#[test]
fn independent_tasks_are_ready_at_once_and_the_others_one_after_the_other() {
    let mut script = planned(&[
        ("a", &["a"], &[]),
        ("b", &["b"], &[]),
        ("also-a", &["a/x"], &[]),
        ("last", &["c"], &["a", "b"]),
    ]);
    assert_eq!(ready_now(&script), ["a", "b"]);
    open(&mut script, "a", "r-1-1");
    open(&mut script, "b", "r-1-2");
    assert!(ready_now(&script).is_empty());
    end(&mut script, "a", "r-1-1", joined());
    assert_eq!(ready_now(&script), ["also-a"], "`last` waits for b as well");
    end(&mut script, "b", "r-1-2", joined());
    assert_eq!(ready_now(&script), ["also-a", "last"]);
}

#[test]
fn a_task_that_cannot_begin_now_is_not_opened() {
    let mut script = planned(&[
        ("a", &["a"], &[]),
        ("b", &["a"], &[]),
        ("c", &["c"], &["a"]),
    ]);
    open(&mut script, "a", "r-1-1");
    for (id, child) in [
        ("b", "r-1-2"),
        ("c", "r-1-2"),
        ("a", "r-1-2"),
        ("x", "r-1-2"),
    ] {
        let event = Event::TaskOpened {
            task: task(id),
            run: run(child),
            base: base(1),
        };
        assert!(script.try_event(event).is_err(), "{id}");
    }
    let of_another = Event::TaskEnded {
        task: task("a"),
        run: run("r-1-9"),
        end: joined(),
        active_ms: 0,
    };
    assert!(script.try_event(of_another).is_err());
    end(&mut script, "a", "r-1-1", joined());
    for child in ["r-1-1", "r-1"] {
        let taken = Event::TaskOpened {
            task: task("b"),
            run: run(child),
            base: base(1),
        };
        assert!(script.try_event(taken).is_err(), "{child} is another's");
    }
}

#[test]
fn joined_tasks_are_the_candidate_and_go_the_usual_way() {
    let mut script = planned(&[("a", &["a"], &[]), ("b", &["b"], &[])]);
    open(&mut script, "a", "r-1-1");
    open(&mut script, "b", "r-1-2");
    let before_ms = script.run.active_ms;
    end(&mut script, "a", "r-1-1", joined());
    end(&mut script, "b", "r-1-2", joined());
    assert_eq!(
        script.run.active_ms,
        before_ms + 14,
        "their time is the run's"
    );
    assert_eq!(script.begin(), Step::Integrate);
    script.event(Event::Integrated {
        candidate: candidate(&script, 9),
    });
    assert_eq!(script.run.stage, Stage::Gates);
    script.green().prepare(1, 9).move_branch();
    assert_eq!(script.run.stage, Stage::Ended(End::Merged));
}

fn candidate(script: &Script, n: u8) -> Candidate {
    Candidate {
        tree: tree(n),
        base: script.run.base.clone(),
        changed: vec!["a".into()],
        refused: vec![],
    }
}

#[test]
fn a_joined_tree_that_is_red_is_mended_from_where_it_stands() {
    let mut script = planned(&[("a", &["a"], &[]), ("b", &["b"], &[])]);
    for (id, child) in [("a", "r-1-1"), ("b", "r-1-2")] {
        open(&mut script, id, child);
        end(&mut script, id, child, joined());
    }
    script.begin();
    script.event(Event::Integrated {
        candidate: candidate(&script, 9),
    });
    script.gate(Finding::Fail, "red").gate(Finding::Pass, "ok");
    assert_eq!(
        script.next(),
        Action::Perform(Step::Implement { attempt: 2 })
    );
    assert_eq!(script.run.start, Some(tree(9)));
    // All three attempts of the budget are left: none was made at the whole.
    for n in 10..13 {
        script.attempt(n);
        script.gate(Finding::Fail, "red").gate(Finding::Pass, "ok");
    }
    assert_eq!(
        script.next(),
        Action::Park(Parking::AttemptsUsed { attempts: 4 })
    );
}

#[test]
fn tasks_that_change_nothing_are_red() {
    let mut script = planned(&[("a", &["a"], &[]), ("b", &["b"], &[])]);
    for (id, child) in [("a", "r-1-1"), ("b", "r-1-2")] {
        open(&mut script, id, child);
        end(&mut script, id, child, joined());
    }
    script.begin();
    script.event(Event::Integrated {
        candidate: candidate(&script, 1),
    });
    assert_eq!(
        script.next(),
        Action::Perform(Step::Implement { attempt: 2 })
    );
}

#[test]
fn a_cancelled_task_leaves_the_others_and_then_asks_a_person() {
    let mut script = planned(&[
        ("a", &["a"], &[]),
        ("b", &["b"], &[]),
        ("c", &["c"], &["a"]),
    ]);
    open(&mut script, "a", "r-1-1");
    open(&mut script, "b", "r-1-2");
    end(&mut script, "a", "r-1-1", TaskEnd::Cancelled);
    assert!(matches!(script.next(), Action::Tend { .. }), "b goes on");
    end(&mut script, "b", "r-1-2", joined());
    let reason = Parking::TasksCancelled {
        tasks: vec![task("a")],
    };
    assert_eq!(script.next(), Action::Park(reason.clone()));
    script.event(Event::Parked { reason });
    script.event(Event::Resumed { by: "me".into() });
    assert_eq!(ready_now(&script), ["a"]);
}

#[test]
fn a_run_of_a_task_ends_joined_and_never_at_the_branch() {
    let mut parent = planned(&[("a", &["a"], &[]), ("b", &["b"], &[])]);
    parent.event(Event::TaskOpened {
        task: task("a"),
        run: run("r-1-1"),
        base: base(3),
    });
    let opened = parent.run.child(&run("r-1-1")).unwrap();
    assert_eq!(opened.base, base(3));
    assert!(opened.pipeline.plan.is_none() && opened.pipeline.deploy.is_none());
    let mut child = Script::of(opened);
    assert_eq!(
        child.begin(),
        Step::Baseline,
        "its base is another than the parent's"
    );
    child.event(Event::BaselineTaken {
        report: crate::script::report(),
    });
    child.attempt(4).green().prepare(3, 4).move_branch();
    assert_eq!(child.run.stage, Stage::Ended(End::Joined));
    assert!(parent.run.child(&run("r-1-2")).is_none());
}

#[test]
fn a_task_on_the_parents_base_knows_its_tests() {
    let mut parent = planned(&[("a", &["a"], &[]), ("b", &["b"], &[])]);
    open(&mut parent, "a", "r-1-1");
    let child = Script::of(parent.run.child(&run("r-1-1")).unwrap());
    assert_eq!(
        child.next(),
        Action::Perform(Step::Implement { attempt: 1 })
    );
    assert!(child.run.baseline.is_some());
}

#[test]
fn a_candidate_outside_its_claims_is_red_before_any_gate() {
    let mut parent = planned(&[("a", &["a"], &[]), ("b", &["b"], &[])]);
    open(&mut parent, "a", "r-1-1");
    let mut child = Script::of(parent.run.child(&run("r-1-1")).unwrap());
    let Step::Implement { attempt } = child.begin() else {
        panic!("no attempt")
    };
    let candidate = Candidate {
        tree: tree(4),
        base: child.run.base.clone(),
        changed: vec!["a".into(), "b/c".into()],
        refused: vec![],
    };
    child.event(Event::Attempted {
        attempt,
        outcome: Outcome::Changed("!".into()),
        candidate,
    });
    assert_eq!(
        child.next(),
        Action::Perform(Step::Implement { attempt: 2 })
    );
    let red = child.run.attempts[0].red.as_ref().unwrap();
    assert!(red.evidence[0].text.contains("b/c"), "{red:?}");
    assert!(child.run.verdicts.is_empty());
}

#[test]
fn what_a_task_spends_is_the_parents_and_bounded_by_it() {
    let mut script = planned(&[("a", &["a"], &[]), ("b", &["b"], &[])]);
    open(&mut script, "a", "r-1-1");
    open(&mut script, "b", "r-1-2");
    let reserve = |call, money, child: &str, theirs| Event::Reserved {
        call,
        alias: "m".into(),
        model: "m".into(),
        reservation: Reservation {
            money: Micros(money),
            tokens: 1,
        },
        asking: None,
        of: Some(ChildCall {
            run: run(child),
            call: theirs,
        }),
    };
    script.event(reserve(1, 600_000, "r-1-1", 1));
    assert!(
        script.try_event(reserve(2, 600_000, "r-1-2", 1)).is_err(),
        "more than is left"
    );
    assert!(
        script.try_event(reserve(2, 1, "r-1-3", 1)).is_err(),
        "nobody's"
    );
    assert!(
        script.try_event(reserve(2, 1, "r-1-1", 1)).is_err(),
        "twice"
    );
    script.event(reserve(2, 300_000, "r-1-2", 1));
    let spend = Spend {
        money: Micros(100_000),
        tokens: 1,
        calls: 1,
    };
    script.event(Event::Settled { call: 1, spend });
    assert_eq!(script.run.committed().money, Micros(400_000));
    assert_eq!(script.run.lent.len(), 1);
    script.event(Event::BudgetGiven { by: "me".into() });
    assert_eq!(script.run.remaining().money, Micros(1_000_000));
}

#[test]
fn a_tasks_call_that_is_charged_for_once_is_counted_once_in_its_parent() {
    let mut script = planned(&[("a", &["a"], &[]), ("b", &["b"], &[])]);
    open(&mut script, "a", "r-1-1");
    open(&mut script, "b", "r-1-2");
    let reserved = |call, child: &str, theirs| Event::Reserved {
        call,
        alias: "coder".into(),
        model: "provider/model".into(),
        reservation: Reservation {
            money: Micros(100),
            tokens: 100,
        },
        asking: Some(Asking {
            began: 6,
            number: 3,
            again: 1,
        }),
        of: Some(ChildCall {
            run: run(child),
            call: theirs,
        }),
    };
    let settled = |call, calls| Event::Settled {
        call,
        spend: Spend {
            money: Micros(u64::from(40 * calls)),
            tokens: u64::from(40 * calls),
            calls,
        },
    };
    let committed = |script: &Script| script.run.committed().tokens;
    // Lost while it was under way, and made again: set aside once. Another task's, of the same number, is another.
    script.event(reserved(1, "r-1-1", 1));
    script.event(reserved(2, "r-1-2", 1));
    script.event(reserved(3, "r-1-1", 2));
    assert_eq!((committed(&script), script.run.lent.len()), (200, 2));
    script.event(settled(3, 1));
    assert_eq!(committed(&script), 140);
    // Lost after it was settled.
    script.event(reserved(4, "r-1-1", 3)).event(settled(4, 1));
    assert_eq!(committed(&script), 140);
    // Set aside for a call that was then not made.
    script.event(reserved(5, "r-1-1", 4)).event(settled(5, 0));
    assert_eq!(committed(&script), 140);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Whatever the plan and in whatever order its tasks end: no two under way overlap, none begins before what it comes after, and all get done.
    #[test]
    fn every_plan_is_worked_off_in_order_and_apart(
        shapes in proptest::collection::vec((0u8..5, any::<u32>()), 2..20),
        picks in proptest::collection::vec(any::<u8>(), 400),
    ) {
        let tasks: Vec<Task> = {
            let ids: Vec<String> = (0..shapes.len()).map(|n| format!("t{n}")).collect();
            let planned = shapes.iter().enumerate().map(|(n, (path, before))| {
                let claim = format!("p{path}");
                let after: Vec<&str> = (0..n).filter(|m| before >> m & 1 == 1 && m % 3 == n % 3).map(|m| ids[m].as_str()).collect();
                crate::plan::planned(&ids[n], &[&claim], &after)
            });
            flow::task::check(planned.collect()).unwrap()
        };
        let mut states: Vec<TaskState> = tasks.into_iter().map(|task| TaskState { task, standing: Standing::Waiting }).collect();
        for pick in picks {
            let can: Vec<TaskId> = ready(&states).iter().map(|task| task.id.clone()).collect();
            let under_way: Vec<TaskId> = states.iter().filter(|one| matches!(one.standing, Standing::UnderWay { .. })).map(|one| one.task.id.clone()).collect();
            let begins = !can.is_empty() && (pick % 2 == 0 || under_way.is_empty());
            let chosen = if begins { &can } else { &under_way };
            let Some(id) = chosen.get(usize::from(pick / 2) % chosen.len().max(1)).cloned() else { break };
            let one = states.iter_mut().find(|one| one.task.id == id).unwrap();
            one.standing = if begins {
                Standing::UnderWay { run: run("r-1-1"), base: base(1) }
            } else {
                Standing::Joined { run: run("r-1-1"), commit: commit(1) }
            };
            let joined: Vec<&TaskId> = states.iter().filter(|one| matches!(one.standing, Standing::Joined { .. })).map(|one| &one.task.id).collect();
            let busy: Vec<&Task> = states.iter().filter(|one| matches!(one.standing, Standing::UnderWay { .. })).map(|one| &one.task).collect();
            for (n, one) in busy.iter().enumerate() {
                prop_assert!(one.after.iter().all(|after| joined.contains(&after)));
                prop_assert!(!busy[n + 1..].iter().any(|other| one.overlaps(other)));
            }
        }
        prop_assert!(states.iter().all(|one| matches!(one.standing, Standing::Joined { .. })), "{:?}", states);
    }
}
