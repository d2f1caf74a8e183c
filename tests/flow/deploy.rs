//! Deploy: healthy ends the run, a rollback leaves it with a person.

use flow::Event;
use flow::event::Parking;
use flow::role::{Deployment, Rollback};
use flow::run::{Action, End, Stage};
use flow::step::Step;

use crate::script::{Script, commit, deploying};

fn merged() -> Script {
    let mut script = Script::ready(deploying());
    script.attempt(2).green().prepare(1, 2).move_branch();
    assert_eq!(
        script.begin(),
        Step::Deploy {
            commit: commit(102)
        }
    );
    script
}

#[test]
fn a_healthy_release_ends_the_run() {
    let mut script = merged();
    script.event(Event::Deployed {
        deployment: Deployment::Healthy("r1".into()),
    });
    assert_eq!(script.run.stage, Stage::Ended(End::Deployed));
}

#[test]
fn a_rollback_parks_and_can_be_tried_again() {
    let mut script = merged();
    let rollback = Rollback {
        from: "r2".into(),
        to: Some("r1".into()),
        reason: "500".into(),
    };
    script.event(Event::Deployed {
        deployment: Deployment::RolledBack(rollback),
    });
    assert_eq!(
        script.run.parked,
        Some(Parking::RolledBack {
            reason: "500".into()
        })
    );
    script.event(Event::Resumed { by: "me".into() });
    assert_eq!(
        script.next(),
        Action::Perform(Step::Deploy {
            commit: commit(102)
        })
    );
}
