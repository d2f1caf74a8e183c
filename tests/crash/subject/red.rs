//! A model mends the parking meter at its fourth attempt.

use serde_json::json;
use support::model::{Answer, Say, Turn, provider, text};

use super::{Kind, Subject, commit, demo, edit, meter, models};

const WRONG: &str = "minutes < 60";
const RIGHT: &str = "minutes <= 60";

pub fn subject() -> Subject {
    let (template, model) = (super::directory(), provider(red_three_times));
    models(
        &template.path().join("home"),
        &template.path().join("key"),
        model.port,
    );
    let repo = meter(template.path());
    edit(&repo.join("moat.toml"), &[("attempts = 3", "attempts = 4")]);
    commit(&repo);
    Subject {
        kind: Kind::ThreeRed,
        template: template.path().to_owned(),
        repo: "meter",
        report: demo::REPORT.to_owned(),
        model: Some(model),
        outside: None,
        port: None,
        _kept: Box::new(template),
    }
}

/// Knows from what it is told alone which attempt it is and what it has done in it, so that it answers a question twice in the same way.
fn red_three_times(turn: &Turn<'_>) -> Answer {
    let said = turn.body["messages"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let attempt = (2..=4)
        .rev()
        .find(|attempt| {
            said[0]
                .to_string()
                .contains(&format!("This is attempt {attempt}."))
        })
        .unwrap_or(1);
    let turns = said.iter().filter(|message| message["role"] == "assistant");
    let new = match attempt {
        4 => RIGHT.to_owned(),
        red => format!("minutes < {}", 60 - red),
    };
    match turns.count() {
        0 => Answer::Says(vec![
            text("I edit."),
            Say::Tool(
                "edit_file",
                json!({"path": "meter/fees.py", "old": WRONG, "new": new}),
            ),
        ]),
        // It is told that tests are red, and insists.
        _ => Answer::Says(vec![Say::Tool(
            "finish",
            json!({"summary": "Charge a begun hour once"}),
        )]),
    }
}
