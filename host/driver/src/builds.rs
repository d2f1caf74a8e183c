//! What was built of bases: the outputs that the project's own test command leaves on a base lie beneath those of every agent that begins from
//! it, so that its first build is an incremental one (where views are copies, of what the sources do not decide: files of a copy are newer).
//!
//! ```text
//!   builds/<tree>-<key>/build   as it was left; see `repo::Shelf`
//! ```
//!
//! They come from the protected branch's own code alone, as whole runs of that command left them, without a network. Gates and baselines never
//! see them: what decides is built from nothing.

use std::path::Path;

use capability::Grant;
use flow::id::{Digest, TreeId};
use project::Project;
use repo::{Keep, Lease, Shelf, StoreError};

use crate::scratch::Scratch;
use crate::view;

/// The command whose outputs are kept, as the project names it.
pub(crate) const COMMAND: &str = "test";

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
    /// already, or is being made by another. Then what is too much goes.
    pub(crate) fn keep(&self, key: &BuildKey, scratch: &Scratch, keep: Keep) {
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
            Ok(kept) => {
                tracing::debug!(kept = kept.is_some(), "what was built of the base");
                self.sweep(keep);
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use std::time::Duration;

    use super::*;

    const KEEP: Keep = Keep {
        idle_max: Duration::from_secs(60),
        bytes_max: 1 << 20,
    };

    fn built(directory: &Path) -> Scratch {
        let scratch = Scratch::at(&directory.join("scratch"));
        std::fs::create_dir_all(scratch.build()).unwrap();
        std::fs::write(scratch.build().join("out"), "built").unwrap();
        scratch
    }

    fn key() -> BuildKey {
        BuildKey("a-b".into())
    }

    #[test]
    fn what_may_be_a_skills_choice_or_half_a_run_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let builds = Builds::at(&directory.path().join("builds"));
        let scratch = built(directory.path());
        scratch.mix();
        builds.keep(&key(), &scratch, KEEP);
        assert!(builds.find(&key()).is_none());
        scratch.hold_pure();
        builds.keep(&key(), &scratch, KEEP);
        let kept = builds.find(&key()).unwrap();
        assert!(kept.directory().join("build/out").exists());
    }

    #[test]
    fn what_is_kept_stays_as_the_first_left_it_and_goes_when_it_is_too_much() {
        let directory = tempfile::tempdir().unwrap();
        let builds = Builds::at(&directory.path().join("builds"));
        builds.keep(&key(), &built(directory.path()), KEEP);
        let second = built(directory.path());
        std::fs::write(second.build().join("out"), "another").unwrap();
        builds.keep(&key(), &second, KEEP);
        let kept = builds.find(&key()).unwrap();
        let out = std::fs::read_to_string(kept.directory().join("build/out"));
        assert_eq!(out.unwrap(), "built");
        let nothing = Keep {
            bytes_max: 0,
            ..KEEP
        };
        builds.sweep(nothing);
        assert!(builds.find(&key()).is_some(), "it is in use");
        drop(kept);
        builds.sweep(nothing);
        assert!(builds.find(&key()).is_none());
    }
}
