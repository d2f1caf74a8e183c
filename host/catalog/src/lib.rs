//! Packaged skills: component and manifest as one thing with one digest.

mod package;
pub mod review;

pub use package::{COMPONENT_BYTES_MAX, MANIFEST_SECTION, Package, PackageError};

use flow::id::SkillName;

const BUNDLED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// The skills that are at hand.
#[derive(Debug, Clone)]
pub struct Catalog {
    packages: Vec<Package>,
}

impl Catalog {
    /// The first-party skills that are part of this program.
    ///
    /// # Errors
    /// Never for a released moat; a test reads them all.
    pub fn bundled() -> Result<Catalog, PackageError> {
        let packages = BUNDLED
            .iter()
            .map(|(manifest, component)| Package::assemble(manifest, component, "skill.toml"))
            .collect::<Result<_, _>>()?;
        Ok(Catalog { packages })
    }

    /// A skill by its name.
    pub fn find(&self, name: &SkillName) -> Option<&Package> {
        self.packages
            .iter()
            .find(|package| package.manifest.name == *name)
    }

    /// All skills, in no order that means anything.
    pub fn list(&self) -> &[Package] {
        &self.packages
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn every_bundled_skill_is_whole_and_found_by_its_name() {
        let catalog = Catalog::bundled().unwrap();
        assert!(!catalog.list().is_empty());
        for package in catalog.list() {
            assert_eq!(
                catalog.find(&package.manifest.name).unwrap().digest,
                package.digest
            );
            assert_eq!(
                Package::from_component(&package.component).unwrap().digest,
                package.digest
            );
        }
    }
}
