//! The file as it is written: every key with its meaning, unknown ones refused.

use std::collections::BTreeMap;

use capability::{RawAtOnce, RawProjectGrant};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "moat.toml")]
pub(crate) struct Raw {
    pub(crate) project: RawProject,
    /// Commands that skills and gates may run, by name: program and arguments, no shell.
    #[schemars(with = "BTreeMap<String, Vec<String>>")]
    pub(crate) commands: BTreeMap<String, Spanned<Vec<String>>>,
    pub(crate) pipeline: RawPipeline,
    /// Skills of the project's own: a folder of the protected branch with skill.toml and component.wasm, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) skills: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    #[schemars(with = "Vec<RawGate>")]
    pub(crate) gate: Vec<Spanned<RawGate>>,
    /// What there is only a few of, and the commands that need one.
    #[serde(default)]
    #[schemars(with = "Vec<RawResource>")]
    pub(crate) resource: Vec<Spanned<RawResource>>,
    /// How much is done at the same time for this repository.
    #[schemars(with = "Option<RawAtOnce>")]
    pub(crate) at_once: Option<Spanned<RawAtOnce>>,
    /// Model aliases that skills use: each is a model of the machine's models.toml.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) models: BTreeMap<String, Spanned<String>>,
    #[schemars(with = "RawBudget")]
    pub(crate) budget: Spanned<RawBudget>,
    /// Environment of commands: plain values, no secrets.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) env: BTreeMap<String, Spanned<String>>,
    #[schemars(with = "Option<RawDeploy>")]
    pub(crate) deploy: Option<Spanned<RawDeploy>>,
    #[serde(default)]
    #[schemars(with = "Vec<RawProjectGrant>")]
    pub(crate) grant: Vec<Spanned<RawProjectGrant>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawProject {
    /// The protected branch.
    #[schemars(with = "String")]
    pub(crate) branch: Spanned<String>,
    /// Directories that the command test installs in the worktree, such as node_modules and .venv, and finds there again: an agent's commands have
    /// them as a run on the base that ended well left them.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) installed: Option<Spanned<Vec<String>>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawPipeline {
    /// Turns a report into a work item; without it the report is the item.
    #[schemars(with = "Option<String>")]
    pub(crate) triage: Option<Spanned<String>>,
    /// Reports the project's tests before the first attempt.
    #[schemars(with = "Option<String>")]
    pub(crate) test: Option<Spanned<String>>,
    /// Splits a work item into tasks that are done at the same time; without it an item is done as a whole.
    #[schemars(with = "Option<String>")]
    pub(crate) plan: Option<Spanned<String>>,
    /// Makes the candidates.
    #[schemars(with = "String")]
    pub(crate) implement: Spanned<String>,
    /// Brings the merged tree into service; needs [deploy].
    #[schemars(with = "Option<String>")]
    pub(crate) deploy: Option<Spanned<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawGate {
    /// Unique.
    pub(crate) name: String,
    /// command, base-tests or protect.
    pub(crate) kind: RawGateKind,
    /// Of command and base-tests: a name of [commands].
    pub(crate) command: Option<String>,
    /// Of base-tests: the tests that are laid over the candidate from the base. Of protect: what only people may change.
    pub(crate) paths: Option<Vec<String>>,
    /// Of command and base-tests: such as 10m.
    pub(crate) timeout: Option<String>,
    /// The weakness of agents that this gate guards against.
    pub(crate) assumes: Option<String>,
}

#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RawGateKind {
    Command,
    BaseTests,
    Protect,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawResource {
    /// Unique.
    pub(crate) name: String,
    /// How many there are on this machine.
    pub(crate) count: u32,
    /// Names of [commands] that need one while they run.
    pub(crate) commands: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawBudget {
    /// Calls of the implement skill.
    pub(crate) attempts: u32,
    /// Time in steps, such as 30m; waiting for people does not count.
    pub(crate) time: String,
    /// How long a command may stand still, without output and without processor time of any of its processes; 10m when absent.
    pub(crate) idle: Option<String>,
    /// What the commands of one step may hold on the disk together, build outputs included, such as 8GiB (which it is where nothing is said).
    pub(crate) disk: Option<String>,
    /// Model tokens, cached ones included; needed with [models].
    pub(crate) tokens: Option<u64>,
    /// Model money in dollars; needed with [models].
    pub(crate) money: Option<f64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawDeploy {
    /// Started in the release's directory, confined, with the host's network.
    pub(crate) start: Vec<String>,
    /// Probed by GET; loopback only.
    pub(crate) health: String,
    /// What a healthy service answers; 200 when absent.
    pub(crate) expect_status: Option<u16>,
    /// How long the service may take to become healthy, such as 20s.
    pub(crate) patience: String,
    /// Releases kept beside the current one.
    pub(crate) keep: u32,
}
