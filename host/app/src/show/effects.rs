//! What a run did outside: intended before, confirmed after; and what is known of the rest.

use driver::Unconfirmed;
use flow::role::Deployment;
use flow::{Event, Recorded};
use serde_json::json;

use crate::show::text::one_line;

/// What is known of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was about to be done; whether it was, nothing says yet.
    Intended,
    /// It was done.
    Confirmed,
    /// It was not done.
    NotDone,
}

impl Standing {
    /// In words, which programs read as well.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Intended => "intended, not confirmed",
            Standing::Confirmed => "confirmed",
            Standing::NotDone => "not done",
        }
    }
}

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// In words.
    pub what: String,
    /// What is known of it.
    pub standing: Standing,
}

/// What skills began outside in this repository, in this run or another, and did not confirm.
pub fn unconfirmed(open: &[Unconfirmed]) -> String {
    let mut text = "## Begun outside in this repository, and not confirmed\n".to_owned();
    for one in open {
        text.push_str(&format!(
            "\n- {} of skill {}, intended in run {}: {}",
            one_line(&one.key, 200),
            one.skill,
            one.run,
            one_line(&one.what, 300)
        ));
    }
    text
}

/// The effects, in the order in which they were intended.
pub fn of(events: &[Recorded]) -> Vec<Effect> {
    let mut effects: Vec<Effect> = Vec::new();
    let mut branch = "the branch".to_owned();
    for recorded in events {
        match &recorded.event {
            Event::Opened(opened) => branch = one_line(&opened.pipeline.branch, 80),
            // A move that is intended again is the same move.
            Event::MergeIntended { from, to, .. } => {
                let what = format!("branch {branch} from {} to {}", from.short(), to.short());
                if effects.last().is_none_or(|last| last.what != what) {
                    effects.push(Effect {
                        what,
                        standing: Standing::Intended,
                    });
                }
            }
            Event::Merged { .. } => settle(&mut effects, Standing::Confirmed),
            Event::MergeLost { .. } => settle(&mut effects, Standing::NotDone),
            Event::Deployed { deployment } => {
                let what = match deployment {
                    Deployment::Healthy(release) => {
                        format!("release {} put into service", one_line(release, 80))
                    }
                    Deployment::RolledBack(back) => format!(
                        "release {} put into service and taken back",
                        one_line(&back.from, 80)
                    ),
                };
                effects.push(Effect {
                    what,
                    standing: Standing::Confirmed,
                });
            }
            _ => {}
        }
    }
    effects
}

fn settle(effects: &mut [Effect], standing: Standing) {
    let open = |effect: &&mut Effect| effect.standing == Standing::Intended;
    if let Some(last) = effects.iter_mut().rev().find(open) {
        last.standing = standing;
    }
}

/// As a section of the dossier; nothing where nothing was done outside.
pub fn section(effects: &[Effect]) -> String {
    if effects.is_empty() {
        return String::new();
    }
    let mut out = String::from("## What was done outside\n\n");
    for effect in effects {
        out.push_str(&format!("- {}: {}\n", effect.what, effect.standing.word()));
    }
    out.push('\n');
    out
}

/// For programs.
pub fn json(effects: &[Effect]) -> serde_json::Value {
    let one = |effect: &Effect| json!({"what": effect.what, "standing": effect.standing.word()});
    effects.iter().map(one).collect()
}
