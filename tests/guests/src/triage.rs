//! A report that names a URL and nothing else, or a story; the work item is what is found there, answered to a `POST`, or came of the story.

use moat_sdk::triage::host::effects;
use moat_sdk::triage::{Decision, Guest, Report, SkillError, WorkItem};

use crate::{Probe, story};

impl Guest for Probe {
    fn triage(report: Report) -> Result<Decision, SkillError> {
        let text = match report.text.trim().strip_prefix("POST ") {
            // What may have happened is no reason to give up: the report is then what was found so far.
            Some(url) => match posted(url) {
                Ok(text) => text,
                Err(error) => format!("one full hour is charged as two\n{error:?}"),
            },
            None if report.text.starts_with("STORY ") => acted(&report.text)?,
            None if report.text.starts_with("DEEDS\n") => done(&report.text)?,
            None if report.text.starts_with("MIGRATE ") => migrated(report.text.trim())?,
            None => moat_sdk::http::get(report.text.trim())?.text()?,
        };
        Ok(Decision::Accepted(WorkItem {
            title: text.lines().next().unwrap_or("").to_owned(),
            body: text,
            kind: moat_sdk::triage::moat::skill::types::WorkKind::Bug,
            suspects: vec![],
            acceptance: vec![],
        }))
    }
}

/// Does one thing after another: `STORY {"steps": […]}`.
fn acted(text: &str) -> Result<String, SkillError> {
    let steps = text.trim_start_matches("STORY ");
    let steps =
        serde_json::from_str(steps).map_err(|error| SkillError::InvalidInput(error.to_string()))?;
    let told = story::told(&steps);
    Ok(format!("one full hour is charged as two\n{told}"))
}

fn posted(url: &str) -> Result<String, moat_sdk::http::Error> {
    moat_sdk::http::post(url, "text/plain", "once")?.text()
}

/// Does one thing a line, `POST URL` or `MIGRATE KEY URL`; what stands after `ITEM` is the item.
fn done(text: &str) -> Result<String, SkillError> {
    let (deeds, item) = text
        .split_once("\nITEM\n")
        .ok_or_else(|| SkillError::InvalidInput("no item".into()))?;
    let mut said = Vec::new();
    for deed in deeds.lines().skip(1) {
        let words: Vec<&str> = deed.split(' ').collect();
        said.push(match words[..] {
            ["POST", url] => format!("{:?}", posted(url)),
            ["MIGRATE", key, url] => migrated_once(key, url)?,
            _ => return Err(SkillError::InvalidInput(format!("what is {deed:?}?"))),
        });
    }
    Ok(format!("{item}\n{}", said.join("\n")))
}

/// What is intended and not confirmed is looked for before it is done again.
fn migrated_once(key: &str, url: &str) -> Result<String, SkillError> {
    let failed = |error| SkillError::Failed(format!("{error:?}"));
    let standing = effects::intend(key, "adds a column").map_err(failed)?;
    let is_there = match &standing {
        effects::Standing::Fresh => false,
        effects::Standing::Confirmed(_) => true,
        effects::Standing::Unconfirmed(_) => moat_sdk::http::get(url)?.is_success(),
    };
    if !is_there {
        posted(url)?;
    }
    effects::confirm(key, "the column is there").map_err(failed)?;
    Ok(format!("{standing:?}"))
}

/// Keeps account of a migration, and says how it stood: `MIGRATE KEY`, and `confirm`, `withdraw` or nothing.
fn migrated(text: &str) -> Result<String, SkillError> {
    let mut words = text.split_whitespace().skip(1);
    let (key, then) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let failed = |error| SkillError::Failed(format!("{error:?}"));
    let standing = match then {
        "withdraw" => format!("{:?}", effects::withdraw(key).map_err(failed)?),
        _ => format!(
            "{:?}",
            effects::intend(key, "adds a column").map_err(failed)?
        ),
    };
    if then == "confirm" {
        effects::confirm(key, "the column is there").map_err(failed)?;
    }
    let all = effects::all().map_err(failed)?;
    Ok(format!(
        "one full hour is charged as two\n{standing}\n{all:?}"
    ))
}

moat_sdk::triage::export!(Probe with_types_in moat_sdk::triage);
