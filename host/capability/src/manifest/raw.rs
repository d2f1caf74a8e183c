//! `skill.toml` as written, before it is checked.

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "skill.toml")]
pub(super) struct Raw {
    pub(super) skill: RawSkill,
    #[serde(default)]
    #[schemars(with = "Vec<RawFiles>")]
    pub(super) files: Vec<Spanned<RawFiles>>,
    #[serde(default)]
    #[schemars(with = "Vec<RawNetwork>")]
    pub(super) network: Vec<Spanned<RawNetwork>>,
    #[serde(default)]
    #[schemars(with = "Vec<RawCredential>")]
    pub(super) credentials: Vec<Spanned<RawCredential>>,
    #[serde(default)]
    #[schemars(with = "Vec<RawEnv>")]
    pub(super) env: Vec<Spanned<RawEnv>>,
    #[serde(default)]
    #[schemars(with = "Vec<RawProcess>")]
    pub(super) processes: Vec<Spanned<RawProcess>>,
    #[schemars(with = "Option<RawModel>")]
    pub(super) model: Option<Spanned<RawModel>>,
    #[schemars(with = "Option<RawRelease>")]
    pub(super) release: Option<Spanned<RawRelease>>,
    #[schemars(with = "RawLimits")]
    pub(super) limits: Spanned<RawLimits>,
    // Known by name so that the refusal can say why; never accepted.
    #[schemars(skip)]
    pub(super) browser: Option<Spanned<toml::Value>>,
    #[schemars(skip)]
    pub(super) memory: Option<Spanned<toml::Value>>,
    #[schemars(skip)]
    pub(super) forge: Option<Spanned<toml::Value>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawSkill {
    /// Lower-case letters, digits and `-`, at most 64.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// Semantic version, such as 0.3.0.
    #[schemars(with = "String")]
    pub(super) version: Spanned<String>,
    /// triage, plan, implement, test, evaluate, diagnose, deploy or job.
    #[schemars(with = "String")]
    pub(super) role: Spanned<String>,
    /// One line.
    #[schemars(with = "String")]
    pub(super) description: Spanned<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawFiles {
    /// A file or directory of the worktree; `.` is all of it.
    pub(super) path: String,
    pub(super) access: Access,
    /// Globs of what stays hidden.
    #[serde(default)]
    pub(super) except: Vec<String>,
    pub(super) reason: String,
}

#[derive(Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Access {
    Read,
    Write,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawEnv {
    /// The variable, which the project sets under `[env]` of moat.toml.
    pub(super) name: String,
    pub(super) reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawNetwork {
    /// A host such as `api.example.com`, or `*.example.com` for those below it.
    pub(super) host: String,
    /// https unless given; http goes in the clear.
    pub(super) scheme: Option<String>,
    /// The scheme's own unless given.
    pub(super) port: Option<u16>,
    /// In capitals, such as GET.
    pub(super) methods: Vec<String>,
    /// Paths below which everything is meant, by whole segments; all unless given.
    pub(super) paths: Option<Vec<String>>,
    /// The header by which the other side knows a POST or PATCH that it has had already, such as Idempotency-Key. The host sets it.
    pub(super) idempotency: Option<String>,
    pub(super) reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawCredential {
    /// Its name under `[secrets]` of the machine's secrets.toml. The skill never sees it.
    pub(super) name: String,
    /// The one host that it is sent to, over https only.
    pub(super) host: String,
    /// 443 unless given.
    pub(super) port: Option<u16>,
    /// The header that carries it, such as Authorization.
    pub(super) header: String,
    /// The header's value, with {} where the secret stands, such as `Bearer {}`.
    pub(super) format: String,
    pub(super) reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawProcess {
    /// A command of the project, by its name under `[commands]` of moat.toml.
    pub(super) project: Option<String>,
    /// Whether arguments may be appended to a project command.
    pub(super) extra_args: Option<bool>,
    /// A program of the machine, by its file name.
    pub(super) program: Option<String>,
    /// Allowed argument lists of a program.
    pub(super) args: Option<Vec<Vec<String>>>,
    /// Whether it may use the network that the skill is granted, through the same door.
    #[serde(default)]
    pub(super) network: bool,
    /// Wall clock of one command at most, such as 10m; the call's own unless given.
    pub(super) time: Option<String>,
    /// Memory of each of its processes at most, such as 2GiB; the host's own bound unless given.
    pub(super) memory: Option<String>,
    pub(super) reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawModel {
    /// Names under `[models]` of moat.toml.
    pub(super) aliases: Vec<String>,
    /// Output tokens of one call at most.
    pub(super) max_tokens: u32,
    pub(super) reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawRelease {
    pub(super) reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawLimits {
    /// All memories and tables of a call together, such as 128MiB.
    pub(super) memory: String,
    /// Wall clock of a call, such as 60s.
    pub(super) time: String,
    /// Units of work.
    pub(super) fuel: Option<u64>,
    /// The result, and separately all that is printed, such as 4MiB.
    pub(super) output: Option<String>,
    /// Calls to host interfaces.
    pub(super) host_calls: Option<u64>,
    /// Open handles at one time.
    pub(super) handles: Option<u32>,
    /// Requests to the network.
    pub(super) requests: Option<u64>,
    /// What requests send in all, such as 1MiB.
    pub(super) sent: Option<String>,
    /// What their answers bring in all, such as 64MiB.
    pub(super) received: Option<String>,
}
