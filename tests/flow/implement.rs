//! Attempts: counted, bound to their base, and never believed.

use flow::Event;
use flow::event::{Candidate, Parking};
use flow::role::Outcome;
use flow::run::Action;
use flow::step::Step;

use crate::script::{Script, base, pipeline, tree};

fn unchanged(outcome: Outcome) -> Script {
    let mut script = Script::ready(pipeline());
    script.begin();
    let candidate = Candidate {
        tree: tree(1),
        base: base(1),
        changed: vec![],
        refused: vec!["moat.toml".into()],
    };
    script.event(Event::Attempted {
        attempt: 1,
        outcome,
        candidate,
    });
    script
}

#[test]
fn a_claimed_change_without_one_is_red_and_twice_is_no_progress() {
    let mut script = unchanged(Outcome::Changed("all fixed!".into()));
    assert_eq!(
        script.next(),
        Action::Perform(Step::Implement { attempt: 2 })
    );
    let red = script.run.attempts[0].red.clone().unwrap();
    assert!(
        red.evidence[0].text.contains("moat.toml"),
        "the refused path is named"
    );
    script.begin();
    let candidate = Candidate {
        tree: tree(1),
        base: base(1),
        changed: vec![],
        refused: vec![],
    };
    script.event(Event::Attempted {
        attempt: 2,
        outcome: Outcome::Changed("now!".into()),
        candidate,
    });
    assert_eq!(script.run.parked, Some(Parking::NoProgress));
}

#[test]
fn giving_up_and_claiming_to_be_done_wait_for_a_person() {
    let script = unchanged(Outcome::GaveUp("no idea".into()));
    assert_eq!(
        script.run.parked,
        Some(Parking::GaveUp {
            reason: "no idea".into()
        })
    );
    let script = unchanged(Outcome::AlreadyTrue("it works".into()));
    assert_eq!(
        script.run.parked,
        Some(Parking::ClaimsAlreadyTrue {
            reason: "it works".into()
        })
    );
}

#[test]
fn a_candidate_from_another_base_is_illegal() {
    let mut script = Script::ready(pipeline());
    script.begin();
    let candidate = Candidate {
        tree: tree(2),
        base: base(9),
        changed: vec![],
        refused: vec![],
    };
    assert!(
        script
            .try_event(Event::Attempted {
                attempt: 1,
                outcome: Outcome::Changed(String::new()),
                candidate
            })
            .is_err()
    );
}
