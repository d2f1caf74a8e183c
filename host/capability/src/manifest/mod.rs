//! `skill.toml`: what a skill is and what it asks for. Each request gives its reason.

mod check;
mod network;
mod raw;

use flow::id::{Role, SkillName};
use toml::Spanned;

use crate::argument::ArgumentPattern;
use crate::config::{self, ConfigError, Source};
use crate::limits::Limits;
use crate::network::NetworkRule;
use crate::origin::Origin;
use crate::path::{Globs, RelPath};

use check::{
    consistent, disjoint, env_request, file_request, is_semver, limits, model_request,
    process_request, refuse_unbuilt, sentence,
};
pub use check::{is_plain_name, is_variable};
use network::{bound, credential_request, distinct, network_request};
use raw::Raw;

/// A checked manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The skill's name.
    pub name: SkillName,
    /// Semantic version.
    pub version: String,
    /// The interface that it exports.
    pub role: Role,
    /// One line.
    pub description: String,
    /// Files of the worktree.
    pub files: Vec<FileRequest>,
    /// Requests to the network.
    pub network: Vec<NetworkRequest>,
    /// Secrets that the host adds to such requests.
    pub credentials: Vec<CredentialRequest>,
    /// Environment variables of the project.
    pub env: Vec<EnvRequest>,
    /// Commands.
    pub processes: Vec<ProcessRequest>,
    /// Language models.
    pub model: Option<ModelRequest>,
    /// Releases.
    pub release: Option<String>,
    /// Limits of one call.
    pub limits: Limits,
}

/// `[[files]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRequest {
    /// A file or a directory of the worktree.
    pub path: RelPath,
    /// Whether it may be changed as well.
    pub write: bool,
    /// Hidden: not listed, not readable.
    pub except: Globs,
    /// For the reviewer.
    pub reason: String,
}

/// `[[network]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRequest {
    /// One rule for each path.
    pub rules: Vec<NetworkRule>,
    /// The header, in lower case, by which the other side knows a request that it has had already.
    pub idempotency: Option<String>,
    /// For the reviewer.
    pub reason: String,
}

/// `[[credentials]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRequest {
    /// What the host's store knows it by.
    pub name: String,
    /// Where it is sent, and nowhere else.
    pub origin: Origin,
    /// The header that carries it, in lower case.
    pub header: String,
    /// The header's value, with one `{}` where the secret stands.
    pub format: String,
    /// For the reviewer.
    pub reason: String,
}

/// `[[env]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvRequest {
    /// The variable, which the project sets under `[env]`.
    pub name: String,
    /// For the reviewer.
    pub reason: String,
}

/// `[[processes]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRequest {
    /// What it may run.
    pub what: Runnable,
    /// Whether it may use the network that the skill is granted.
    pub network: bool,
    /// Wall clock of one command; absent: the call's own.
    pub wall_ms: Option<u64>,
    /// Memory of each of its processes; absent: the host's own bound.
    pub memory_bytes: Option<u64>,
    /// For the reviewer.
    pub reason: String,
}

/// The two ways to ask for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runnable {
    /// A command of the project, by its name.
    Project {
        /// Its name under `[commands]`.
        name: String,
        /// Whether the skill may append arguments.
        extra_args: bool,
    },
    /// A program of the machine, by its name.
    Program {
        /// Its file name, looked up by the host.
        program: String,
        /// Allowed argument lists.
        args: Vec<ArgumentPattern>,
    },
}

/// `[model]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRequest {
    /// Aliases.
    pub aliases: Vec<String>,
    /// Output tokens of one call at most.
    pub max_tokens: u32,
    /// For the reviewer.
    pub reason: String,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ConfigError`] at the first thing that is wrong; nothing is taken over from a manifest with an error.
    pub fn parse(text: &str, file: &str) -> Result<Manifest, ConfigError> {
        let source = Source { file, text };
        let raw: Raw = config::parse(source)?;
        refuse_unbuilt(&raw, source)?;
        let at = |spanned: &Spanned<String>, message: String, mend: &str| {
            source.error(spanned.span(), message, mend)
        };
        let name = raw
            .skill
            .name
            .get_ref()
            .parse()
            .map_err(|e| at(&raw.skill.name, format!("{e}"), "choose another name"))?;
        let role = raw
            .skill
            .role
            .get_ref()
            .parse()
            .map_err(|e| at(&raw.skill.role, format!("{e}"), "name one of the roles"))?;
        let version = raw.skill.version.get_ref();
        if !is_semver(version) {
            return Err(at(
                &raw.skill.version,
                format!("{version:?} is no version"),
                "write three numbers, such as 0.3.0",
            ));
        }
        let description = sentence(
            raw.skill.description.get_ref(),
            source,
            raw.skill.description.span(),
        )?;
        let files = raw
            .files
            .into_iter()
            .map(|one| file_request(one, source))
            .collect::<Result<Vec<_>, _>>()?;
        let env = raw
            .env
            .into_iter()
            .map(|one| env_request(one, source))
            .collect::<Result<Vec<_>, _>>()?;
        let processes = raw
            .processes
            .into_iter()
            .map(|one| process_request(one, source))
            .collect::<Result<Vec<_>, _>>()?;
        disjoint(&files, source)?;
        let network = raw
            .network
            .into_iter()
            .map(|one| network_request(one, source))
            .collect::<Result<Vec<_>, _>>()?;
        let credentials = raw
            .credentials
            .into_iter()
            .map(|one| bound(credential_request(one, source)?, &network, source))
            .collect::<Result<Vec<_>, _>>()?;
        distinct(&credentials, source)?;
        consistent(&processes, &network, source)?;
        let model = raw
            .model
            .map(|one| model_request(one, source))
            .transpose()?;
        let release = raw
            .release
            .map(|one| sentence(&one.get_ref().reason, source, one.span()))
            .transpose()?;
        let limits = limits(raw.limits, source)?;
        Ok(Manifest {
            name,
            version: version.clone(),
            role,
            description,
            files,
            network,
            credentials,
            env,
            processes,
            model,
            release,
            limits,
        })
    }

    /// JSON Schema of the file, for editors.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Raw).to_value()
    }
}
