//! Gates: every verdict, on the exact tree, or nothing moves.

use flow::Event;
use flow::event::{Answer, Parking};
use flow::run::{Action, Stage};
use flow::step::Step;
use flow::verdict::{Finding, Subject};

use crate::script::{Script, pipeline, tree};

fn subject() -> Subject {
    Subject {
        tree: tree(2),
        base: tree(1),
    }
}

#[test]
fn all_gates_answer_before_red_or_green_is_known() {
    let mut script = Script::ready(pipeline());
    script.attempt(2).gate(Finding::Fail, "red");
    assert!(
        matches!(script.next(), Action::Perform(Step::Gate { gate, .. }) if gate.as_str() == "protect")
    );
    script.gate(Finding::Pass, "ok");
    assert_eq!(
        script.next(),
        Action::Perform(Step::Implement { attempt: 2 })
    );
}

#[test]
fn a_verdict_about_another_tree_or_gate_is_illegal() {
    let mut script = Script::ready(pipeline());
    script.attempt(2).begin();
    let other = Subject {
        tree: tree(3),
        base: tree(1),
    };
    let mut verdict = script.verdict(&"tests".parse().unwrap(), &other, Finding::Pass, "ok");
    assert!(
        script
            .try_event(Event::GateDecided {
                verdict: verdict.clone()
            })
            .is_err()
    );
    verdict.subject = subject();
    verdict.gate_digest = flow::id::Digest::of(b"an older definition");
    assert!(script.try_event(Event::GateDecided { verdict }).is_err());
}

#[test]
fn a_person_answers_for_one_tree_only() {
    let mut script = Script::ready(pipeline());
    script
        .attempt(2)
        .gate(Finding::Pass, "ok")
        .gate(Finding::NeedsHuman, "moat.toml was changed");
    assert_eq!(
        script.next(),
        Action::AwaitAnswer {
            subject: subject(),
            gates: vec!["protect".parse().unwrap()]
        }
    );
    let answer = |n| Event::Answered {
        gate: "protect".parse().unwrap(),
        tree: tree(n),
        answer: Answer::Approve,
        by: "me".into(),
        note: String::new(),
    };
    assert!(script.try_event(answer(3)).is_err(), "another tree");
    script.event(answer(2));
    assert_eq!(script.next(), Action::Perform(Step::PrepareMerge));
    // The tip has moved: the merged tree is another one, and the approval does not reach it.
    script
        .prepare(5, 6)
        .gate(Finding::Pass, "ok")
        .gate(Finding::NeedsHuman, "moat.toml was changed");
    assert!(matches!(script.next(), Action::AwaitAnswer { .. }));
    assert!(
        script.try_event(answer(2)).is_err(),
        "the approval of the first tree"
    );
}

#[test]
fn a_rejection_parks_and_a_resume_asks_for_another_attempt() {
    let mut script = Script::ready(pipeline());
    script
        .attempt(2)
        .gate(Finding::Pass, "ok")
        .gate(Finding::NeedsHuman, "?");
    script.event(Event::Answered {
        gate: "protect".parse().unwrap(),
        tree: tree(2),
        answer: Answer::Reject,
        by: "me".into(),
        note: "no".into(),
    });
    assert!(matches!(script.run.parked, Some(Parking::Rejected { .. })));
    script.event(Event::Resumed { by: "me".into() });
    assert_eq!(
        script.next(),
        Action::Perform(Step::Implement { attempt: 2 })
    );
}

#[test]
fn red_beats_a_question() {
    let mut script = Script::ready(pipeline());
    script
        .attempt(2)
        .gate(Finding::Fail, "red")
        .gate(Finding::NeedsHuman, "?");
    assert_eq!(script.run.stage, Stage::Implement);
    assert_eq!(
        script.run.attempts[0].red.as_ref().unwrap().evidence.len(),
        2,
        "both are told to the next attempt"
    );
}
