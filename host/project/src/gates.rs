//! `[[gate]]`: each names commands and paths that exist, and takes only the keys of its kind.

use std::collections::{BTreeMap, BTreeSet};

use capability::{ConfigError, Globs, Source, quantity};
use flow::id::GateName;
use toml::Spanned;

use crate::file::{GateKind, GateSpec};
use crate::raw::{RawGate, RawGateKind};

/// Used where a gate states no limit of its own.
const TIMEOUT_MS: u64 = 15 * 60_000;

pub(crate) fn gates(
    raw: Vec<Spanned<RawGate>>,
    commands: &BTreeMap<String, Vec<String>>,
    source: Source<'_>,
) -> Result<Vec<GateSpec>, ConfigError> {
    if raw.is_empty() {
        return Err(source.whole(
            "there is no [[gate]]: anything would be merged",
            "add at least one gate that runs the tests",
        ));
    }
    let mut names = BTreeSet::new();
    let mut gates = Vec::new();
    for gate in raw {
        let span = gate.span();
        let gate = gate_of(gate, commands, source)?;
        if !names.insert(gate.name.clone()) {
            return Err(source.error(
                span,
                format!("gate {} stands twice", gate.name),
                "give each its own name",
            ));
        }
        gates.push(gate);
    }
    Ok(gates)
}

fn gate_of(
    raw: Spanned<RawGate>,
    commands: &BTreeMap<String, Vec<String>>,
    source: Source<'_>,
) -> Result<GateSpec, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let refuse = |message: String| source.error(span.clone(), message, "correct this [[gate]]");
    let name: GateName = raw
        .name
        .parse()
        .map_err(|e: flow::id::InvalidId| refuse(e.to_string()))?;
    let command = || {
        let command = raw
            .command
            .clone()
            .ok_or_else(|| refuse(format!("gate {name} needs `command`")))?;
        if !commands.contains_key(&command) {
            return Err(refuse(format!(
                "gate {name} names the command `{command}`, which [commands] does not have"
            )));
        }
        Ok(command)
    };
    let paths = || {
        let paths = raw
            .paths
            .clone()
            .filter(|paths| !paths.is_empty())
            .ok_or_else(|| refuse(format!("gate {name} needs `paths`")))?;
        Globs::new(paths.clone()).map_err(|e| refuse(e.to_string()))?;
        Ok(paths)
    };
    let timeout_ms = raw
        .timeout
        .as_deref()
        .map_or(Ok(TIMEOUT_MS), quantity::millis)
        .map_err(|e| refuse(e.to_string()))?;
    let kind = match raw.kind {
        RawGateKind::Command if raw.paths.is_none() => GateKind::Command {
            command: command()?,
            timeout_ms,
        },
        RawGateKind::Command => {
            return Err(refuse(format!(
                "gate {name} of kind command takes no `paths`"
            )));
        }
        RawGateKind::BaseTests => GateKind::BaseTests {
            command: command()?,
            timeout_ms,
            paths: paths()?,
        },
        RawGateKind::Protect if raw.command.is_some() || raw.timeout.is_some() => {
            return Err(refuse(format!(
                "gate {name} of kind protect takes `paths` only"
            )));
        }
        RawGateKind::Protect => GateKind::Protect { paths: paths()? },
    };
    Ok(GateSpec {
        name,
        kind,
        assumes: raw.assumes,
    })
}
