//! Scripted models drive the loop over a directory.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use serde_json::json;

use crate::agent::{End, Failure, Tests};
use crate::guard::{MALFORMED_MAX, NUDGES_MAX, TURNS_MAX};
use crate::host::{CommandError, Content, Ending, Message, ModelError, Output, Stop, ToolUse};
use crate::prompt::{Assignment, Baseline};
use crate::script::{
    BROKEN, MENDED, Script, Turn, assignment, finish, gave_up, mend, says, text, tool, uses,
};

#[test]
fn a_model_that_mends_is_believed_when_the_tests_agree() {
    let mut script = Script::new(vec![
        uses("read_file", json!({ "path": "fees.py" })),
        uses("edit_file", mend()),
        uses(
            "run_command",
            json!({ "name": "test", "extra_args": ["test_fee"] }),
        ),
        finish(),
    ]);
    let end = script.work();
    assert_eq!(
        end,
        Ok(End::Changed(
            "Round up\n\nA full hour was charged twice.".into()
        ))
    );
    assert_eq!(script.file(), MENDED);
    assert_eq!(
        script.runs,
        [
            ("test".into(), vec!["test_fee".into()]),
            ("test".into(), vec![])
        ]
    );
    assert!(script.told(2)[0].text.contains("1\tdef fee(minutes):"));
    assert_eq!(
        script.notes,
        [
            "attempt 1, turn 1: asking the model",
            "attempt 1, turn 2: asking the model, after reading fees.py",
            "attempt 1, turn 3: asking the model, after editing fees.py",
            "attempt 1, turn 3: running test test_fee",
            "attempt 1, turn 4: asking the model, after running test test_fee",
            "attempt 1, turn 4: running test, since the model says that it is done",
        ]
    );
}

#[test]
fn a_model_that_is_wrong_about_being_done_is_told_and_goes_on() {
    let bad = json!({ "path": "fees.py", "old": "+ 1", "new": "+ 2" });
    let good = json!({ "path": "fees.py", "old": "minutes // 60 + 2", "new": "-(-minutes // 60)" });
    let mut script = Script::new(vec![
        uses("edit_file", bad),
        finish(),
        uses("edit_file", good),
        finish(),
    ]);
    assert!(matches!(script.work(), Ok(End::Changed(text)) if !text.contains("still red")));
    assert_eq!(script.file(), MENDED);
    let told = &script.told(3)[0];
    assert!(
        told.is_error
            && told.text.contains("1 tests are red: test_fee")
            && told.text.contains("exit status 1"),
        "{}",
        told.text
    );
}

#[test]
fn a_model_that_insists_on_red_leaves_it_to_the_gates_and_says_so() {
    let edits = (1..=3).flat_map(|n| {
        let edit =
            json!({ "path": "fees.py", "old": format!("+ {n}"), "new": format!("+ {}", n + 1) });
        [uses("edit_file", edit), finish()]
    });
    let mut script = Script::new(edits.collect());
    match script.work() {
        Ok(End::Changed(text)) => assert!(
            text.contains("still red with it: 1 tests are red: test_fee"),
            "{text}"
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_test_command_nothing_is_run() {
    let mut script = Script::new(vec![
        uses(
            "write_file",
            json!({ "path": "a/new.py", "content": "x\n" }),
        ),
        finish(),
    ]);
    let end = script.work_with(&assignment(), &["lint"], 200_000);
    assert!(matches!(end, Ok(End::Changed(_))));
    assert!(script.runs.is_empty());
    assert_eq!(
        std::fs::read_to_string(script.directory.path().join("a/new.py")).unwrap(),
        "x\n"
    );
}

#[test]
fn finished_without_a_change_is_asked_once_and_then_judged_by_the_tests() {
    let mut script = Script::for_ever(finish());
    let why = gave_up(script.work());
    assert!(
        why.contains("changed nothing") && why.contains("Round up"),
        "{why}"
    );
    assert_eq!(script.sent.len(), 2);
    assert!(script.told(2)[0].is_error);
    let green = Assignment {
        baseline: Some(Baseline {
            green: true,
            ..Baseline::default()
        }),
        ..assignment()
    };
    let end = Script::for_ever(finish()).work_with(&green, &["test"], 200_000);
    assert!(matches!(end, Ok(End::AlreadyTrue(_))), "{end:?}");
    // No baseline: the skill looks for itself.
    let unknown = Assignment {
        baseline: None,
        ..assignment()
    };
    let mut script = Script::for_ever(finish());
    gave_up(script.work_with(&unknown, &["test"], 200_000));
    assert_eq!(script.runs.len(), 1);
    // An edit that is taken back is no change.
    let back = json!({ "path": "fees.py", "old": "-(-minutes // 60)", "new": "minutes // 60 + 1" });
    let mut script = Script::new(vec![
        uses("edit_file", mend()),
        uses("edit_file", back),
        finish(),
        finish(),
    ]);
    gave_up(script.work());
    assert_eq!(script.sent.len(), 4);
}

#[test]
fn wrong_inputs_are_answered_and_the_loop_goes_on() {
    let wrong = [
        ("shell", json!({ "command": "rm -rf /" })),
        ("read_file", json!({ "file": "fees.py" })),
        ("read_file", json!({ "path": "fees.py", "mode": "raw" })),
        ("read_file", json!({ "path": "/etc/passwd" })),
        ("read_file", json!({ "path": "../fees.py" })),
        ("read_file", json!({ "path": "absent.py" })),
        ("read_file", json!({ "path": "fees.py\u{0}" })),
        (
            "write_file",
            json!({ "path": ".git/hooks/pre-commit", "content": "x" }),
        ),
        ("write_file", json!({ "path": "fees.py/x", "content": "x" })),
        ("delete_file", json!({ "path": "." })),
        (
            "edit_file",
            json!({ "path": "fees.py", "old": "minutes", "new": "hours" }),
        ),
        (
            "edit_file",
            json!({ "path": "fees.py", "old": "seconds", "new": "hours" }),
        ),
        ("search", json!({ "pattern": "" })),
        ("list_files", json!({ "glob": "{" })),
        ("run_command", json!({ "name": "deploy" })),
        ("run_command", json!({ "name": "test", "extra_args": "x" })),
        ("finish", json!({ "summary": " " })),
    ];
    for (name, input) in &wrong {
        let mut script = Script::new(vec![
            uses(name, input.clone()),
            uses("edit_file", mend()),
            finish(),
        ]);
        let end = script.work();
        assert!(
            matches!(end, Ok(End::Changed(_))),
            "{name} {input}: {end:?}"
        );
        let told = &script.told(2)[0];
        assert!(
            told.is_error && !told.text.is_empty(),
            "{name} {input}: {}",
            told.text
        );
        assert_eq!(script.file(), MENDED, "{name} {input}");
    }
    let twice = json!({ "path": "fees.py", "old": "minutes", "new": "hours" });
    let mut script = Script::new(vec![
        uses("edit_file", twice),
        uses("give_up", json!({ "reason": "no" })),
    ]);
    assert_eq!(gave_up(script.work()), "no");
    assert!(
        script.told(2)[0]
            .text
            .contains("matches 2 times, at lines 1, 2")
    );
    assert_eq!(script.file(), BROKEN);
}

#[test]
fn all_calls_of_a_turn_are_answered_in_their_order() {
    let turn = vec![
        text("Both at once."),
        tool("a", "read_file", &json!({ "path": "fees.py" })),
        tool("b", "nonsense", &json!({})),
        tool("c", "edit_file", &mend()),
        tool("d", "search", &json!({ "pattern": "-minutes" })),
    ];
    let mut script = Script::new(vec![says(turn, Stop::ToolUse), finish()]);
    assert!(matches!(script.work(), Ok(End::Changed(_))));
    let told: Vec<(String, bool)> = script
        .told(2)
        .into_iter()
        .map(|result| (result.id, result.is_error))
        .collect();
    let told: Vec<(&str, bool)> = told
        .iter()
        .map(|(id, error)| (id.as_str(), *error))
        .collect();
    assert_eq!(
        told,
        [("a", false), ("b", true), ("c", false), ("d", false)]
    );
    assert!(script.told(2)[3].text.contains("fees.py:2:"));
    // So many calls are answered and not done.
    let many = (0..200).map(|n| {
        tool(
            &n.to_string(),
            "write_file",
            &json!({ "path": format!("f{n}"), "content": "" }),
        )
    });
    let mut script = Script::new(vec![
        says(many.collect(), Stop::ToolUse),
        uses("give_up", json!({ "reason": "x" })),
    ]);
    gave_up(script.work());
    assert_eq!(
        script
            .told(2)
            .iter()
            .filter(|result| !result.is_error)
            .count(),
        16
    );
    assert_eq!(
        std::fs::read_dir(script.directory.path()).unwrap().count(),
        17
    );
}

#[test]
fn a_model_that_repeats_itself_is_warned_and_stopped() {
    let mut script = Script::for_ever(uses("read_file", json!({ "path": "fees.py" })));
    assert!(gave_up(script.work()).contains("repeated itself"));
    assert_eq!(script.sent.len(), 4);
    let warned = |messages: &[Message]| matches!(messages.last().unwrap().content.last(), Some(Content::Text(text)) if text.contains("before"));
    assert!(!warned(&script.sent[1]) && warned(&script.sent[2]));
    // Commands tell times; the same red on the same files is no news.
    let mut script = Script::for_ever(uses("run_command", json!({ "name": "test" })));
    assert!(gave_up(script.work()).contains("repeated itself"));
    // To and fro, each edit a success.
    let back = json!({ "path": "fees.py", "old": "-(-minutes // 60)", "new": "minutes // 60 + 1" });
    let circle = (0..40).map(|n| uses("edit_file", if n % 2 == 0 { mend() } else { back.clone() }));
    let mut script = Script::new(circle.collect());
    assert!(gave_up(script.work()).contains("repeated itself"));
    assert_eq!(script.sent.len(), 5);
}

#[test]
fn a_model_that_only_talks_is_nudged_twice() {
    let mut script = Script::for_ever(says(vec![text("I will look at it.")], Stop::EndTurn));
    assert!(gave_up(script.work()).contains("no tool"));
    assert_eq!(script.sent.len() as u32, NUDGES_MAX + 1);
    let mut script = Script::new(vec![
        says(vec![], Stop::EndTurn),
        says(vec![text(" ")], Stop::MaxTokens),
        uses("edit_file", mend()),
        says(vec![text("Done!")], Stop::EndTurn),
        finish(),
    ]);
    assert!(matches!(script.work(), Ok(End::Changed(_))));
}

#[test]
fn a_call_that_was_cut_off_is_not_done() {
    let turn = vec![
        tool(
            "a",
            "write_file",
            &json!({ "path": "whole", "content": "x" }),
        ),
        tool("b", "write_file", &json!({ "path": "cut", "content": "x" })),
    ];
    let mut script = Script::new(vec![
        says(turn, Stop::MaxTokens),
        uses("give_up", json!({ "reason": "x" })),
    ]);
    gave_up(script.work());
    let told = script.told(2);
    assert!(!told[0].is_error && told[1].is_error && told[1].text.contains("cut off"));
    assert!(
        script.directory.path().join("whole").exists()
            && !script.directory.path().join("cut").exists()
    );
}

#[test]
fn nonsense_turns_and_time_are_bounded() {
    let garbage = (0..20).map(|n| {
        let id = n.to_string();
        let one = Content::ToolUse(ToolUse {
            id: id.clone(),
            name: "edit_file".into(),
            input: format!("{{\"path\": {id}"),
        });
        says(vec![one], Stop::ToolUse)
    });
    let mut script = Script::new(garbage.collect());
    assert!(gave_up(script.work()).contains("could be read"));
    assert_eq!(script.sent.len() as u32, MALFORMED_MAX);
    let busy = |n: u32| {
        uses(
            "write_file",
            json!({ "path": "log", "content": n.to_string() }),
        )
    };
    let mut script = Script::new((0..200).map(busy).collect());
    assert!(gave_up(script.work()).contains("80 turns"));
    assert_eq!(script.sent.len() as u32, TURNS_MAX);
    let mut script = Script::new((0..200).map(busy).collect());
    script.ms_a_turn = 10 * 60_000;
    assert!(gave_up(script.work()).contains("time ran out"));
    assert_eq!(script.sent.len(), 6);
}

#[test]
fn refusals_and_errors_of_the_model_have_their_own_ends() {
    let refusal = says(vec![text("I cannot help with that.")], Stop::Refusal);
    assert!(gave_up(Script::new(vec![refusal]).work()).contains("I cannot help"));
    let end = |error: ModelError| Script::new(vec![Err(error)]).work();
    assert!(matches!(end(ModelError::Denied), Err(Failure::Denied(_))));
    assert!(
        matches!(end(ModelError::NotConfigured), Err(Failure::Failed(why)) if why.contains("[models]") && why.contains("search-repair"))
    );
    assert!(matches!(
        end(ModelError::OutOfBudget),
        Err(Failure::OutOfBudget(_))
    ));
    assert!(matches!(
        end(ModelError::Invalid("x".into())),
        Err(Failure::Failed(_))
    ));
    assert!(matches!(
        end(ModelError::Unavailable("x".into())),
        Err(Failure::Retryable(_))
    ));
    assert!(matches!(
        end(ModelError::Broken("x".into())),
        Err(Failure::Retryable(_))
    ));
    assert!(matches!(
        Script::new(vec![]).work_with(&assignment(), &["test"], 4_000),
        Err(Failure::Failed(_))
    ));
}

#[test]
fn commands_that_cannot_be_run_are_told_or_end_the_attempt() {
    let run = || {
        vec![
            uses("run_command", json!({ "name": "test" })),
            uses("give_up", json!({ "reason": "x" })),
        ]
    };
    for error in [
        CommandError::Denied,
        CommandError::NotFound,
        CommandError::Invalid("x".into()),
        CommandError::Unavailable("x".into()),
    ] {
        let mut script = Script::new(run());
        script.test_error = Some(error);
        assert_eq!(gave_up(script.work()), "x");
        assert!(script.told(2)[0].is_error);
    }
    let mut script = Script::new(run());
    script.test_error = Some(CommandError::OutOfBudget);
    assert!(matches!(script.work(), Err(Failure::OutOfBudget(_))));
    let mut script = Script::new(vec![uses("edit_file", mend()), finish()]);
    script.test_error = Some(CommandError::Unavailable("x".into()));
    assert!(matches!(script.work(), Err(Failure::Retryable(_))));
}

#[test]
fn a_long_conversation_is_shortened_and_what_left_it_may_be_read_again() {
    let directory_text = "a line of some length that fills the conversation up\n".repeat(300);
    let mut turns: Vec<Turn> = (0..60)
        .map(|n| uses("read_file", json!({ "path": format!("f{}", n % 4) })))
        .collect();
    turns.push(uses("edit_file", mend()));
    turns.push(finish());
    let mut script = Script::new(turns);
    for n in 0..4 {
        std::fs::write(
            script.directory.path().join(format!("f{n}")),
            &directory_text,
        )
        .unwrap();
    }
    let end = script.work_with(&assignment(), &["test"], 16_000);
    assert!(matches!(end, Ok(End::Changed(_))), "{end:?}");
    // Sent within the context, by the estimate, with the output's share left free.
    let bytes = |messages: &[Message]| {
        messages
            .iter()
            .flat_map(|message| &message.content)
            .map(|part| match part {
                Content::Text(text) => text.len(),
                Content::ToolUse(tool) => tool.input.len(),
                Content::ToolResult(result) => result.text.len(),
            })
            .sum::<usize>()
    };
    let most = script
        .sent
        .iter()
        .map(|messages| bytes(messages))
        .max()
        .unwrap();
    assert!(most < 12_000 * 3, "{most}");
    assert!(
        script
            .sent
            .iter()
            .all(|messages| messages[0].content[0] == script.sent[0][0].content[0])
    );
}

#[test]
fn what_a_provider_would_refuse_is_not_sent_back() {
    let odd = |id: &str, name: &str, input: &str| {
        Content::ToolUse(ToolUse {
            id: id.into(),
            name: name.into(),
            input: input.into(),
        })
    };
    let turn = vec![
        text(""),
        odd("", "functions.edit_file", "{\"path\": "),
        odd("", "edit_file", &mend().to_string()),
    ];
    let mut script = Script::new(vec![says(turn, Stop::ToolUse), finish()]);
    // `work` looks at every conversation that was sent.
    assert!(matches!(script.work(), Ok(End::Changed(_))));
    let told = script.told(2);
    assert!(told[0].text.contains("\"functions.edit_file\"") && told[0].is_error);
    assert!(!told[1].is_error);
}

#[test]
fn green_is_what_the_gates_take_for_green() {
    let green = |ending, stdout: &str| {
        let output = Output {
            ending,
            stdout: stdout.into(),
            stderr: String::new(),
        };
        Tests::read(&output).green
    };
    let passed = "test a ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
    assert!(green(Ending::Exited(0), passed) && green(Ending::Exited(0), "no known runner"));
    assert!(!green(Ending::Exited(1), passed) && !green(Ending::Exited(1), ""));
    assert!(!green(Ending::Deadline, passed) && !green(Ending::Signalled(9), passed));
    assert!(!green(Ending::Exited(0), "test a ... FAILED\n"));
    let none = "test result: ok. 0 passed; 0 failed; 0 ignored\n";
    assert!(!green(Ending::Exited(0), none));
}

#[test]
fn the_answers_of_one_turn_leave_room_for_the_next() {
    let read = (0..12).map(|n| {
        tool(
            &n.to_string(),
            "read_file",
            &json!({ "path": "big", "from_line": n + 1 }),
        )
    });
    let mut script = Script::new(vec![
        says(read.collect(), Stop::ToolUse),
        uses("give_up", json!({ "reason": "x" })),
    ]);
    let big = "a line of some length that fills the conversation up\n".repeat(400);
    std::fs::write(script.directory.path().join("big"), big).unwrap();
    let end = script.work_with(&assignment(), &["test"], 24_000);
    assert_eq!(gave_up(end), "x");
    let told: usize = script.told(2).iter().map(|result| result.text.len()).sum();
    // A quarter of 18,000 tokens, and a little for each of those that came too late.
    assert!(told < 18_000 * 3 / 4 + 12 * 600, "{told}");
}

#[test]
fn the_smallest_context_is_enough_for_a_small_mend() {
    let big = Assignment {
        body: "much to read\n".repeat(5_000),
        ..assignment()
    };
    let mut script = Script::new(vec![
        uses("read_file", json!({ "path": "fees.py" })),
        uses("run_command", json!({ "name": "test" })),
        uses("edit_file", mend()),
        finish(),
    ]);
    let end = script.work_with(&big, &["test"], crate::agent::CONTEXT_TOKENS_MIN);
    assert!(matches!(end, Ok(End::Changed(_))), "{end:?}");
}

#[test]
fn what_the_manifest_declares_is_what_the_loop_uses() {
    let manifest = include_str!("../skill.toml");
    for line in [
        format!("aliases = [\"{}\"]", crate::agent::ALIAS),
        format!("max-tokens = {}", crate::agent::MAX_TOKENS),
        format!("project = \"{}\"", crate::agent::TEST),
        "time = \"60m\"".into(),
    ] {
        assert!(manifest.contains(&line), "{line}");
    }
}
