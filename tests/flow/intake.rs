//! A report becomes work, is declined, or waits for answers.

use flow::Event;
use flow::event::Parking;
use flow::role::Decision;
use flow::run::{Action, End, Stage};
use flow::step::Step;

use crate::script::{Script, item, pipeline};

#[test]
fn accepted_work_goes_on_to_the_baseline_or_straight_to_the_first_attempt() {
    let mut script = Script::open(pipeline());
    assert_eq!(script.begin(), Step::Intake);
    script.event(Event::Triaged {
        decision: Decision::Accepted(item()),
    });
    assert_eq!(script.next(), Action::Perform(Step::Baseline));

    let mut script = Script::open(flow::pipeline::Pipeline {
        test: None,
        ..pipeline()
    });
    script.begin();
    script.event(Event::Triaged {
        decision: Decision::Accepted(item()),
    });
    assert_eq!(
        script.next(),
        Action::Perform(Step::Implement { attempt: 1 })
    );
}

#[test]
fn declined_work_ends_the_run_and_nothing_follows() {
    let mut script = Script::open(pipeline());
    script.begin();
    script.event(Event::Triaged {
        decision: Decision::Declined("spam".into()),
    });
    assert_eq!(script.run.stage, Stage::Ended(End::Declined("spam".into())));
    assert_eq!(script.next(), Action::Nothing);
    assert!(
        script
            .try_event(Event::Resumed { by: "me".into() })
            .is_err()
    );
}

#[test]
fn unclear_work_waits_and_is_triaged_again_when_resumed() {
    let mut script = Script::open(pipeline());
    script.begin();
    script.event(Event::Triaged {
        decision: Decision::Unclear(vec!["which page?".into()]),
    });
    assert_eq!(
        script.run.parked,
        Some(Parking::Unclear {
            questions: vec!["which page?".into()]
        })
    );
    script.event(Event::Resumed { by: "me".into() });
    assert_eq!(script.next(), Action::Perform(Step::Intake));
}
