//! `[at-once]`: how much is done at the same time. The same table in `policy.toml`, for the machine, and in `moat.toml`, for one repository.

use std::collections::BTreeMap;
use std::ops::Range;

use flow::id::SkillName;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{ConfigError, Source};
use crate::manifest::is_plain_name;

/// More at once is no limit.
const AT_ONCE_MAX: u32 = 10_000;

/// How much is done at the same time; what is absent is not limited here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AtOnce {
    /// Steps of runs.
    pub steps: Option<u32>,
    /// Commands: those of gates, and those that skills run.
    pub commands: Option<u32>,
    /// Steps that call a skill, by its name.
    pub skills: BTreeMap<SkillName, u32>,
    /// Calls of a model, by its alias.
    pub models: BTreeMap<String, u32>,
}

/// The table as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawAtOnce {
    /// Steps of runs.
    steps: Option<u32>,
    /// Commands: those of gates, and those that skills run.
    commands: Option<u32>,
    /// Steps that call a skill, by its name.
    #[serde(default)]
    skills: BTreeMap<String, u32>,
    /// Calls of a model, by its alias.
    #[serde(default)]
    models: BTreeMap<String, u32>,
}

impl RawAtOnce {
    /// Checks the table.
    ///
    /// # Errors
    /// [`ConfigError`] for a limit of nothing, and for a name that is none.
    pub fn check(self, source: Source<'_>, span: Range<usize>) -> Result<AtOnce, ConfigError> {
        let refuse = |message: String| source.error(span.clone(), message, "correct [at-once]");
        let counts = [self.steps, self.commands].into_iter().flatten();
        let all = counts
            .chain(self.skills.values().copied())
            .chain(self.models.values().copied());
        if let Some(wrong) = all.into_iter().find(|n| !(1..=AT_ONCE_MAX).contains(n)) {
            return Err(refuse(format!(
                "{wrong} at once: a limit is from 1 to {AT_ONCE_MAX}"
            )));
        }
        if let Some(name) = self.models.keys().find(|name| !is_plain_name(name)) {
            return Err(refuse(format!("{name:?} is no alias of a model")));
        }
        let skill = |(name, count): (String, u32)| {
            let name = name
                .parse()
                .map_err(|error: flow::id::InvalidId| refuse(error.to_string()))?;
            Ok((name, count))
        };
        Ok(AtOnce {
            steps: self.steps,
            commands: self.commands,
            skills: self
                .skills
                .into_iter()
                .map(skill)
                .collect::<Result<_, _>>()?,
            models: self.models,
        })
    }
}
