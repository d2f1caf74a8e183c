//! What a component imports against what its manifest declares.

use std::collections::BTreeSet;

use capability::Manifest;
use capability::question::line_for_interface;
use serde::Serialize;

/// What was read from a component without running it.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Interfaces that a manifest can declare.
    pub host: BTreeSet<String>,
    /// The WASI base, which gives nothing beyond the grant.
    pub base: BTreeSet<String>,
    /// Interfaces that no manifest can declare: such a component is refused.
    pub other: BTreeSet<String>,
}

/// Imports as a reviewer sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Imports {
    /// Imported and declared.
    pub declared: Vec<String>,
    /// Imported and not declared: the component will not load.
    pub undeclared: Vec<Undeclared>,
    /// Declared and not imported, for people: rights that it cannot use, and so does not need.
    pub unused: Vec<String>,
    /// What no manifest can declare.
    pub refused: Vec<String>,
    /// How many interfaces of the WASI base it imports.
    pub base: usize,
}

/// An import that the manifest does not declare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undeclared {
    /// The interface.
    pub interface: String,
    /// The line that would declare it.
    pub line: String,
}

impl Imports {
    /// Sets what was found beside the manifest.
    pub fn of(manifest: &Manifest, found: &Found) -> Imports {
        let declared = interfaces(manifest);
        let mut imports = Imports {
            declared: Vec::new(),
            undeclared: Vec::new(),
            unused: unused(manifest, found),
            refused: found.other.iter().cloned().collect(),
            base: found.base.len(),
        };
        for import in &found.host {
            let interface = plain(import);
            // They hold no authority and are never declared.
            let is_free = ["moat:host/progress", "moat:host/effects"].contains(&interface);
            if is_free || declared.contains(interface) {
                imports.declared.push(import.clone());
            } else if let Some(line) = line_for_interface(interface) {
                imports.undeclared.push(Undeclared {
                    interface: import.clone(),
                    line: line.to_owned(),
                });
            } else {
                imports.refused.push(import.clone());
            }
        }
        imports
    }
}

fn plain(import: &str) -> &str {
    import.split_once('@').map_or(import, |(name, _)| name)
}

/// The interfaces that the manifest declares.
fn interfaces(manifest: &Manifest) -> BTreeSet<&'static str> {
    let mut all = BTreeSet::new();
    if !manifest.processes.is_empty() {
        all.insert("moat:host/process");
    }
    if manifest.model.is_some() {
        all.insert("moat:host/model");
    }
    if manifest.release.is_some() {
        all.insert("moat:host/release");
    }
    if !manifest.network.is_empty() {
        all.extend(["wasi:http/types", "wasi:http/outgoing-handler"]);
    }
    all
}

fn unused(manifest: &Manifest, found: &Found) -> Vec<String> {
    let imported = |interface: &str| {
        let mut all = found.host.iter().chain(&found.base);
        all.any(|import| plain(import).starts_with(interface))
    };
    // A command can use what the skill's own code does not import.
    let online = manifest.processes.iter().any(|one| one.network);
    let commands = !manifest.processes.is_empty() && imported("moat:host/process");
    [
        (
            "[[processes]]",
            !manifest.processes.is_empty(),
            imported("moat:host/process"),
        ),
        (
            "[model]",
            manifest.model.is_some(),
            imported("moat:host/model"),
        ),
        (
            "[release]",
            manifest.release.is_some(),
            imported("moat:host/release"),
        ),
        (
            "[[network]]",
            !manifest.network.is_empty(),
            imported("wasi:http/outgoing-handler") || (online && commands),
        ),
        (
            "[[files]]",
            !manifest.files.is_empty(),
            imported("wasi:filesystem/") || commands,
        ),
        (
            "[[env]]",
            !manifest.env.is_empty(),
            imported("wasi:cli/environment"),
        ),
    ]
    .into_iter()
    .filter(|(_, declared, usable)| *declared && !usable)
    .map(|(section, ..)| section.to_owned())
    .collect()
}
