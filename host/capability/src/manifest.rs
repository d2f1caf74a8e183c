//! `skill.toml`: what a skill is and what it asks for. Each request gives its reason.

use flow::id::{Role, SkillName};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use crate::argument::ArgumentPattern;
use crate::config::{self, ConfigError, Source};
use crate::limits::Limits;
use crate::path::{Globs, RelPath};
use crate::quantity;

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

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "skill.toml")]
struct Raw {
    skill: RawSkill,
    #[serde(default)]
    #[schemars(with = "Vec<RawFiles>")]
    files: Vec<Spanned<RawFiles>>,
    #[serde(default)]
    #[schemars(with = "Vec<RawEnv>")]
    env: Vec<Spanned<RawEnv>>,
    #[serde(default)]
    #[schemars(with = "Vec<RawProcess>")]
    processes: Vec<Spanned<RawProcess>>,
    #[schemars(with = "Option<RawModel>")]
    model: Option<Spanned<RawModel>>,
    #[schemars(with = "Option<RawRelease>")]
    release: Option<Spanned<RawRelease>>,
    #[schemars(with = "RawLimits")]
    limits: Spanned<RawLimits>,
    // Known by name so that the refusal can say why; never accepted.
    #[schemars(skip)]
    network: Option<Spanned<toml::Value>>,
    #[schemars(skip)]
    credentials: Option<Spanned<toml::Value>>,
    #[schemars(skip)]
    browser: Option<Spanned<toml::Value>>,
    #[schemars(skip)]
    memory: Option<Spanned<toml::Value>>,
    #[schemars(skip)]
    forge: Option<Spanned<toml::Value>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSkill {
    /// Lower-case letters, digits and `-`, at most 64.
    #[schemars(with = "String")]
    name: Spanned<String>,
    /// Semantic version, such as 0.3.0.
    #[schemars(with = "String")]
    version: Spanned<String>,
    /// triage, plan, implement, test, evaluate, diagnose, deploy or job.
    #[schemars(with = "String")]
    role: Spanned<String>,
    /// One line.
    #[schemars(with = "String")]
    description: Spanned<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawFiles {
    /// A file or directory of the worktree; `.` is all of it.
    path: String,
    access: Access,
    /// Globs of what stays hidden.
    #[serde(default)]
    except: Vec<String>,
    reason: String,
}

#[derive(Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Access {
    Read,
    Write,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawEnv {
    /// The variable, which the project sets under `[env]` of moat.toml.
    name: String,
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawProcess {
    /// A command of the project, by its name under `[commands]` of moat.toml.
    project: Option<String>,
    /// Whether arguments may be appended to a project command.
    extra_args: Option<bool>,
    /// A program of the machine, by its file name.
    program: Option<String>,
    /// Allowed argument lists of a program.
    args: Option<Vec<Vec<String>>>,
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawModel {
    /// Names under `[models]` of moat.toml.
    aliases: Vec<String>,
    /// Output tokens of one call at most.
    max_tokens: u32,
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRelease {
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawLimits {
    /// All memories and tables of a call together, such as 128MiB.
    memory: String,
    /// Wall clock of a call, such as 60s.
    time: String,
    /// Units of work.
    fuel: Option<u64>,
    /// The result, and separately all that is printed, such as 4MiB.
    output: Option<String>,
    /// Calls to host interfaces.
    host_calls: Option<u64>,
    /// Open handles at one time.
    handles: Option<u32>,
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

fn refuse_unbuilt(raw: &Raw, source: Source<'_>) -> Result<(), ConfigError> {
    let sections = [
        ("network", &raw.network),
        ("credentials", &raw.credentials),
        ("browser", &raw.browser),
        ("memory", &raw.memory),
        ("forge", &raw.forge),
    ];
    match sections
        .iter()
        .find_map(|(name, value)| value.as_ref().map(|value| (name, value)))
    {
        Some((name, value)) => Err(source.error(
            value.span(),
            format!("this version of moat cannot grant `{name}`"),
            "take the section out, or use a version of moat that grants it",
        )),
        None => Ok(()),
    }
}

fn is_semver(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or(text);
    let number = |part: &str| {
        !part.is_empty() && part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit())
    };
    core.split('.').count() == 3
        && core.split('.').all(number)
        && text.len() <= 64
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+'))
}

/// One line for the reviewer: it may not hide anything.
fn sentence(
    text: &str,
    source: Source<'_>,
    span: std::ops::Range<usize>,
) -> Result<String, ConfigError> {
    let text = text.trim();
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    if text.is_empty() || text.chars().count() > 200 {
        return Err(source.error(
            span,
            "a reason or description has from 1 to 200 characters",
            "say in one line what it is for",
        ));
    }
    if text.chars().any(hidden) {
        return Err(source.error(
            span,
            "a reason or description has a control or invisible character",
            "take it out",
        ));
    }
    Ok(text.to_owned())
}

fn file_request(raw: Spanned<RawFiles>, source: Source<'_>) -> Result<FileRequest, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let path = raw.path.parse().map_err(|e| {
        source.error(
            span.clone(),
            format!("{e}"),
            "give a relative path of the worktree",
        )
    })?;
    let except = Globs::new(raw.except)
        .map_err(|e| source.error(span.clone(), format!("{e}"), "correct the glob"))?;
    let reason = sentence(&raw.reason, source, span)?;
    Ok(FileRequest {
        path,
        write: raw.access == Access::Write,
        except,
        reason,
    })
}

fn disjoint(files: &[FileRequest], source: Source<'_>) -> Result<(), ConfigError> {
    for (at, one) in files.iter().enumerate() {
        let fold = |path: &RelPath| {
            path.as_str()
                .to_lowercase()
                .parse::<RelPath>()
                .unwrap_or_else(|_| path.clone())
        };
        let overlaps = |other: &&FileRequest| {
            let (a, b) = (fold(&one.path), fold(&other.path));
            a.holds(&b) || b.holds(&a)
        };
        if let Some(other) = files[at + 1..].iter().find(overlaps) {
            return Err(source.whole(
                format!("[[files]] `{}` and `{}` overlap", one.path, other.path),
                "keep the wider one, or make them disjoint",
            ));
        }
    }
    Ok(())
}

/// Variables that change which code runs: they are never a guest's business.
const REFUSED_VARIABLES: [&str; 9] = [
    "PATH",
    "HOME",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELL",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "NODE_OPTIONS",
];
const REFUSED_PREFIXES: [&str; 6] = ["LD_", "DYLD_", "GIT_", "MOAT_", "PYTHON", "CARGO_"];

/// Whether a project may hand this variable to skills and commands.
pub fn is_variable(name: &str) -> bool {
    let form = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && !name.as_bytes()[0].is_ascii_digit();
    form && !REFUSED_VARIABLES.contains(&name)
        && !REFUSED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn env_request(raw: Spanned<RawEnv>, source: Source<'_>) -> Result<EnvRequest, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    if !is_variable(&raw.name) {
        let message = format!(
            "{:?} is no variable that a skill may have",
            raw.name.chars().take(64).collect::<String>()
        );
        return Err(source.error(
            span,
            message,
            "use capitals, digits and `_`, and no variable that steers a loader or a tool",
        ));
    }
    let reason = sentence(&raw.reason, source, span)?;
    Ok(EnvRequest {
        name: raw.name,
        reason,
    })
}

/// Whether a text can name a project command, a model alias or a program.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+'))
        && !name.starts_with(['-', '.'])
}

fn process_request(
    raw: Spanned<RawProcess>,
    source: Source<'_>,
) -> Result<ProcessRequest, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let named = |name: String| {
        if is_plain_name(&name) {
            return Ok(name);
        }
        let message = format!(
            "{:?} is no command's name",
            name.chars().take(64).collect::<String>()
        );
        Err(source.error(
            span.clone(),
            message,
            "give a plain file name: no path, no space, no shell",
        ))
    };
    let what = match (raw.project, raw.program) {
        (Some(name), None) if raw.args.is_none() => Runnable::Project {
            name: named(name)?,
            extra_args: raw.extra_args.unwrap_or(false),
        },
        (None, Some(program)) if raw.extra_args.is_none() => {
            let patterns = raw.args.unwrap_or_default();
            if patterns.is_empty() {
                return Err(source.error(
                    span,
                    "a program without `args` can run with none at all",
                    "list the allowed argument lists; `[[]]` is the empty one",
                ));
            }
            let args = patterns
                .into_iter()
                .map(ArgumentPattern::new)
                .collect::<Result<Vec<_>, _>>();
            let args = args
                .map_err(|why| source.error(span.clone(), why, "correct the argument pattern"))?;
            Runnable::Program {
                program: named(program)?,
                args,
            }
        }
        _ => {
            return Err(source.error(
                span,
                "[[processes]] names either `project` (with `extra-args`) or `program` (with `args`)",
                "keep one of the two forms",
            ));
        }
    };
    let reason = sentence(&raw.reason, source, span.clone())?;
    Ok(ProcessRequest { what, reason })
}

fn model_request(raw: Spanned<RawModel>, source: Source<'_>) -> Result<ModelRequest, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    if raw.aliases.is_empty() || !raw.aliases.iter().all(|alias| is_plain_name(alias)) {
        return Err(source.error(
            span,
            "[model] names at least one alias",
            "list aliases such as \"coder\"",
        ));
    }
    if raw.max_tokens == 0 {
        return Err(source.error(
            span,
            "max-tokens is at least 1",
            "give the output tokens of one call",
        ));
    }
    let reason = sentence(&raw.reason, source, span)?;
    Ok(ModelRequest {
        aliases: raw.aliases,
        max_tokens: raw.max_tokens,
        reason,
    })
}

fn limits(raw: Spanned<RawLimits>, source: Source<'_>) -> Result<Limits, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let unit = |e: quantity::InvalidQuantity| {
        source.error(span.clone(), format!("{e}"), "correct the quantity")
    };
    let stated = Limits {
        memory_bytes: quantity::bytes(&raw.memory).map_err(unit)?,
        wall_ms: quantity::millis(&raw.time).map_err(unit)?,
        fuel: raw.fuel.unwrap_or(Limits::UNSTATED.fuel),
        output_bytes: raw
            .output
            .map_or(Ok(Limits::UNSTATED.output_bytes), |text| {
                quantity::bytes(&text)
            })
            .map_err(unit)?,
        host_calls: raw.host_calls.unwrap_or(Limits::UNSTATED.host_calls),
        handles: raw.handles.unwrap_or(Limits::UNSTATED.handles),
    };
    if stated.min(Limits::MAX) != stated {
        return Err(source.error(
            span,
            format!(
                "a limit is above the most that any call gets: {:?}",
                Limits::MAX
            ),
            "lower it",
        ));
    }
    if stated.memory_bytes == 0
        || stated.wall_ms == 0
        || stated.fuel == 0
        || stated.output_bytes == 0
    {
        return Err(source.error(span, "a limit of 0 lets nothing run", "raise it"));
    }
    Ok(stated)
}
