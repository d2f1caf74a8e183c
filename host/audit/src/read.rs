//! Reading: the entries that someone looks for.

use flow::id::{RunId, SkillName};

use crate::TrailError;
use crate::chain::Trail;
use crate::entry::{Kind, Recorded};
use crate::verify::Place;
use crate::{files, line};

/// What to look for; what is absent does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// About this run.
    pub run: Option<RunId>,
    /// About this skill.
    pub skill: Option<SkillName>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Not before, in milliseconds since 1970.
    pub since_ms: Option<u64>,
}

impl Filter {
    fn lets(&self, one: &Recorded) -> bool {
        fn fits<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        fits(self.run.as_ref(), one.entry.run())
            && fits(self.skill.as_ref(), one.entry.skill())
            && fits(self.kind.as_ref(), Some(&one.entry.kind()))
            && self.since_ms.is_none_or(|since| one.at_ms >= since)
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Entries, the oldest first.
    pub entries: Vec<Recorded>,
    /// Lines that are no entry of this version: torn, changed, or of a newer moat. `verify` tells which.
    pub unreadable: Vec<Place>,
}

impl Trail {
    /// Reads the entries that a filter lets through. It does not verify them.
    ///
    /// # Errors
    /// [`TrailError`] when a file cannot be read.
    pub fn entries(&self, filter: &Filter) -> Result<Listing, TrailError> {
        let extent = {
            let _held = self.hold()?;
            self.extent()?
        };
        let mut listing = Listing::default();
        for (number, bytes) in extent {
            let text = self.read(number, bytes)?;
            for (at, one) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
                let one = one.strip_suffix(b"\n").unwrap_or(one);
                match line::entry(one) {
                    Some(recorded) if filter.lets(&recorded) => listing.entries.push(recorded),
                    Some(_) => {}
                    None => listing.unreadable.push(Place {
                        file: files::name(number),
                        line: at as u64 + 1,
                    }),
                }
            }
        }
        Ok(listing)
    }
}
