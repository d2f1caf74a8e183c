//! What an update of a skill changes: its manifest, its code, its imports, and what its rights come to.

use std::collections::BTreeSet;

use capability::Comparison;
use flow::id::Digest;
use serde::Serialize;

use super::{Bounds, Combination, Found, Review, Use};
use crate::{Package, PackageError};

/// Two versions of a skill side by side.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Update {
    /// The version before.
    pub before: Side,
    /// The update.
    pub after: Side,
    /// Whether the update could do more.
    pub wider: bool,
    /// In one line.
    pub verdict: String,
    /// Of the manifests.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// Whether the code differs, manifests apart. Prompts and other data of a component are part of its code.
    pub code_differs: bool,
    /// Imports that only the update has.
    pub imports_added: Vec<String>,
    /// Imports that only the version before has.
    pub imports_removed: Vec<String>,
    /// Combinations that only the update has.
    pub combinations: Vec<Combination>,
}

/// One of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Side {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Of component and manifest.
    pub digest: Digest,
    /// Of the component without its manifest.
    pub code: Digest,
}

impl Update {
    /// Compares two packages, each with what its component imports.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn of(
        before: (&Package, &Found),
        after: (&Package, &Found),
        bounds: &Bounds<'_>,
    ) -> Result<Update, PackageError> {
        let comparison = Comparison::of(&before.0.manifest, &after.0.manifest);
        let (old, new) = (side(before.0)?, side(after.0)?);
        let review = |(package, found): (&Package, &Found)| {
            Review::of(package, found, bounds, Use::default())
        };
        let known: BTreeSet<&str> = review(before)?
            .combinations
            .into_iter()
            .map(|one| one.kind)
            .collect();
        let combinations = review(after)?.combinations;
        let only = |one: &Found, other: &Found| -> Vec<String> {
            all(one).difference(&all(other)).cloned().collect()
        };
        let mut update = Update {
            wider: comparison.is_wider(),
            verdict: String::new(),
            code_differs: old.code != new.code,
            imports_added: only(after.1, before.1),
            imports_removed: only(before.1, after.1),
            combinations: combinations
                .into_iter()
                .filter(|one| !known.contains(one.kind))
                .collect(),
            before: old,
            after: new,
            comparison,
        };
        update.verdict = update.sentence();
        Ok(update)
    }

    fn sentence(&self) -> String {
        let Comparison {
            widens,
            narrows,
            rewords,
            ..
        } = &self.comparison;
        let code = if self.code_differs {
            "other code"
        } else {
            "the same code"
        };
        let things = |count: usize| match count {
            1 => "1 thing".to_owned(),
            count => format!("{count} things"),
        };
        match (widens.len(), narrows.len(), rewords.len()) {
            (0, 0, 0) => format!("{code} under the same manifest"),
            (0, 0, _) => format!("{code} with the same rights, and other words"),
            (0, less, _) => format!(
                "{code} that asks for less in {}, and for nothing more",
                things(less)
            ),
            (more, 0, _) => format!("{code} that asks for more in {}", things(more)),
            (more, less, _) => format!(
                "{code} that asks for more in {} and for less in {}",
                things(more),
                things(less)
            ),
        }
    }
}

fn side(package: &Package) -> Result<Side, PackageError> {
    Ok(Side {
        name: package.manifest.name.to_string(),
        version: package.manifest.version.clone(),
        digest: package.digest.clone(),
        code: package.code_digest()?,
    })
}

fn all(found: &Found) -> BTreeSet<String> {
    found
        .host
        .iter()
        .chain(&found.base)
        .chain(&found.other)
        .cloned()
        .collect()
}
