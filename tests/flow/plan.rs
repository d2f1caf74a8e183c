//! Plan: what can be followed is followed, and without a plan the item is done as a whole.

use flow::Event;
use flow::event::{Cause, Parking};
use flow::role::{Decision, PlannedTask};
use flow::run::{Action, Stage};
use flow::step::Step;
use flow::task::{PlanError, TASKS_MAX, Task, check};

use crate::script::{Script, failure, item, planning, report};

/// A task as a skill gives it.
pub fn planned(id: &str, claims: &[&str], after: &[&str]) -> PlannedTask {
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    PlannedTask {
        id: id.into(),
        title: format!("the part {id}"),
        instructions: "do it".into(),
        claims: list(claims),
        after: list(after),
        acceptance: vec![],
    }
}

/// A plan of tasks by id, claims and what comes before.
pub fn plan(tasks: &[(&str, &[&str], &[&str])]) -> Vec<Task> {
    let tasks = tasks
        .iter()
        .map(|(id, claims, after)| planned(id, claims, after));
    check(tasks.collect()).unwrap()
}

/// Through triage and baseline, to the plan.
pub fn to_plan() -> Script {
    let mut script = Script::ready(planning());
    assert_eq!(script.begin(), Step::Plan);
    script
}

#[test]
fn the_plan_comes_when_item_and_baseline_are_known() {
    let mut script = Script::open(planning());
    assert_eq!(script.begin(), Step::Intake);
    script.event(Event::Triaged {
        decision: Decision::Accepted(item()),
    });
    assert_eq!(script.begin(), Step::Baseline);
    script.event(Event::BaselineTaken { report: report() });
    assert_eq!(script.next(), Action::Perform(Step::Plan));
}

#[test]
fn one_task_or_none_is_the_item_as_a_whole() {
    for tasks in [plan(&[]), plan(&[("all", &["."], &[])])] {
        let mut script = to_plan();
        script.event(Event::Planned { tasks });
        assert_eq!(
            script.next(),
            Action::Perform(Step::Implement { attempt: 1 })
        );
        assert!(script.run.tasks.is_empty());
    }
}

#[test]
fn a_plan_skill_that_fails_costs_the_plan_and_not_the_run() {
    let mut script = to_plan();
    script.event(Event::StepFailed {
        step: Step::Plan,
        failure: failure(Cause::Skill, "no idea"),
    });
    assert_eq!(
        script.next(),
        Action::Perform(Step::Implement { attempt: 1 })
    );
    let mut script = to_plan();
    for _ in 0..2 {
        script.event(Event::StepFailed {
            step: Step::Plan,
            failure: failure(Cause::Passing, "overloaded"),
        });
        assert_eq!(script.begin(), Step::Plan);
    }
    script.event(Event::StepFailed {
        step: Step::Plan,
        failure: failure(Cause::Passing, "overloaded"),
    });
    assert_eq!(script.run.stage, Stage::Implement);
    let mut script = to_plan();
    script.event(Event::StepFailed {
        step: Step::Plan,
        failure: failure(Cause::Setup, "no such machine"),
    });
    assert!(matches!(
        script.run.parked,
        Some(Parking::StepFailed { .. })
    ));
}

#[test]
fn what_cannot_be_followed_is_refused_as_a_whole() {
    let one = |id: &str, claims: &[&str], after: &[&str]| planned(id, claims, after);
    let refused = |tasks: Vec<PlannedTask>| check(tasks).unwrap_err();
    let of = |id: &str| id.parse().unwrap();
    assert!(matches!(
        refused(vec![one("A b", &["x"], &[])]),
        PlanError::Id(_)
    ));
    assert!(matches!(
        refused(vec![one("a", &["../x"], &[])]),
        PlanError::Claim { .. }
    ));
    assert_eq!(
        refused(vec![one("a", &[], &[])]),
        PlanError::Claims {
            task: of("a"),
            found: 0
        }
    );
    assert_eq!(
        refused(vec![one("a", &["x"], &[]), one("a", &["y"], &[])]),
        PlanError::Twice { task: of("a") }
    );
    assert_eq!(
        refused(vec![one("a", &["x"], &["b"])]),
        PlanError::Unknown {
            task: of("a"),
            after: of("b")
        }
    );
    assert_eq!(
        refused(vec![one("a", &["x"], &["a"])]),
        PlanError::Circle {
            tasks: vec![of("a")]
        }
    );
    let circle = vec![
        one("a", &["x"], &[]),
        one("b", &["y"], &["a", "d"]),
        one("c", &["z"], &["b"]),
        one("d", &["w"], &["c"]),
    ];
    assert_eq!(
        refused(circle),
        PlanError::Circle {
            tasks: vec![of("b"), of("c"), of("d")]
        }
    );
    let many = (0..=TASKS_MAX).map(|n| one(&format!("t{n}"), &["x"], &[]));
    assert_eq!(
        refused(many.collect()),
        PlanError::TooMany {
            found: TASKS_MAX + 1
        }
    );
    let mut wordy = one("a", &["x"], &[]);
    wordy.instructions = "x".repeat(70_000);
    assert_eq!(refused(vec![wordy]), PlanError::Text { task: of("a") });
}

#[test]
fn a_plan_in_the_journal_is_held_to_the_same() {
    let mut script = to_plan();
    let mut tasks = plan(&[("a", &["x"], &[]), ("b", &["y"], &[])]);
    tasks[1].id = tasks[0].id.clone();
    assert!(script.try_event(Event::Planned { tasks }).is_err());
}

#[test]
fn a_journal_from_before_plans_is_read_as_it_was() {
    let script = Script::ready(crate::script::pipeline());
    let mut text = serde_json::to_value(&script.events[0]).unwrap();
    assert!(
        text["event"].get("child").is_none(),
        "an absent child is not written"
    );
    assert!(text["event"]["pipeline"].get("plan").is_none());
    text["event"]["type"] = "opened".into();
    let read: flow::Recorded = serde_json::from_value(text).unwrap();
    assert_eq!(read, script.events[0]);
}
