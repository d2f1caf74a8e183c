//! `policy.toml`: the organisation's ceiling for any skill.

use flow::id::{Role, SkillName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::at_once::{AtOnce, RawAtOnce};
use crate::config::{self, ConfigError, Source};
use crate::manifest::is_plain_name;
use crate::network::{InvalidRule, NetworkRule};
use crate::path::{Globs, RelPath};
use crate::quantity;

/// A checked policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The file, for the lines that would allow something.
    pub file: String,
    /// Never seen by any skill.
    pub hidden: Globs,
    /// The least that must hold a command; below it nothing is run.
    pub least_confinement: LeastConfinement,
    /// A PEM file with certificate authorities that skills' requests trust beside the public ones: an absolute path.
    pub authorities: Option<String>,
    /// How much is done at the same time on this machine.
    pub at_once: AtOnce,
    /// Every ceiling that matches a skill must allow; a skill that none matches gets nothing.
    pub ceilings: Vec<Ceiling>,
}

/// The most that skills of a role, or one skill, may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    /// Absent: every role.
    pub role: Option<Role>,
    /// Absent: every skill.
    pub skill: Option<SkillName>,
    /// What may be read.
    pub read: Vec<RelPath>,
    /// What may be changed.
    pub write: Vec<RelPath>,
    /// Project commands.
    pub commands: Names,
    /// Programs of the machine.
    pub programs: Names,
    /// Commands and programs that may use the network.
    pub online: Names,
    /// Requests.
    pub network: Vec<NetworkRule>,
    /// Requests that may go to loopback and private addresses. They must be allowed by `network` as well.
    pub private: Vec<NetworkRule>,
    /// Secrets.
    pub credentials: Names,
    /// Environment variables.
    pub env: Names,
    /// Model aliases.
    pub models: Names,
    /// Output tokens of one call.
    pub max_tokens: u32,
    /// Releases.
    pub release: bool,
    /// Memory of one call.
    pub memory_bytes: u64,
    /// Wall clock of one call.
    pub wall_ms: u64,
}

/// What must hold a command at least.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum LeastConfinement {
    /// Namespaces and seccomp, on kernels without Landlock.
    Namespaces,
    /// Namespaces, seccomp and Landlock.
    #[default]
    Full,
}

/// A set of names, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Written `["*"]`.
    All,
    /// These and no others.
    These(Vec<String>),
}

impl Names {
    /// Whether the name is in the set.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Names::All => true,
            Names::These(names) => names.iter().any(|one| one == name),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "policy.toml")]
struct Raw {
    /// Globs of what no skill sees.
    #[schemars(with = "Vec<String>")]
    hidden: Spanned<Vec<String>>,
    /// What must hold a command at least: `full` (unless given) or `namespaces`, for kernels without Landlock.
    #[serde(default)]
    least_confinement: LeastConfinement,
    /// A PEM file with certificate authorities that skills' requests trust beside the public ones: an absolute path.
    #[schemars(with = "Option<String>")]
    authorities: Option<Spanned<String>>,
    /// How much is done at the same time on this machine.
    #[schemars(with = "Option<RawAtOnce>")]
    at_once: Option<Spanned<RawAtOnce>>,
    #[serde(default)]
    #[schemars(with = "Vec<RawCeiling>")]
    ceiling: Vec<Spanned<RawCeiling>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawCeiling {
    /// Skills of this role; absent: of every role.
    role: Option<String>,
    /// This skill; absent: every skill.
    skill: Option<String>,
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
    #[serde(default)]
    commands: Vec<String>,
    #[serde(default)]
    programs: Vec<String>,
    /// Commands and programs that may use the network.
    #[serde(default)]
    online: Vec<String>,
    /// Requests: `[METHOD,… ][http://]HOST[:PORT][/PATH]`, or `*` for all over https.
    #[serde(default)]
    network: Vec<String>,
    /// Requests, of those under `network`, that may go to loopback and private addresses.
    #[serde(default)]
    private: Vec<String>,
    /// Secrets, by their names in secrets.toml.
    #[serde(default)]
    credentials: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    max_tokens: u32,
    #[serde(default)]
    release: bool,
    /// Such as 512MiB.
    memory: String,
    /// Such as 15m.
    time: String,
}

impl Policy {
    /// The text of the policy that holds where an organisation has none.
    pub const BUILTIN_TEXT: &'static str = include_str!("policy.toml");

    /// The policy that holds where an organisation has none.
    ///
    /// # Errors
    /// Never for a released moat; a test reads it.
    pub fn builtin() -> Result<Policy, ConfigError> {
        Policy::parse(Policy::BUILTIN_TEXT, "policy.toml (built in)")
    }

    /// Reads and checks a policy.
    ///
    /// # Errors
    /// [`ConfigError`] at the first thing that is wrong.
    pub fn parse(text: &str, file: &str) -> Result<Policy, ConfigError> {
        let source = Source { file, text };
        let raw: Raw = config::parse(source)?;
        let span = raw.hidden.span();
        let hidden = Globs::new(raw.hidden.into_inner())
            .map_err(|e| source.error(span, format!("{e}"), "correct the glob"))?;
        let ceilings = raw
            .ceiling
            .into_iter()
            .map(|one| ceiling(one, source))
            .collect::<Result<_, _>>()?;
        Ok(Policy {
            file: file.into(),
            hidden,
            least_confinement: raw.least_confinement,
            authorities: raw
                .authorities
                .map(|one| absolute(one, source))
                .transpose()?,
            at_once: raw
                .at_once
                .map(|one| {
                    let span = one.span();
                    one.into_inner().check(source, span)
                })
                .transpose()?
                .unwrap_or_default(),
            ceilings,
        })
    }

    /// The ceilings that hold for a skill.
    pub fn ceilings_of(&self, role: Role, skill: &SkillName) -> impl Iterator<Item = &Ceiling> {
        self.ceilings.iter().filter(move |one| {
            one.role.is_none_or(|wanted| wanted == role)
                && one.skill.as_ref().is_none_or(|wanted| wanted == skill)
        })
    }

    /// JSON Schema of the file, for editors.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Raw).to_value()
    }
}

fn ceiling(raw: Spanned<RawCeiling>, source: Source<'_>) -> Result<Ceiling, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let refuse = |message: String| source.error(span.clone(), message, "correct this [[ceiling]]");
    let names = |list: Vec<String>| match list.as_slice() {
        [one] if one == "*" => Ok(Names::All),
        _ if list.iter().all(|name| is_plain_name(name)) => Ok(Names::These(list)),
        _ => Err(refuse(format!(
            "{list:?} is no list of names; `[\"*\"]` alone means all"
        ))),
    };
    Ok(Ceiling {
        role: raw
            .role
            .map(|text| text.parse())
            .transpose()
            .map_err(|e| refuse(format!("{e}")))?,
        skill: raw
            .skill
            .map(|text| text.parse())
            .transpose()
            .map_err(|e| refuse(format!("{e}")))?,
        read: paths(raw.read).map_err(|e| refuse(format!("{e}")))?,
        write: paths(raw.write).map_err(|e| refuse(format!("{e}")))?,
        commands: names(raw.commands)?,
        programs: names(raw.programs)?,
        online: names(raw.online)?,
        network: rules(raw.network, NetworkRule::parse_ceiling).map_err(refuse)?,
        private: rules(raw.private, NetworkRule::parse_ceiling).map_err(refuse)?,
        credentials: names(raw.credentials)?,
        env: names(raw.env)?,
        models: names(raw.models)?,
        max_tokens: raw.max_tokens,
        release: raw.release,
        memory_bytes: quantity::bytes(&raw.memory).map_err(|e| refuse(format!("{e}")))?,
        wall_ms: quantity::millis(&raw.time).map_err(|e| refuse(format!("{e}")))?,
    })
}

fn absolute(path: Spanned<String>, source: Source<'_>) -> Result<String, ConfigError> {
    let text = path.get_ref();
    if text.starts_with('/') && !text.chars().any(char::is_control) {
        return Ok(path.into_inner());
    }
    Err(source.error(
        path.span(),
        "the authorities' file is no absolute path",
        "write the whole path, from `/`",
    ))
}

/// Reads paths of a worktree.
pub(crate) fn paths(list: Vec<String>) -> Result<Vec<RelPath>, crate::path::InvalidPath> {
    list.into_iter().map(|text| text.parse()).collect()
}

/// Reads network rules.
pub(crate) fn rules(
    list: Vec<String>,
    parse: impl Fn(&str) -> Result<NetworkRule, InvalidRule>,
) -> Result<Vec<NetworkRule>, String> {
    let read = |text: &String| {
        parse(text).map_err(|error| {
            let text: String = text.chars().take(120).collect();
            format!("{text:?}: {error}")
        })
    };
    list.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn the_built_in_policy_is_valid_and_covers_every_role() {
        let policy = Policy::builtin().unwrap();
        for role in Role::ALL {
            assert_eq!(
                policy.ceilings_of(role, &"x".parse().unwrap()).count(),
                1,
                "{role}"
            );
        }
    }
}
