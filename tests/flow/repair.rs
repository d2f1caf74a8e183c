//! Repair: every loop ends, by budget or by lack of progress.

use flow::Event;
use flow::effect::{Asking, Interrupted};
use flow::event::{Cause, Divergence, Parking};
use flow::money::{Micros, Reservation, Spend};
use flow::role::Decision;
use flow::run::Action;
use flow::step::Step;
use flow::verdict::Finding;

use crate::script::{Script, failure, item, pipeline};

#[test]
fn the_same_failure_on_the_same_tree_is_no_progress() {
    let mut script = Script::ready(pipeline());
    script
        .attempt(2)
        .gate(Finding::Fail, "x")
        .gate(Finding::Pass, "ok");
    script
        .attempt(3)
        .gate(Finding::Fail, "x")
        .gate(Finding::Pass, "ok");
    assert_eq!(
        script.run.parked, None,
        "another tree is progress of a kind"
    );
    // Back to the first tree: its verdicts are known, so no gate runs again.
    let Action::Perform(Step::Implement { attempt: 3 }) = script.next() else {
        panic!("an attempt is left")
    };
    script.attempt(2);
    assert!(
        matches!(script.run.parked, Some(Parking::NoProgress)),
        "{:?}",
        script.run.parked
    );
}

#[test]
fn attempts_are_counted_and_a_person_can_grant_one_more() {
    let mut script = Script::ready(pipeline());
    for n in 2..=4 {
        script
            .attempt(n)
            .gate(Finding::Fail, "x")
            .gate(Finding::Pass, "ok");
    }
    assert_eq!(
        script.next(),
        Action::Park(Parking::AttemptsUsed { attempts: 3 })
    );
    script.event(Event::Parked {
        reason: Parking::AttemptsUsed { attempts: 3 },
    });
    script.event(Event::Resumed { by: "me".into() });
    assert_eq!(
        script.next(),
        Action::Perform(Step::Implement { attempt: 4 })
    );
}

#[test]
fn passing_failures_are_retried_three_times_and_no_more() {
    let mut script = Script::ready(pipeline());
    for round in 1..=3 {
        let step = script.begin();
        script.event(Event::StepFailed {
            step,
            failure: failure(Cause::Passing, "529"),
        });
        assert_eq!(script.run.parked.is_some(), round == 3, "round {round}");
    }
}

#[test]
fn a_skill_that_fails_the_same_way_twice_is_not_asked_again() {
    let mut script = Script::ready(pipeline());
    for _ in 0..2 {
        let step = script.begin();
        script.event(Event::StepFailed {
            step,
            failure: failure(Cause::Skill, "trap: unreachable"),
        });
    }
    assert_eq!(script.run.parked, Some(Parking::NoProgress));
}

fn reserved(call: u64, money: u64, tokens: u64) -> Event {
    let money = Micros(money);
    Event::Reserved {
        call,
        alias: "coder".into(),
        model: "provider/model".into(),
        reservation: Reservation { money, tokens },
        asking: None,
        of: None,
    }
}

#[test]
fn a_call_that_is_charged_for_once_is_counted_once() {
    let asking = |again| {
        Some(Asking {
            began: 6,
            number: 3,
            again,
        })
    };
    let spend = |money| Spend {
        money: Micros(money),
        tokens: money,
        calls: 1,
    };
    let of = |call, again| {
        let mut event = reserved(call, 100, 100);
        if let Event::Reserved { asking: one, .. } = &mut event {
            *one = asking(again);
        }
        event
    };
    let mut script = Script::ready(pipeline());
    script.begin();
    // Lost while it was under way, and made again: set aside once.
    script.event(of(1, 1)).event(of(2, 1));
    assert_eq!(script.run.committed().tokens, 100);
    script.event(Event::Settled {
        call: 2,
        spend: spend(40),
    });
    assert_eq!(script.run.spend, spend(40));
    // Lost after it was settled: it costs what it costs, once; another try of it costs as well.
    script.event(of(3, 1)).event(Event::Settled {
        call: 3,
        spend: spend(40),
    });
    assert_eq!(script.run.spend, spend(40));
    script.event(of(4, 2)).event(Event::Settled {
        call: 4,
        spend: spend(2),
    });
    assert_eq!(script.run.spend, spend(40).plus(spend(2)));
    assert_eq!(script.run.committed().tokens, 42);
    // Without a word of what it is for it is another call.
    script.event(reserved(5, 1, 1)).event(reserved(6, 1, 1));
    assert_eq!(script.run.committed().tokens, 44);
}

fn interrupted(script: &Script, number: u64) -> Interrupted {
    Interrupted {
        skill: script.run.opened.pipeline.implement.name.clone(),
        began: began(script),
        number,
        what: "the request POST https://example.com/x".into(),
    }
}

#[test]
fn what_may_have_happened_waits_for_a_person_and_the_step_stays_under_way() {
    let mut script = Script::ready(pipeline());
    let step = script.begin();
    let first = began(&script);
    let one = interrupted(&script, 4);
    let unknown = |interrupted: Interrupted| Event::EffectUnknown {
        step: step.clone(),
        interrupted,
    };
    let stranger = Interrupted {
        began: first + 1,
        ..one.clone()
    };
    assert!(script.try_event(unknown(stranger)).is_err());
    script.event(unknown(one));
    assert_eq!(script.next(), Action::AwaitResume);
    let resumed = Event::Resumed { by: "me".into() };
    assert!(script.try_event(resumed).is_err(), "a word is not enough");
    let said = |number| Event::EffectResolved {
        number,
        happened: true,
        by: "me".into(),
    };
    assert!(script.try_event(said(5)).is_err(), "nobody asked for that");
    script.event(said(4));
    assert!(script.try_event(said(4)).is_err());
    assert_eq!(script.begin(), step);
    assert_eq!(began(&script), first, "its record holds");
    let under_way = script.run.in_flight.as_ref().unwrap();
    assert_eq!(under_way.resolved, [(4, true)].into());
}

#[test]
fn money_set_aside_counts_until_it_is_settled() {
    let mut script = Script::ready(pipeline());
    assert!(
        script.try_event(reserved(1, 1, 1)).is_err(),
        "outside of any step"
    );
    script.begin();
    script.event(reserved(1, 600_000, 500));
    assert_eq!(script.run.remaining().money, Micros(400_000));
    assert!(
        script.try_event(reserved(1, 1, 1)).is_err(),
        "twice the same call"
    );
    assert!(
        script.try_event(reserved(2, 400_001, 1)).is_err(),
        "more money than is left"
    );
    assert!(
        script.try_event(reserved(2, 1, 501)).is_err(),
        "more tokens than are left"
    );
    let settled = |spend| Event::Settled { call: 1, spend };
    script.event(settled(Spend {
        money: Micros(100_000),
        tokens: 90,
        calls: 1,
    }));
    assert_eq!(script.run.remaining().money, Micros(900_000));
    assert!(
        script.try_event(settled(Spend::default())).is_err(),
        "settled twice"
    );
    script.event(reserved(2, 900_000, 910));
}

/// A call that was lost with its driver counts as spent, and a resumed budget comes on top of it.
#[test]
fn a_used_budget_parks_and_a_person_gives_it_once_more() {
    let mut script = Script::ready(pipeline());
    let step = script.begin();
    script.event(reserved(1, 1_000_000, 10));
    script.event(Event::StepFailed {
        step,
        failure: failure(Cause::Budget, "money"),
    });
    assert!(matches!(
        script.run.parked,
        Some(Parking::BudgetUsed { .. })
    ));
    script.event(Event::Resumed { by: "me".into() });
    assert_eq!(script.run.remaining().money, Micros(1_000_000));
    // Each word of a person gives one budget more, not all of them once more.
    for call in 2..=4 {
        let step = script.begin();
        script.event(reserved(call, 1_000_000, 10));
        script.event(Event::StepFailed {
            step,
            failure: failure(Cause::Budget, "money"),
        });
        script.event(Event::Resumed { by: "me".into() });
        assert_eq!(script.run.remaining().money, Micros(1_000_000));
    }
}

#[test]
fn time_runs_only_in_steps() {
    let mut script = Script::ready(pipeline());
    let before = script.run.active_ms;
    script.now_ms += 10_000_000;
    assert!(
        matches!(script.next(), Action::Perform(_)),
        "waiting costs nothing"
    );
    script.begin();
    script.now_ms += 10_000_000;
    let step = Step::Implement { attempt: 1 };
    script.event(Event::StepFailed {
        step,
        failure: failure(Cause::Passing, "slow"),
    });
    assert!(script.run.active_ms > before + 10_000_000);
    assert!(matches!(
        script.next(),
        Action::Park(Parking::BudgetUsed { .. })
    ));
}

fn divergence() -> Divergence {
    Divergence {
        call: 3,
        recorded: "moat:host/model.chat".into(),
        asked: "moat:host/process.run".into(),
    }
}

fn began(script: &Script) -> u64 {
    script.run.in_flight.as_ref().unwrap().began
}

#[test]
fn a_step_keeps_the_number_of_its_beginning_until_it_has_a_result() {
    let mut script = Script::ready(pipeline());
    let step = script.begin();
    let first = began(&script);
    assert_eq!(first, script.run.events);
    script.begin();
    script.begin();
    assert_eq!(began(&script), first, "the same step, taken up again");
    let active_ms = script.run.active_ms;
    script.event(Event::StepFailed {
        step,
        failure: failure(Cause::Passing, "529"),
    });
    assert_eq!(
        script.run.active_ms,
        active_ms + 10,
        "from the last taking up"
    );
    script.begin();
    assert!(began(&script) > first, "a failure in between makes another");
}

#[test]
fn a_step_that_diverged_begins_afresh_and_is_bounded() {
    let mut script = Script::ready(pipeline());
    let mut last = 0;
    for round in 1..=3 {
        let step = script.begin();
        assert!(began(&script) > last, "round {round}");
        last = began(&script);
        script.begin();
        script.event(Event::Diverged {
            step,
            report: divergence(),
        });
        assert_eq!(script.run.in_flight, None);
        assert_eq!(script.run.attempts.len(), 0, "it is no attempt");
        assert_eq!(script.run.parked.is_some(), round == 3, "round {round}");
    }
    let Some(Parking::StepFailed { failure, .. }) = &script.run.parked else {
        panic!("{:?}", script.run.parked)
    };
    let text = &failure.evidence.text;
    assert!(
        text.contains("model.chat") && text.contains("process.run"),
        "{text}"
    );
}

fn lost(step: &Step, cause: Cause) -> Event {
    Event::StepInterrupted {
        step: step.clone(),
        failure: failure(cause, "the worker died: killed"),
    }
}

#[test]
fn a_step_whose_worker_is_lost_goes_on_from_its_record_three_times_and_then_waits() {
    let mut script = Script::ready(pipeline());
    assert!(
        script
            .try_event(lost(&Step::Implement { attempt: 1 }, Cause::Passing))
            .is_err()
    );
    let step = script.begin();
    let first = began(&script);
    // Each word of a person is three times more.
    for _ in 0..2 {
        for round in 1..=4 {
            let active_ms = script.run.active_ms;
            script.event(lost(&step, Cause::Passing));
            assert_eq!(script.run.active_ms, active_ms + 10);
            assert_eq!(script.run.attempts.len(), 0, "it is no attempt");
            assert_eq!(script.run.parked.is_some(), round == 4, "round {round}");
            if round == 4 {
                assert_eq!(script.next(), Action::AwaitResume);
                script.event(Event::Resumed { by: "me".into() });
            }
            assert_eq!(script.begin(), step);
            assert_eq!(began(&script), first, "its record holds");
        }
    }
}

#[test]
fn what_the_machine_lacks_waits_for_a_person_and_the_step_stays_under_way() {
    for cause in [Cause::Setup, Cause::Budget] {
        let mut script = Script::ready(pipeline());
        let step = script.begin();
        let first = began(&script);
        script.event(reserved(1, 10, 10));
        script.event(lost(&step, cause));
        assert_eq!(script.next(), Action::AwaitResume);
        script.event(Event::Resumed { by: "me".into() });
        script.begin();
        assert_eq!(began(&script), first, "its record holds");
        script.event(Event::Settled {
            call: 1,
            spend: Spend::default(),
        });
    }
}

#[test]
fn a_run_goes_on_without_a_baseline_whose_worker_is_lost_again_and_again() {
    let mut script = Script::open(pipeline());
    script.begin();
    script.event(Event::Triaged {
        decision: Decision::Accepted(item()),
    });
    let step = script.begin();
    assert_eq!(step, Step::Baseline);
    for _ in 0..3 {
        script.event(lost(&step, Cause::Passing));
        assert_eq!(script.begin(), step);
    }
    script.event(lost(&step, Cause::Passing));
    assert_eq!(script.run.in_flight, None);
    assert_eq!(
        script.next(),
        Action::Perform(Step::Implement { attempt: 1 })
    );
}

#[test]
fn nothing_diverges_that_is_not_under_way() {
    let mut script = Script::ready(pipeline());
    let step = Step::Implement { attempt: 1 };
    let event = Event::Diverged {
        step: step.clone(),
        report: divergence(),
    };
    assert!(script.try_event(event.clone()).is_err());
    script.begin();
    let other = Event::Diverged {
        step: Step::Intake,
        report: divergence(),
    };
    assert!(script.try_event(other).is_err());
    assert!(script.try_event(event).is_ok());
}
