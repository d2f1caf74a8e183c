//! The checks of a manifest's sections, apart from the network's.

use toml::Spanned;

use super::raw::{Access, Raw, RawEnv, RawFiles, RawLimits, RawModel, RawProcess};
use super::{EnvRequest, FileRequest, ModelRequest, NetworkRequest, ProcessRequest, Runnable};
use crate::argument::ArgumentPattern;
use crate::config::{self, ConfigError, Source};
use crate::limits::Limits;
use crate::path::{Globs, RelPath};
use crate::quantity;

pub(super) fn refuse_unbuilt(raw: &Raw, source: Source<'_>) -> Result<(), ConfigError> {
    let sections = [
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

pub(super) fn is_semver(text: &str) -> bool {
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
pub(super) fn sentence(
    text: &str,
    source: Source<'_>,
    span: std::ops::Range<usize>,
) -> Result<String, ConfigError> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 200 {
        return Err(source.error(
            span,
            "a reason or description has from 1 to 200 characters",
            "say in one line what it is for",
        ));
    }
    if text.chars().any(config::hides) {
        return Err(source.error(
            span,
            "a reason or description has a control or invisible character",
            "take it out",
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn file_request(
    raw: Spanned<RawFiles>,
    source: Source<'_>,
) -> Result<FileRequest, ConfigError> {
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

pub(super) fn disjoint(files: &[FileRequest], source: Source<'_>) -> Result<(), ConfigError> {
    let mut paths: Vec<(Vec<String>, &RelPath)> = files
        .iter()
        .map(|one| (folded(&one.path), &one.path))
        .collect();
    // By components, what a path holds comes right behind it: an author's ten thousand paths are not each compared with each.
    paths.sort();
    for pair in paths.windows(2) {
        if let [(wider, one), (other_parts, other)] = pair
            && other_parts.starts_with(wider)
        {
            return Err(source.whole(
                format!("[[files]] `{one}` and `{other}` overlap"),
                "keep the wider one, or make them disjoint",
            ));
        }
    }
    Ok(())
}

/// The components of a path, in lower case; the root has none.
fn folded(path: &RelPath) -> Vec<String> {
    if path.is_root() {
        return Vec::new();
    }
    let folded = path.as_str().to_lowercase();
    folded.split('/').map(str::to_owned).collect()
}

/// Variables that change which code runs: they are never a guest's business.
const REFUSED_VARIABLES: [&str; 24] = [
    "PATH",
    "HOME",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELL",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "RUSTC",
    "GOFLAGS",
    "MAKEFLAGS",
    "_JAVA_OPTIONS",
    "PERL5OPT",
    "PERL5LIB",
    "RUBYOPT",
    "RUBYLIB",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
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

pub(super) fn env_request(
    raw: Spanned<RawEnv>,
    source: Source<'_>,
) -> Result<EnvRequest, ConfigError> {
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

pub(super) fn process_request(
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
    let unit = |e: quantity::InvalidQuantity| {
        source.error(span.clone(), format!("{e}"), "correct the quantity")
    };
    let wall_ms = raw.time.map(|text| quantity::millis(&text)).transpose();
    let memory_bytes = raw.memory.map(|text| quantity::bytes(&text)).transpose();
    Ok(ProcessRequest {
        what,
        network: raw.network,
        wall_ms: wall_ms.map_err(unit)?,
        memory_bytes: memory_bytes.map_err(unit)?,
        reason: sentence(&raw.reason, source, span.clone())?,
    })
}

/// A command is declared once, and reaches the network only where there is one to reach.
pub(super) fn consistent(
    processes: &[ProcessRequest],
    network: &[NetworkRequest],
    source: Source<'_>,
) -> Result<(), ConfigError> {
    for (at, one) in processes.iter().enumerate() {
        if one.network && network.is_empty() {
            return Err(source.whole(
                format!(
                    "[[processes]] number {} uses the network, and no [[network]] says which",
                    at + 1
                ),
                "declare the hosts, or take `network = true` out",
            ));
        }
        let twin = |other: &&ProcessRequest| match (&one.what, &other.what) {
            (Runnable::Project { name, .. }, Runnable::Project { name: other, .. }) => {
                name == other
            }
            (
                Runnable::Program { program, args },
                Runnable::Program {
                    program: other,
                    args: others,
                },
            ) => program == other && args.iter().any(|one| others.contains(one)),
            _ => false,
        };
        if processes[at + 1..].iter().any(|other| twin(&other)) {
            return Err(source.whole(
                format!("[[processes]] number {} is declared twice", at + 1),
                "keep one of the two",
            ));
        }
    }
    Ok(())
}

pub(super) fn model_request(
    raw: Spanned<RawModel>,
    source: Source<'_>,
) -> Result<ModelRequest, ConfigError> {
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

pub(super) fn limits(raw: Spanned<RawLimits>, source: Source<'_>) -> Result<Limits, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let unit = |e: quantity::InvalidQuantity| {
        source.error(span.clone(), format!("{e}"), "correct the quantity")
    };
    let stated = Limits {
        memory_bytes: quantity::bytes(&raw.memory).map_err(unit)?,
        wall_ms: quantity::millis(&raw.time).map_err(unit)?,
        fuel: raw.fuel.unwrap_or(Limits::UNSTATED.fuel),
        output_bytes: bytes_or(raw.output, Limits::UNSTATED.output_bytes).map_err(unit)?,
        host_calls: raw.host_calls.unwrap_or(Limits::UNSTATED.host_calls),
        handles: raw.handles.unwrap_or(Limits::UNSTATED.handles),
        requests: raw.requests.unwrap_or(Limits::UNSTATED.requests),
        sent_bytes: bytes_or(raw.sent, Limits::UNSTATED.sent_bytes).map_err(unit)?,
        received_bytes: bytes_or(raw.received, Limits::UNSTATED.received_bytes).map_err(unit)?,
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

fn bytes_or(stated: Option<String>, unstated: u64) -> Result<u64, quantity::InvalidQuantity> {
    stated.map_or(Ok(unstated), |text| quantity::bytes(&text))
}
