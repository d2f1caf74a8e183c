//! A grant as text: the one form that its digest is of, and that a run keeps.

use std::collections::BTreeMap;

use flow::id::Digest;
use serde::{Deserialize as _, Deserializer, Serializer};

use super::{Grant, Running};
use crate::argument::ArgumentPattern;

/// A text that is no grant, or one of a moat that grants what this one does not know.
#[derive(Debug, thiserror::Error)]
#[error("the text is no grant that this moat knows: {0}")]
pub struct UnknownGrant(#[from] serde_json::Error);

impl Grant {
    /// The grant in one canonical form.
    pub fn canonical(&self) -> String {
        // Ordered maps and sets throughout: equal grants are equal texts.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Digest of the canonical form.
    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }

    /// Reads a grant that was kept in its canonical form, by this moat or an older one. What has been added to grants since is not in it, and so is
    /// not granted.
    ///
    /// # Errors
    /// [`UnknownGrant`]: nothing of a text is left out.
    pub fn read(text: &str) -> Result<Grant, UnknownGrant> {
        Ok(serde_json::from_str(text)?)
    }
}

type Programs = BTreeMap<String, BTreeMap<ArgumentPattern, Running>>;

/// Keys of an object are texts, and a pattern is a list: the patterns of a program are a list of pairs.
pub(super) mod programs {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        programs: &Programs,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let pairs = |patterns| BTreeMap::into_iter(patterns).collect::<Vec<_>>();
        let written = programs
            .iter()
            .map(|(name, patterns)| (name, pairs(patterns.clone())));
        serializer.collect_map(written)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Programs, D::Error> {
        let read = BTreeMap::<String, Vec<(ArgumentPattern, Running)>>::deserialize(deserializer)?;
        let programs = read.into_iter();
        Ok(programs
            .map(|(name, pairs)| (name, pairs.into_iter().collect()))
            .collect())
    }
}
