//! What holds for every run, whatever happens to it: random events, thousands of runs.

use flow::event::{Answer, Candidate, Cause, Divergence, Event, Recorded, Usage};
use flow::role::{Decision, Deployment, Outcome, Rollback};
use flow::run::{Action, End, Run, Stage, apply, next, replay};
use flow::step::Step;
use flow::verdict::{Finding, Subject};
use proptest::prelude::*;

use crate::grant::{lacking, regrant};
use crate::script::{Script, base, commit, deploying, failure, item, report, tree};

/// What the outside answers to the action at hand, chosen by a number.
fn answer(script: &Script, choice: u8) -> Option<Vec<Event>> {
    let started = |step: &Step, then: Vec<Event>| {
        Some(
            std::iter::once(Event::StepStarted { step: step.clone() })
                .chain(then)
                .collect(),
        )
    };
    match script.next() {
        // Runs with tasks have a world of their own in `simulation`.
        Action::Nothing | Action::Tend { .. } => None,
        Action::Park(reason) => Some(vec![Event::Parked { reason }]),
        Action::AwaitResume if choice.is_multiple_of(7) => {
            Some(vec![Event::Cancelled { by: "me".into() }])
        }
        Action::AwaitResume if script.run.blocked().is_some() => {
            Some(vec![regrant(&script.run, &choice.to_string())])
        }
        Action::AwaitResume => Some(vec![Event::Resumed { by: "me".into() }]),
        Action::AwaitAnswer { subject, gates } => Some(vec![Event::Answered {
            gate: gates[0].clone(),
            tree: subject.tree,
            answer: if choice.is_multiple_of(3) {
                Answer::Reject
            } else {
                Answer::Approve
            },
            by: "me".into(),
            note: String::new(),
        }]),
        Action::Perform(step) if choice % 11 == 10 => {
            let cause = [
                Cause::Skill,
                Cause::Passing,
                Cause::Budget,
                Cause::Setup,
                Cause::Checkout,
            ][usize::from(choice) % 5];
            started(
                &step,
                vec![Event::StepFailed {
                    step: step.clone(),
                    failure: failure(cause, &format!("{choice}")),
                }],
            )
        }
        // The driver died in the middle of the step, and the step did otherwise when it was taken up.
        Action::Perform(step) if choice % 11 == 8 && script.run.in_flight.is_some() => {
            let report = Divergence {
                call: 1,
                recorded: "a".into(),
                asked: "b".into(),
            };
            started(&step.clone(), vec![Event::Diverged { step, report }])
        }
        // The driver dies in the middle of the step and begins it again later.
        Action::Perform(step) if choice % 11 == 9 => started(&step, vec![]),
        Action::Perform(step) => {
            let done = result(script, &step, choice)?;
            started(&step, done)
        }
    }
}

fn result(script: &Script, step: &Step, choice: u8) -> Option<Vec<Event>> {
    Some(match step {
        Step::Intake | Step::Implement { .. } | Step::Deploy { .. } if choice % 13 == 12 => {
            vec![Event::Blocked {
                step: step.clone(),
                blocked: lacking("x"),
            }]
        }
        Step::Intake => vec![Event::Triaged {
            decision: match choice % 8 {
                0 => Decision::Declined("no".into()),
                1 => Decision::Unclear(vec!["?".into()]),
                _ => Decision::Accepted(item()),
            },
        }],
        Step::Baseline => vec![Event::BaselineTaken { report: report() }],
        Step::Implement { attempt } if choice % 8 == 3 => vec![
            Event::Used {
                step: step.clone(),
                skill: script.run.opened.pipeline.implement.name.clone(),
                usage: Usage {
                    host_calls: [("a.b".to_owned(), u64::from(choice))].into(),
                    fuel: u64::MAX,
                    peak_memory_bytes: 1,
                },
            },
            Event::StepFailed {
                step: Step::Implement { attempt: *attempt },
                failure: failure(Cause::Skill, "x"),
            },
        ],
        Step::Implement { attempt } => vec![Event::Attempted {
            attempt: *attempt,
            outcome: if choice % 8 == 7 {
                Outcome::GaveUp("?".into())
            } else {
                Outcome::Changed("!".into())
            },
            candidate: Candidate {
                tree: tree(choice % 6),
                base: script.run.base.clone(),
                changed: vec![],
                refused: vec![],
            },
        }],
        Step::Gate { gate, subject } => {
            let finding = [
                Finding::Pass,
                Finding::Pass,
                Finding::Pass,
                Finding::Fail,
                Finding::NeedsHuman,
            ][usize::from(choice) % 5];
            vec![Event::GateDecided {
                verdict: script.verdict(gate, subject, finding, &format!("{}", choice % 3)),
            }]
        }
        Step::PrepareMerge if choice % 5 == 4 => {
            vec![Event::MergeConflicted {
                onto: base(choice % 4),
                paths: vec!["a".into()],
            }]
        }
        Step::PrepareMerge => {
            vec![Event::MergePrepared {
                onto: base(choice % 4),
                commit: commit(choice),
                tree: tree(choice % 6),
            }]
        }
        Step::MoveBranch { from, to } => {
            let Stage::MoveBranch(prepared) = &script.run.stage else {
                return None;
            };
            let intent = Event::MergeIntended {
                from: from.clone(),
                to: to.clone(),
                tree: prepared.tree.clone(),
            };
            match choice % 3 {
                0 => vec![intent, Event::MergeLost { actual: commit(9) }],
                _ => vec![intent, Event::Merged { commit: to.clone() }],
            }
        }
        Step::Plan | Step::Integrate => return None,
        Step::Deploy { .. } => vec![Event::Deployed {
            deployment: match choice % 2 {
                0 => Deployment::Healthy("r".into()),
                _ => Deployment::RolledBack(Rollback {
                    from: "r".into(),
                    to: None,
                    reason: "500".into(),
                }),
            },
        }],
    })
}

/// A protected branch moves only to a tree that has a pass, or a person's approval, from every gate on that very tree and base.
fn merged_only_what_every_gate_passed(run: &Run, events: &[Recorded]) {
    let intents = events.iter().filter_map(|recorded| match &recorded.event {
        Event::MergeIntended { from, to, tree } => Some((recorded.number, from, to, tree)),
        _ => None,
    });
    for (number, from, to, tree) in intents {
        let before = &events[..number as usize - 1];
        let onto = before
            .iter()
            .rev()
            .find_map(|recorded| match &recorded.event {
                Event::MergePrepared { onto, commit, .. }
                    if commit == to && onto.commit == *from =>
                {
                    Some(onto.clone())
                }
                _ => None,
            });
        let subject = Subject {
            tree: tree.clone(),
            base: onto.expect("prepared before it was intended").tree,
        };
        for gate in &run.opened.pipeline.gates {
            let passed = before.iter().any(|recorded| match &recorded.event {
                Event::GateDecided { verdict } => {
                    verdict.gate == gate.name
                        && verdict.subject == subject
                        && verdict.finding == Finding::Pass
                }
                Event::Answered {
                    gate: name,
                    tree,
                    answer: Answer::Approve,
                    ..
                } => *name == gate.name && *tree == subject.tree,
                _ => false,
            });
            assert!(passed, "gate {} has no pass for {subject:?}", gate.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_run_keeps_the_rules(choices in proptest::collection::vec(any::<u8>(), 1..120)) {
        let mut script = Script::open(deploying());
        for choice in choices {
            let Some(events) = answer(&script, choice) else { break };
            for event in events {
                script.event(event);
                // Replay equals live, and deciding is a function of the state alone.
                let replayed = replay(&script.events).unwrap().unwrap();
                prop_assert_eq!(&replayed, &script.run);
                prop_assert_eq!(next(&replayed), script.next());
            }
        }
        merged_only_what_every_gate_passed(&script.run, &script.events);
        if script.run.stage == Stage::Ended(End::Deployed) {
            prop_assert!(script.run.merged.is_some());
        }
    }

    #[test]
    fn an_event_out_of_place_is_refused_not_swallowed(number in any::<u64>()) {
        let script = Script::ready(deploying());
        let recorded = Recorded { number, at_ms: 1, event: Event::Cancelled { by: "me".into() } };
        let expected = script.run.events + 1;
        prop_assert_eq!(apply(Some(script.run), &recorded).is_ok(), number == expected);
    }

    #[test]
    fn events_survive_their_own_json(choice in any::<u8>()) {
        let mut script = Script::ready(deploying());
        for event in answer(&script, choice).unwrap_or_default() {
            script.event(event);
        }
        for recorded in &script.events {
            let text = serde_json::to_string(recorded).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Recorded>(&text).unwrap(), recorded);
        }
    }
}
