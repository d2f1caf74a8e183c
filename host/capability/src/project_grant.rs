//! `[[grant]]` of `moat.toml`: what a project gives to one skill. What it does not name is not given.

use flow::id::SkillName;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{ConfigError, Source};
use crate::manifest::is_plain_name;
use crate::network::NetworkRule;
use crate::path::{Globs, RelPath};
use crate::policy::{paths, rules};
use crate::quantity;

/// One `[[grant]]`, as written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawProjectGrant {
    /// The skill's name.
    pub skill: String,
    /// Files and directories that it may read.
    #[serde(default)]
    pub read: Vec<String>,
    /// Files and directories that it may read and change.
    #[serde(default)]
    pub write: Vec<String>,
    /// Globs that stay hidden from it.
    #[serde(default)]
    pub except: Vec<String>,
    /// Names under `[commands]`.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Programs of the machine.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Commands and programs that may use the network, where the manifest asks for it.
    #[serde(default)]
    pub online: Vec<String>,
    /// Requests that it may make: `[METHOD,… ][http://]HOST[:PORT][/PATH]`.
    #[serde(default)]
    pub network: Vec<String>,
    /// Names under `[secrets]` of the machine's secrets.toml.
    #[serde(default)]
    pub credentials: Vec<String>,
    /// Names under `[env]`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Names under `[models]`.
    #[serde(default)]
    pub models: Vec<String>,
    /// Lowers the manifest's output tokens of one call.
    pub max_tokens: Option<u32>,
    /// Whether it may stage and activate releases.
    #[serde(default)]
    pub release: bool,
    /// Lowers the manifest's memory, such as 128MiB.
    pub memory: Option<String>,
    /// Lowers the manifest's time, such as 60s.
    pub time: Option<String>,
}

/// One checked `[[grant]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectGrant {
    /// The skill's name.
    pub skill: SkillName,
    /// What it may read.
    pub read: Vec<RelPath>,
    /// What it may read and change.
    pub write: Vec<RelPath>,
    /// What stays hidden.
    pub except: Globs,
    /// Project commands.
    pub commands: Vec<String>,
    /// Programs of the machine.
    pub programs: Vec<String>,
    /// Commands and programs that may use the network.
    pub online: Vec<String>,
    /// Requests.
    pub network: Vec<NetworkRule>,
    /// Secrets, by name.
    pub credentials: Vec<String>,
    /// Environment variables.
    pub env: Vec<String>,
    /// Model aliases.
    pub models: Vec<String>,
    /// Output tokens of one call.
    pub max_tokens: Option<u32>,
    /// Releases.
    pub release: bool,
    /// Memory of one call.
    pub memory_bytes: Option<u64>,
    /// Wall clock of one call.
    pub wall_ms: Option<u64>,
}

impl RawProjectGrant {
    /// Checks what was written.
    ///
    /// # Errors
    /// [`ConfigError`] at `span`, the place of the `[[grant]]` in the file.
    pub fn check(
        self,
        source: Source<'_>,
        span: std::ops::Range<usize>,
    ) -> Result<ProjectGrant, ConfigError> {
        let refuse =
            |message: String| source.error(span.clone(), message, "correct this [[grant]]");
        let names = |list: Vec<String>| match list.iter().find(|name| !is_plain_name(name)) {
            Some(name) => Err(refuse(format!(
                "{:?} is no name",
                name.chars().take(64).collect::<String>()
            ))),
            None => Ok(list),
        };
        Ok(ProjectGrant {
            skill: self.skill.parse().map_err(|e| refuse(format!("{e}")))?,
            read: paths(self.read).map_err(|e| refuse(format!("{e}")))?,
            write: paths(self.write).map_err(|e| refuse(format!("{e}")))?,
            except: Globs::new(self.except).map_err(|e| refuse(format!("{e}")))?,
            commands: names(self.commands)?,
            programs: names(self.programs)?,
            online: names(self.online)?,
            network: rules(self.network, NetworkRule::parse).map_err(refuse)?,
            credentials: names(self.credentials)?,
            env: names(self.env)?,
            models: names(self.models)?,
            max_tokens: self.max_tokens,
            release: self.release,
            memory_bytes: self
                .memory
                .map(|text| quantity::bytes(&text))
                .transpose()
                .map_err(|e| refuse(format!("{e}")))?,
            wall_ms: self
                .time
                .map(|text| quantity::millis(&text))
                .transpose()
                .map_err(|e| refuse(format!("{e}")))?,
        })
    }
}
