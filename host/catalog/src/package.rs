//! One skill as it is shipped: a component with its manifest in a custom section, addressed by the digest of the whole.

use std::path::{Path, PathBuf};

use capability::{ConfigError, Manifest};
use flow::id::Digest;
use wasm_encoder::{ComponentSection as _, CustomSection};
use wasmparser::{Encoding, Parser, Payload};

/// The custom section that holds `skill.toml`.
pub const MANIFEST_SECTION: &str = "moat:manifest";

/// A component has at most so many bytes: those of Python have about 18 million.
pub const COMPONENT_BYTES_MAX: u64 = 128 << 20;

/// Every capability has its reason, on a line each.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// A skill with everything that decides what it does and may ask for.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its manifest, checked.
    pub manifest: Manifest,
    /// Its manifest, as written.
    pub manifest_text: String,
    /// The component with the manifest inside.
    pub component: Vec<u8>,
    /// Of the component with the manifest inside.
    pub digest: Digest,
}

/// Why there is no package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ConfigError),
    /// The component is none.
    #[error("{file} is no WebAssembly component: {why}")]
    Component {
        /// Where it came from.
        file: String,
        /// What the parser says.
        why: String,
    },
    /// A component without a manifest.
    #[error("the component holds no manifest: package it with its skill.toml")]
    NoManifest,
    /// The folder has no manifest.
    #[error("{directory} has no skill.toml: name a skill's folder")]
    NoSkill {
        /// The folder.
        directory: PathBuf,
    },
    /// The folder has no component.
    #[error(
        "{directory} has no component: build it for wasm32-wasip2 and copy it there as `component.wasm`"
    )]
    Missing {
        /// The folder.
        directory: PathBuf,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A component or manifest that is larger than any skill's.
    #[error("{path} is larger than a skill's files are")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

impl Package {
    /// Puts a manifest into a component; one that is there already gives way.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn assemble(
        manifest_text: &str,
        component: &[u8],
        file: &str,
    ) -> Result<Package, PackageError> {
        let manifest = Manifest::parse(manifest_text, file)?;
        let mut packaged = without_manifest(component, file)?;
        CustomSection {
            name: MANIFEST_SECTION.into(),
            data: manifest_text.as_bytes().into(),
        }
        .append_to_component(&mut packaged);
        let digest = Digest::of(&packaged);
        Ok(Package {
            manifest,
            manifest_text: manifest_text.to_owned(),
            component: packaged,
            digest,
        })
    }

    /// Reads a packaged component.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn from_component(component: &[u8]) -> Result<Package, PackageError> {
        let found = sections(component, "the component")?.into_iter().next();
        let text = found.ok_or(PackageError::NoManifest)?.manifest;
        let manifest = Manifest::parse(&text, "skill.toml (in the component)")?;
        Ok(Package {
            manifest,
            manifest_text: text,
            component: component.to_vec(),
            digest: Digest::of(component),
        })
    }

    /// Reads a packaged component from its file.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn from_file(path: &Path) -> Result<Package, PackageError> {
        Package::from_component(&read(path, COMPONENT_BYTES_MAX)?)
    }

    /// Digest of the component without its manifest: equal for two versions with the same code.
    ///
    /// # Errors
    /// [`PackageError`] when the component is none, which a package's is not.
    pub fn code_digest(&self) -> Result<Digest, PackageError> {
        Ok(Digest::of(&without_manifest(
            &self.component,
            "the component",
        )?))
    }

    /// Packages a skill's folder: `skill.toml` and `component.wasm`.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn from_dir(directory: &Path) -> Result<Package, PackageError> {
        let manifest = directory.join("skill.toml");
        if !manifest.is_file() {
            return Err(PackageError::NoSkill {
                directory: directory.into(),
            });
        }
        let path = directory.join("component.wasm");
        if std::fs::metadata(&path).is_err() {
            return Err(PackageError::Missing {
                directory: directory.into(),
            });
        }
        let text = read(&manifest, MANIFEST_BYTES_MAX)?;
        let text = String::from_utf8(text).map_err(|error| PackageError::Unreadable {
            path: manifest.clone(),
            error: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
        })?;
        let component = read(&path, COMPONENT_BYTES_MAX)?;
        Package::assemble(&text, &component, &manifest.display().to_string())
    }
}

/// Reads a file of a folder that a stranger may have made: a link to a device has no size and no end, a pipe is waited for.
fn read(path: &Path, max: u64) -> Result<Vec<u8>, PackageError> {
    use std::io::Read as _;
    let unreadable = |error| PackageError::Unreadable {
        path: path.to_owned(),
        error,
    };
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(std::io::Error::other("it is no plain file")));
    }
    let mut content = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(max + 1).read_to_end(&mut content))
        .map_err(unreadable)?;
    if content.len() as u64 > max {
        return Err(PackageError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(content)
}

/// A manifest at the top level: where its section lies, from the section's id on, and its text.
struct Section {
    range: std::ops::Range<usize>,
    manifest: String,
}

fn sections(component: &[u8], file: &str) -> Result<Vec<Section>, PackageError> {
    let refuse = |why: String| PackageError::Component {
        file: file.into(),
        why,
    };
    let mut found = Vec::new();
    let mut depth = 0usize;
    // A section begins where the one before it ends: the length in front of its content may be written in more bytes than it needs.
    let mut end = 0;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(|error| refuse(error.to_string()))?;
        let start = end;
        if depth == 0 {
            end = match &payload {
                Payload::Version { range, .. } => range.end,
                other => other.as_section().map_or(end, |(_, range)| range.end),
            };
            // The parser ends a nested module or component where the bytes end, also in the middle of it.
            if end > component.len() {
                return Err(refuse("it is cut off".into()));
            }
        }
        match payload {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => return Err(refuse("it is a core module".into())),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 && section.name() == MANIFEST_SECTION => {
                let text = std::str::from_utf8(section.data())
                    .map_err(|_| refuse("its manifest is not UTF-8".into()))?;
                found.push(Section {
                    range: start..section.range().end,
                    manifest: text.to_owned(),
                });
            }
            _ => {}
        }
    }
    Ok(found)
}

fn without_manifest(component: &[u8], file: &str) -> Result<Vec<u8>, PackageError> {
    let mut rest = component.to_vec();
    for section in sections(component, file)?.into_iter().rev() {
        rest.drain(section.range);
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    const MANIFEST: &str = "[skill]\nname = \"x\"\nversion = \"0.1.0\"\nrole = \"job\"\ndescription = \"d\"\n[limits]\nmemory = \"1MiB\"\ntime = \"1s\"\n";

    #[test]
    fn a_folder_of_devices_and_giants_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (manifest, component) = (
            folder.path().join("skill.toml"),
            folder.path().join("component.wasm"),
        );
        std::fs::write(&manifest, MANIFEST).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &component).unwrap();
        assert!(matches!(
            Package::from_dir(folder.path()),
            Err(PackageError::Unreadable { .. })
        ));
        std::fs::remove_file(&component).unwrap();
        let file = std::fs::File::create(&component).unwrap();
        file.set_len(1 << 40).unwrap();
        assert!(matches!(
            Package::from_dir(folder.path()),
            Err(PackageError::TooLarge { .. })
        ));
        std::fs::write(&component, EMPTY).unwrap();
        assert!(Package::from_dir(folder.path()).is_ok());
        let file = std::fs::File::create(&manifest).unwrap();
        file.set_len(1 << 40).unwrap();
        assert!(matches!(
            Package::from_dir(folder.path()),
            Err(PackageError::TooLarge { .. })
        ));
    }

    #[test]
    fn assembling_is_repeatable_and_the_manifest_comes_back() {
        let first = Package::assemble(MANIFEST, EMPTY, "x").unwrap();
        let again = Package::assemble(MANIFEST, &first.component, "x").unwrap();
        assert_eq!(first.digest, again.digest);
        let long = format!("{MANIFEST}# {}\n", "x".repeat(500));
        let changed = Package::assemble(&long, &first.component, "x").unwrap();
        assert_ne!(changed.digest, first.digest);
        assert_eq!(
            Package::from_component(&changed.component)
                .unwrap()
                .manifest_text,
            long
        );
        assert_eq!(
            Package::assemble(MANIFEST, &changed.component, "x")
                .unwrap()
                .digest,
            first.digest
        );
    }

    #[test]
    fn folders_without_their_parts_say_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            Package::from_dir(dir.path()),
            Err(PackageError::NoSkill { .. })
        ));
        std::fs::write(dir.path().join("skill.toml"), MANIFEST).unwrap();
        assert!(matches!(
            Package::from_dir(dir.path()),
            Err(PackageError::Missing { .. })
        ));
        std::fs::write(dir.path().join("component.wasm"), "no wasm").unwrap();
        assert!(matches!(
            Package::from_dir(dir.path()),
            Err(PackageError::Component { .. })
        ));
        std::fs::write(dir.path().join("component.wasm"), EMPTY).unwrap();
        assert!(Package::from_dir(dir.path()).is_ok());
        assert!(matches!(
            Package::from_component(EMPTY),
            Err(PackageError::NoManifest)
        ));
    }
}
