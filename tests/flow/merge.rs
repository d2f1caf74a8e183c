//! Merge: by compare-and-swap, into exactly what was verified.

use flow::Event;
use flow::event::Parking;
use flow::run::{Action, End, Stage};
use flow::step::Step;
use flow::verdict::Finding;

use crate::script::{Script, base, commit, pipeline, tree};

#[test]
fn an_unmoved_tip_needs_no_second_verdict() {
    let mut script = Script::ready(pipeline());
    script.attempt(2).green().prepare(1, 2);
    assert_eq!(
        script.next(),
        Action::Perform(Step::MoveBranch {
            from: commit(1),
            to: commit(102)
        })
    );
    script.move_branch();
    assert_eq!(script.run.stage, Stage::Ended(End::Merged));
    assert_eq!(script.run.merged, Some(commit(102)));
}

#[test]
fn a_moved_tip_needs_every_verdict_again_even_for_the_same_tree() {
    let mut script = Script::ready(pipeline());
    script.attempt(2).green().prepare(7, 2);
    assert!(
        matches!(script.next(), Action::Perform(Step::Gate { .. })),
        "the base of the verdicts is another"
    );
    script
        .gate(Finding::Pass, "ok")
        .gate(Finding::Fail, "red on the tip");
    assert_eq!(
        script.next(),
        Action::Perform(Step::Implement { attempt: 2 })
    );
}

#[test]
fn a_lost_race_merges_again_and_a_busy_branch_ends_with_a_person() {
    let mut script = Script::ready(pipeline());
    script.attempt(2).green();
    for n in 1..=10 {
        script.prepare(1, 2).begin();
        script.event(Event::MergeLost {
            actual: commit(n + 20),
        });
    }
    assert_eq!(
        script.next(),
        Action::Park(Parking::BranchBusy { rounds: 10 })
    );
}

#[test]
fn a_conflict_starts_the_next_attempt_from_the_tip() {
    let mut script = Script::ready(pipeline());
    script.attempt(2).green().begin();
    script.event(Event::MergeConflicted {
        onto: base(9),
        paths: vec!["src/a.rs".into()],
    });
    assert_eq!(
        script.next(),
        Action::Perform(Step::Implement { attempt: 2 })
    );
    assert_eq!(script.run.base, base(9));
}

#[test]
fn only_the_verified_move_can_be_intended_or_confirmed() {
    let mut script = Script::ready(pipeline());
    script.attempt(2).green().prepare(1, 2).begin();
    let intend = |from, to, n| Event::MergeIntended {
        from: commit(from),
        to: commit(to),
        tree: tree(n),
    };
    for wrong in [intend(3, 102, 2), intend(1, 103, 2), intend(1, 102, 3)] {
        assert!(script.try_event(wrong).is_err());
    }
    script.event(intend(1, 102, 2));
    assert!(
        script
            .try_event(Event::Merged { commit: commit(9) })
            .is_err()
    );
}
