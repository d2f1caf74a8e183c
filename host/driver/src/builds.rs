//! What was built of bases: the outputs that the project's own test command leaves on a base lie beneath those of every agent that begins from
//! it, so that its first build is an incremental one (where views are copies, of what the sources do not decide: files of a copy are newer). So
//! does, beneath the worktree as commands see it, what `[project] installed` names of what it wrote there: `node_modules`, virtual environments.
//!
//! ```text
//!   builds/<tree>-<key>/build           as it was left; see `repo::Shelf`
//!   builds/<tree>-<key>/installed/<n>   with the nth of the directories that are named, at its path in the worktree
//! ```
//!
//! They come from the protected branch's own code alone, as whole runs of that command left them, without a network. Gates and baselines never
//! see them: what decides is built from nothing.

use std::path::{Path, PathBuf};

use capability::{Grant, RelPath};
use confine::Toolchains;
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
    /// Of a tree, as far as a grant shows it: who sees less of it is not to find in outputs what the files do not show. And of the tools: what
    /// they installed may be of no use to others.
    pub(crate) fn of(
        repository: &str,
        tree: &TreeId,
        grant: &Grant,
        project: &Project,
        tools: &Toolchains,
    ) -> BuildKey {
        let part = view::part(grant, |part| part.name.to_owned());
        let installed: Vec<&str> = project.installed.iter().map(RelPath::as_str).collect();
        let what = serde_json::json!([
            RULE,
            repository,
            part,
            project.env,
            installed,
            tools.state()
        ]);
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
    ///
    /// `installed` are the directories that are named; `found` says which of them are to be kept of what was written into the view.
    pub(crate) fn keep(
        &self,
        key: &BuildKey,
        scratch: &Scratch,
        installed: &[PathBuf],
        found: impl FnOnce(&Path) -> Result<Vec<PathBuf>, StoreError>,
        keep: Keep,
    ) {
        if !scratch.is_pure() || self.find(key).is_some() {
            return;
        }
        let (build, aside) = (scratch.build(), scratch.aside());
        let is_empty = std::fs::read_dir(&build).map_or(true, |mut all| all.next().is_none());
        let found = match aside.is_dir() {
            true => found(&aside).unwrap_or_else(|error| {
                tracing::warn!(%error, "what was installed in the base is not kept");
                vec![]
            }),
            false => vec![],
        };
        if is_empty && found.is_empty() {
            return;
        }
        let kept = self.0.put(&key.0, |directory| {
            let failed = |error| StoreError::io("keep", directory, error);
            let mut bytes = confine::weigh(&build).map_err(failed)?;
            std::fs::rename(&build, directory.join("build")).map_err(failed)?;
            for (number, path) in installed.iter().enumerate() {
                if found.contains(path) {
                    bytes += take(&aside, path, &directory.join(format!("installed/{number}")));
                }
            }
            Ok(bytes)
        });
        match kept {
            Ok(Some(())) => self.sweep(keep),
            // Another makes it.
            Ok(None) => {}
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

/// The outputs among what was kept.
pub(crate) fn outputs(kept: &Lease) -> PathBuf {
    kept.directory().join("build")
}

/// Where the nth of the directories that are named is among what was kept, if it is: the root that holds it at its path.
pub(crate) fn installed(kept: &Lease, number: usize) -> Option<PathBuf> {
    let root = kept.directory().join(format!("installed/{number}"));
    root.is_dir().then_some(root)
}

/// Moves a directory that was installed to its path below another root, and says how many bytes it is. One that cannot be moved, because a tool
/// left it without permissions, is left out.
fn take(aside: &Path, path: &Path, root: &Path) -> u64 {
    let (from, to) = (aside.join(path), root.join(path));
    let moved = || {
        let bytes = confine::weigh(&from)?;
        std::fs::create_dir_all(to.parent().unwrap_or(root))?;
        std::fs::rename(&from, &to)?;
        Ok::<u64, std::io::Error>(bytes)
    };
    moved().unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "what was installed in the base is not kept");
        let _ = std::fs::remove_dir_all(root);
        0
    })
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

    fn nothing(_: &Path) -> Result<Vec<PathBuf>, StoreError> {
        Ok(vec![])
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
        builds.keep(&key(), &scratch, &[], nothing, KEEP);
        assert!(builds.find(&key()).is_none());
        scratch.hold_pure();
        builds.keep(&key(), &scratch, &[], nothing, KEEP);
        let kept = builds.find(&key()).unwrap();
        assert!(kept.directory().join("build/out").exists());
    }

    #[test]
    fn what_is_kept_stays_as_the_first_left_it_and_goes_when_it_is_too_much() {
        let directory = tempfile::tempdir().unwrap();
        let builds = Builds::at(&directory.path().join("builds"));
        builds.keep(&key(), &built(directory.path()), &[], nothing, KEEP);
        let second = built(directory.path());
        std::fs::write(second.build().join("out"), "another").unwrap();
        builds.keep(&key(), &second, &[], nothing, KEEP);
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

    /// One that cannot be moved is no reason to lose the others.
    #[test]
    fn what_was_installed_is_kept_each_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let builds = Builds::at(&directory.path().join("builds"));
        let scratch = built(directory.path());
        let paths = ["gone", "web/node_modules", "absent"].map(PathBuf::from);
        std::fs::create_dir_all(scratch.aside().join("web/node_modules/a")).unwrap();
        let found = |_: &Path| Ok(paths[..2].to_vec());
        builds.keep(&key(), &scratch, &paths, found, KEEP);
        let kept = builds.find(&key()).unwrap();
        assert!(outputs(&kept).join("out").exists());
        assert_eq!(installed(&kept, 0), None);
        assert!(
            installed(&kept, 1)
                .unwrap()
                .join("web/node_modules/a")
                .is_dir()
        );
        assert_eq!(installed(&kept, 2), None);
    }
}
