//! What a component imports and exports, read without running it.

use std::collections::BTreeSet;

use capability::question::line_for_interface;
use capability::{Capability, Denial, Grant};
use flow::id::Role;
use wasmparser::{Encoding, Parser, Payload};

use crate::error::LoadError;

/// Python components have about 18 MB; ten times that is no skill.
pub(crate) const COMPONENT_BYTES_MAX: usize = 128 << 20;

/// Tools nest three or four deep; each level costs this process memory while it looks.
const NESTING_MAX: usize = 100;

/// WASI 0.2 interfaces that language runtimes pull in whether they are used or not. They are linked to an implementation that gives nothing
/// beyond the grant: no environment, no arguments, closed input, captured output, and only the view's files.
const WASI_BASE: [&str; 5] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:io/",
    "wasi:filesystem/",
    "wasi:random/",
];

/// WASI interfaces that a grant holds or does not, in any version 0.2.
const WASI_GRANTED: [&str; 2] = ["wasi:http/types", "wasi:http/outgoing-handler"];

/// The package's shared types, which every role's interface refers to.
const SKILL_TYPES: &str = "moat:skill/types@0.1.0";

/// What a component asks for and offers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imports {
    /// What a grant holds or does not: `moat:host` interfaces, and those of WASI for requests.
    pub host: BTreeSet<String>,
    /// The WASI base.
    pub wasi_base: BTreeSet<String>,
    /// Everything else: refused at load.
    pub other: BTreeSet<String>,
    /// What it exports.
    pub exports: BTreeSet<String>,
}

/// Reads imports and exports.
///
/// # Errors
/// [`LoadError::NotAComponent`] and [`LoadError::TooLarge`].
pub fn imports(component: &[u8]) -> Result<Imports, LoadError> {
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(LoadError::TooLarge {
            bytes: component.len(),
            max: COMPONENT_BYTES_MAX,
        });
    }
    let refuse = |why: String| LoadError::NotAComponent { why };
    let mut found = Imports::default();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| refuse(error.to_string()))? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => {
                return Err(refuse(
                    "it is a core module; build it for wasm32-wasip2, or wrap it with an adapter"
                        .into(),
                ));
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth += 1;
                if depth > NESTING_MAX {
                    return Err(refuse("components are nested too deep".into()));
                }
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    found.import(import.map_err(|error| refuse(error.to_string()))?.name.name);
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    found.exports.insert(
                        export
                            .map_err(|error| refuse(error.to_string()))?
                            .name
                            .name
                            .to_owned(),
                    );
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

impl Imports {
    fn import(&mut self, name: &str) {
        let set = match name {
            _ if name.starts_with("moat:host/") => &mut self.host,
            _ if WASI_GRANTED.contains(&without_version(name)) && is_wasi_02(name) => {
                &mut self.host
            }
            // Records and variants only: nothing can be called through it.
            SKILL_TYPES => return,
            _ if WASI_BASE.iter().any(|base| name.starts_with(base)) && is_wasi_02(name) => {
                &mut self.wasi_base
            }
            _ => &mut self.other,
        };
        set.insert(name.to_owned());
    }

    /// Checks the imports against a grant: the linker will hold nothing else.
    ///
    /// # Errors
    /// The first import that is not granted, with the line that would declare it.
    pub(crate) fn check(&self, grant: &Grant) -> Result<(), LoadError> {
        if let Some(import) = self.other.first() {
            return Err(LoadError::Unknown {
                import: import.clone(),
            });
        }
        match self.host.iter().find_map(|import| refused(import, grant)) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Every interface that would be linked and that the grant does not hold, where [`check`](Imports::check) tells of the first only.
    pub fn not_granted(&self, grant: &Grant) -> Vec<Denial> {
        let refused = self.host.iter().filter_map(|import| refused(import, grant));
        refused
            .filter_map(|error| match error {
                LoadError::NotGranted { import, line } => {
                    Some(Denial::new(Capability::Interface, import, line))
                }
                _ => None,
            })
            .collect()
    }

    /// Whether this is a plain WASI command, which only the role `job` may be.
    pub(crate) fn is_command(&self) -> bool {
        self.exports
            .iter()
            .any(|name| name.starts_with("wasi:cli/run@0.2."))
    }

    /// Checks that the role's interface is exported.
    ///
    /// # Errors
    /// [`LoadError::WrongRole`].
    pub(crate) fn check_role(&self, role: Role) -> Result<(), LoadError> {
        let wanted = role_interface(role);
        if self.exports.contains(&wanted) || (role == Role::Job && self.is_command()) {
            return Ok(());
        }
        Err(LoadError::WrongRole {
            role,
            wanted,
            exports: self.exports.iter().cloned().collect(),
        })
    }
}

/// The interface that a skill of this role exports.
pub(crate) fn role_interface(role: Role) -> String {
    format!("moat:skill/{role}@0.1.0")
}

fn without_version(import: &str) -> &str {
    import.split_once('@').map_or(import, |(name, _)| name)
}

fn is_wasi_02(name: &str) -> bool {
    let version = name.split_once('@').map_or("", |(_, version)| version);
    let patch = version.strip_prefix("0.2.").unwrap_or("");
    name.starts_with("wasi:") && !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit())
}

/// Why this import is not linked under the grant, if it is not.
fn refused(import: &str, grant: &Grant) -> Option<LoadError> {
    let granted = grant.interfaces();
    let interface = without_version(import);
    let known = line_for_interface(interface).or(granted.contains(interface).then_some(""));
    let Some(line) = known.filter(|_| is_wasi_02(import) || import.ends_with("@0.1.0")) else {
        return Some(LoadError::Unknown {
            import: import.to_owned(),
        });
    };
    if granted.contains(interface) {
        return None;
    }
    let about = capability_of(interface);
    let mut withheld = grant.withheld().iter();
    let withheld = withheld.find(|denial| Some(denial.capability) == about);
    let line = withheld.map_or_else(|| line.to_owned(), |denial| denial.line.clone());
    Some(LoadError::NotGranted {
        import: import.to_owned(),
        line,
    })
}

/// What must be granted for an interface to be linked.
fn capability_of(interface: &str) -> Option<Capability> {
    Some(match interface {
        "moat:host/process" => Capability::Processes,
        "moat:host/model" => Capability::Model,
        "moat:host/release" => Capability::Release,
        _ if WASI_GRANTED.contains(&interface) => Capability::Network,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_are_not_the_wasi_base() {
        let mut imports = Imports::default();
        for name in [
            "wasi:cli/environment@0.2.6",
            "wasi:cli/environment@0.3.0",
            "wasi:cli/environment",
            "wasi:cli/environment@0.2.",
            "wasi:cli/environment@0.2.6@0.2.6",
            "wasi:http/incoming-handler@0.2.6",
            "wasi:http/outgoing-handler@0.3.0",
            "wasi:http/outgoing-handler@0.2.6-rc",
            "wasi:http/outgoing-handler",
            "wasi:http/types@0.2.6@0.2.6",
            "wasi:http/handler@0.2.6",
            "wasi:http2/outgoing-handler@0.2.6",
            "moat:http/outgoing-handler@0.2.6",
            "wasi:sockets/tcp@0.2.6",
            "wasi:clix/a@0.2.0",
            "moat:hosts/process@0.1.0",
        ] {
            imports.import(name);
        }
        assert_eq!(imports.wasi_base.len(), 1);
        assert_eq!(imports.other.len(), 15);
        assert!(imports.host.is_empty());
        for name in ["wasi:http/types@0.2.0", "wasi:http/outgoing-handler@0.2.12"] {
            imports.import(name);
        }
        assert_eq!(imports.host.len(), 2);
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |levels: usize| {
            let mut component = b"\0asm\x0d\0\x01\0".to_vec();
            for _ in 0..levels {
                let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
                // The length in five bytes, whatever it is.
                let length = component.len() as u32;
                outer.extend((0..5).map(|at| {
                    let more = if at < 4 { 0x80 } else { 0 };
                    (length >> (7 * at)) as u8 & 0x7f | more
                }));
                outer.extend(&component);
                component = outer;
            }
            component
        };
        assert!(imports(&nested(50)).is_ok());
        assert!(matches!(
            imports(&nested(5000)),
            Err(LoadError::NotAComponent { .. })
        ));
    }

    #[test]
    fn what_is_no_component_is_refused() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0", b"hello world"] {
            assert!(
                matches!(imports(bytes), Err(LoadError::NotAComponent { .. })),
                "{bytes:?}"
            );
        }
    }
}
