//! The base's tests inform the first attempt; their absence does not stop it.

use flow::Event;
use flow::event::Cause;
use flow::role::Decision;
use flow::run::Action;
use flow::step::Step;

use crate::script::{Script, failure, item, pipeline};

fn at_baseline() -> Script {
    let mut script = Script::open(pipeline());
    script.begin();
    script.event(Event::Triaged {
        decision: Decision::Accepted(item()),
    });
    assert_eq!(script.begin(), Step::Baseline);
    script
}

#[test]
fn a_broken_test_skill_leaves_the_baseline_unknown_and_the_run_going() {
    let mut script = at_baseline();
    script.event(Event::StepFailed {
        step: Step::Baseline,
        failure: failure(Cause::Skill, "trap"),
    });
    assert_eq!(script.run.baseline, None);
    assert_eq!(
        script.next(),
        Action::Perform(Step::Implement { attempt: 1 })
    );
}

#[test]
fn a_machine_that_cannot_confine_parks_the_run() {
    let mut script = at_baseline();
    script.event(Event::StepFailed {
        step: Step::Baseline,
        failure: failure(Cause::Setup, "no namespaces"),
    });
    assert_eq!(script.next(), Action::AwaitResume);
    script.event(Event::Resumed { by: "me".into() });
    assert_eq!(script.next(), Action::Perform(Step::Baseline));
}
