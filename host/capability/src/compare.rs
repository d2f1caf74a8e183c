//! What an update of a manifest widens, narrows and leaves.
//!
//! A widening is what could give a skill more under some project grant and some policy. The comparison errs on that side: two requests
//! that only together hold a third one count as holding neither.

use std::fmt;

use serde::Serialize;

use crate::denial::Capability;
use crate::limits::Limits;
use crate::manifest::Manifest;
use crate::power::{Asked, Power};
use crate::quantity::{of_bytes, of_millis};

/// All that differs between two manifests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Comparison {
    /// What the update could do and the version before could not.
    pub widens: Vec<Change>,
    /// What it can do no longer.
    pub narrows: Vec<Change>,
    /// What it says otherwise, for people: its description and its reasons. No right hangs on it.
    pub rewords: Vec<Change>,
    /// What it asks for as before.
    pub leaves: Vec<String>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Which part of the manifest.
    pub part: Part,
    /// What is different, for people.
    pub what: String,
    /// The author's reason for what is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.what)?;
        match &self.reason {
            Some(reason) => write!(f, " (\u{201c}{reason}\u{201d})"),
            None => Ok(()),
        }
    }
}

/// The parts of a manifest in which it can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Name and role, on which grants and ceilings hang.
    Skill,
    /// A capability.
    Of(Capability),
    /// `[limits]`.
    Limits,
}

impl Serialize for Part {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Skill => f.write_str("skill"),
            Part::Of(capability) => capability.fmt(f),
            Part::Limits => f.write_str("limits"),
        }
    }
}

impl Comparison {
    /// Compares an update with the version before it.
    pub fn of(before: &Manifest, after: &Manifest) -> Comparison {
        let mut found = Comparison::default();
        found.identity(before, after);
        found.powers(&before.powers(), &after.powers());
        found.hidden(before, after);
        found.tokens(before, after);
        found.limits(&before.limits, &after.limits);
        found
    }

    /// Whether the update could do more than the version before it.
    pub fn is_wider(&self) -> bool {
        !self.widens.is_empty()
    }

    /// Whether nothing differs, not even a word.
    pub fn is_empty(&self) -> bool {
        self.widens.is_empty() && self.narrows.is_empty() && self.rewords.is_empty()
    }

    fn identity(&mut self, before: &Manifest, after: &Manifest) {
        let mut grants_hang_on = |what: &str, old: &str, new: &str| {
            if old != new {
                self.widens.push(Change {
                    part: Part::Skill,
                    what: format!("{what} `{old}` becomes `{new}`: other grants and ceilings hold"),
                    reason: None,
                });
            }
        };
        grants_hang_on("the name", before.name.as_str(), after.name.as_str());
        grants_hang_on(
            "the role",
            &before.role.to_string(),
            &after.role.to_string(),
        );
        if before.description != after.description {
            self.rewords.push(Change {
                part: Part::Skill,
                what: reworded("the description", &before.description, &after.description),
                reason: None,
            });
        }
    }

    fn powers(&mut self, before: &[Asked<'_>], after: &[Asked<'_>]) {
        let change = |one: &Asked<'_>, what: String, reason: Option<String>| Change {
            part: Part::Of(one.power.capability()),
            what,
            reason,
        };
        for one in after {
            let holder = before.iter().find(|old| old.power.holds(&one.power));
            let Some(holder) = same(before, &one.power).or(holder) else {
                let reason = Some(one.reason.to_owned());
                self.widens.push(change(one, one.power.to_string(), reason));
                continue;
            };
            self.leaves.push(one.power.to_string());
            if holder.reason != one.reason {
                let subject = format!("the reason to {}", one.power);
                let what = reworded(&subject, holder.reason, one.reason);
                self.rewords.push(change(one, what, None));
            }
        }
        for one in before {
            if !after.iter().any(|new| new.power.holds(&one.power)) {
                self.narrows.push(change(one, one.power.to_string(), None));
            }
        }
    }

    /// What is hidden is hidden on every path of the skill, so these are compared as one set.
    fn hidden(&mut self, before: &Manifest, after: &Manifest) {
        let change = |what: String| Change {
            part: Part::Of(Capability::Files),
            what,
            reason: None,
        };
        let (old, new) = (before.hides(), after.hides());
        // Nothing is seen where nothing is asked for.
        if !after.files.is_empty() {
            let shown = old.iter().filter(|pattern| !new.contains(pattern));
            self.widens
                .extend(shown.map(|one| change(format!("see `{one}`, which was hidden from it"))));
        }
        if !before.files.is_empty() {
            let hidden = new.iter().filter(|pattern| !old.contains(pattern));
            self.narrows.extend(
                hidden.map(|one| change(format!("see `{one}`, which is hidden from it now"))),
            );
        }
    }

    fn tokens(&mut self, before: &Manifest, after: &Manifest) {
        let (Some(old), Some(new)) = (&before.model, &after.model) else {
            return;
        };
        let what = format!(
            "output tokens of a model call: {} become {}",
            old.max_tokens, new.max_tokens
        );
        self.number(
            Part::Of(Capability::Model),
            old.max_tokens.into(),
            new.max_tokens.into(),
            what,
        );
    }

    fn limits(&mut self, old: &Limits, new: &Limits) {
        for (name, old, new, unit) in [
            ("memory", old.memory_bytes, new.memory_bytes, Unit::Bytes),
            ("time", old.wall_ms, new.wall_ms, Unit::Millis),
            ("fuel", old.fuel, new.fuel, Unit::One),
            ("output", old.output_bytes, new.output_bytes, Unit::Bytes),
            ("host calls", old.host_calls, new.host_calls, Unit::One),
            ("handles", old.handles.into(), new.handles.into(), Unit::One),
            ("requests", old.requests, new.requests, Unit::One),
            ("bytes sent", old.sent_bytes, new.sent_bytes, Unit::Bytes),
            (
                "bytes received",
                old.received_bytes,
                new.received_bytes,
                Unit::Bytes,
            ),
        ] {
            let what = format!("{name}: {} becomes {}", unit.show(old), unit.show(new));
            self.number(Part::Limits, old, new, what);
        }
    }

    fn number(&mut self, part: Part, old: u64, new: u64, what: String) {
        let change = Change {
            part,
            what,
            reason: None,
        };
        match new.cmp(&old) {
            std::cmp::Ordering::Greater => self.widens.push(change),
            std::cmp::Ordering::Less => self.narrows.push(change),
            std::cmp::Ordering::Equal => {}
        }
    }
}

/// The same power as it was asked for before, so that its reason is compared with its own.
fn same<'a>(before: &'a [Asked<'a>], power: &Power<'_>) -> Option<&'a Asked<'a>> {
    before
        .iter()
        .find(|old| old.power.holds(power) && power.holds(&old.power))
}

fn reworded(subject: &str, old: &str, new: &str) -> String {
    format!("{subject}: \u{201c}{old}\u{201d} becomes \u{201c}{new}\u{201d}")
}

enum Unit {
    Bytes,
    Millis,
    One,
}

impl Unit {
    fn show(&self, value: u64) -> String {
        match self {
            Unit::Bytes => of_bytes(value),
            Unit::Millis => of_millis(value),
            Unit::One => value.to_string(),
        }
    }
}
