//! What a run did outside: intended before, confirmed after; and what is known of the rest.

use driver::Unconfirmed;
use flow::id::SkillName;
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
    /// It may have been done, and only a person can tell.
    Unknown,
}

impl Standing {
    /// In words, which programs read as well.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Intended => "intended, not confirmed",
            Standing::Confirmed => "confirmed",
            Standing::NotDone => "not done",
            Standing::Unknown => "unknown: it may have happened",
        }
    }
}

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// What it is known by while it is open.
    name: String,
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

/// The move of the branch, of which there is one at a time.
const BRANCH: &str = "branch";

/// The effects, in the order in which they were intended.
pub fn of(events: &[Recorded]) -> Vec<Effect> {
    let mut told = Told {
        branch: "the branch".to_owned(),
        effects: Vec::new(),
    };
    events.iter().for_each(|one| told.hear(&one.event));
    told.effects
}

struct Told {
    branch: String,
    effects: Vec<Effect>,
}

impl Told {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Opened(opened) => self.branch = one_line(&opened.pipeline.branch, 80),
            Event::MergeIntended { from, to, .. } => {
                let what = format!(
                    "branch {} from {} to {}",
                    self.branch,
                    from.short(),
                    to.short()
                );
                self.begin(BRANCH.into(), what, Standing::Intended);
            }
            Event::Merged { .. } => self.settle(BRANCH, Standing::Confirmed),
            Event::MergeLost { .. } => self.settle(BRANCH, Standing::NotDone),
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
                self.begin("release".into(), what, Standing::Confirmed);
            }
            Event::EffectIntended { effect, .. } => {
                let what = format!(
                    "{} of {}: {}",
                    one_line(&effect.key, 80),
                    effect.skill,
                    one_line(&effect.what, 160)
                );
                self.begin(own(&effect.skill, &effect.key), what, Standing::Intended);
            }
            Event::EffectConfirmed { skill, key, .. } => {
                self.settle(&own(skill, key), Standing::Confirmed);
            }
            Event::EffectWithdrawn { skill, key } => {
                self.settle(&own(skill, key), Standing::NotDone);
            }
            Event::EffectUnknown { interrupted, .. } => {
                let what = format!(
                    "{} by {}",
                    one_line(&interrupted.what, 160),
                    interrupted.skill
                );
                self.begin(call(interrupted.number), what, Standing::Unknown);
            }
            Event::EffectResolved {
                number, happened, ..
            } => {
                let standing = match happened {
                    true => Standing::Confirmed,
                    false => Standing::NotDone,
                };
                self.settle(&call(*number), standing);
            }
            // No other event is about something outside.
            _ => {}
        }
    }

    /// What is intended again while it is open is the same effect.
    fn begin(&mut self, name: String, what: String, standing: Standing) {
        let same = |one: &Effect| one.is_open() && one.name == name && one.what == what;
        if !self.effects.iter().any(same) {
            self.effects.push(Effect {
                name,
                what,
                standing,
            });
        }
    }

    fn settle(&mut self, name: &str, standing: Standing) {
        let open = |one: &&mut Effect| one.is_open() && one.name == name;
        if let Some(last) = self.effects.iter_mut().rev().find(open) {
            last.standing = standing;
        }
    }
}

impl Effect {
    fn is_open(&self) -> bool {
        matches!(self.standing, Standing::Intended | Standing::Unknown)
    }
}

fn own(skill: &SkillName, key: &str) -> String {
    format!("{skill}/{key}")
}

fn call(number: u64) -> String {
    format!("call {number}")
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    /// Their standings after events of a skill `m`.
    fn standings(events: &[serde_json::Value]) -> Vec<&'static str> {
        let recorded: Vec<Recorded> = events
            .iter()
            .map(|event| Recorded {
                number: 2,
                at_ms: 0,
                event: serde_json::from_value(event.clone()).unwrap(),
            })
            .collect();
        of(&recorded)
            .iter()
            .map(|effect| effect.standing.word())
            .collect()
    }

    #[test]
    fn what_is_not_confirmed_is_said_to_be_so() {
        let intended = |key: &str| {
            json!({"type": "effect-intended", "step": {"name": "intake"}, "effect": {"skill": "m", "key": key, "what": "a table"},
                "asking": {"began": 2, "number": 1, "again": 1}})
        };
        let confirmed =
            json!({"type": "effect-confirmed", "skill": "m", "key": "0041", "outcome": "ok"});
        let withdrawn = json!({"type": "effect-withdrawn", "skill": "m", "key": "0043"});
        let unknown = json!({"type": "effect-unknown", "step": {"name": "intake"},
            "interrupted": {"skill": "m", "began": 2, "number": 7, "what": "POST https://a.example"}});
        let resolved =
            json!({"type": "effect-resolved", "number": 7, "happened": true, "by": "somebody"});
        let mut events = vec![
            intended("0041"),
            intended("0042"),
            intended("0042"),
            intended("0043"),
            confirmed,
            withdrawn,
            unknown,
        ];
        assert_eq!(
            standings(&events),
            [
                "confirmed",
                "intended, not confirmed",
                "not done",
                "unknown: it may have happened"
            ]
        );
        events.push(resolved);
        assert_eq!(standings(&events)[3], "confirmed");
    }
}
