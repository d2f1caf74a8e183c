//! What was built of bases: the outputs that the project's own test command leaves on a base lie beneath those of every agent that begins from
//! it, so that its first build is an incremental one.
//!
//! ```text
//!   builds/<tree>-<key>/build   as it was left; see `repo::Shelf`
//! ```
//!
//! They come from the protected branch's own code alone. Gates never see them: what decides is built from nothing.

use std::path::Path;

use capability::Grant;
use flow::id::{Digest, TreeId};
use project::Project;
use repo::{Keep, Lease, Shelf, StoreError};

use crate::scratch::Scratch;
use crate::view;

/// Whose builds are alike: another moat may run commands otherwise.
const RULE: &str = env!("CARGO_PKG_VERSION");

/// The builds of one machine.
#[derive(Debug)]
pub(crate) struct Builds(Shelf);

/// Which build it is.
pub(crate) struct BuildKey(String);

impl BuildKey {
    /// Of a tree, as far as a grant shows it: who sees less of it is not to find in outputs what the files do not show.
    pub(crate) fn of(
        repository: &str,
        tree: &TreeId,
        grant: &Grant,
        project: &Project,
    ) -> BuildKey {
        let part = view::part(grant, |part| part.name.to_owned());
        let what = serde_json::json!([RULE, repository, part, project.env]);
        let digest = Digest::of(what.to_string().as_bytes());
        BuildKey(format!("{tree}-{}", digest.as_str().replace(':', "-")))
    }
}

impl Builds {
    pub(crate) fn at(root: &Path) -> Builds {
        Builds(Shelf::at(root, confine::remove_tree))
    }

    /// What was built before. Without it everything is built anew, so that what is wrong with it is no reason to stop.
    pub(crate) fn find(&self, key: &BuildKey) -> Option<Lease> {
        self.0.find(&key.0).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was built before cannot be used");
            None
        })
    }

    /// Takes what was built in a view that is not used any more; not, where it may be anything but the project's own commands' work, is there
    /// already, or is being used by its first users now.
    pub(crate) fn keep(&self, key: &BuildKey, scratch: &Scratch) {
        let build = scratch.build();
        let is_empty = std::fs::read_dir(&build).map_or(true, |mut all| all.next().is_none());
        if is_empty || !scratch.is_pure() || self.find(key).is_some() {
            return;
        }
        let kept = self.0.put(&key.0, |directory| {
            let failed = |error| StoreError::io("keep", directory, error);
            let bytes = confine::weigh(&build).map_err(failed)?;
            std::fs::rename(&build, directory.join("build")).map_err(failed)?;
            Ok(bytes)
        });
        match kept {
            Ok(kept) => tracing::debug!(kept = kept.is_some(), "what was built of the base"),
            Err(error) => tracing::warn!(%error, "what was built of the base is not kept"),
        }
    }

    /// Removes what is not worth its place; nothing that is in use.
    pub(crate) fn sweep(&self, keep: Keep) {
        if let Err(error) = self.0.sweep(keep) {
            tracing::warn!(%error, "builds that nobody uses are left");
        }
    }
}
