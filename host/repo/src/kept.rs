//! References in the mirror that keep a run's trees and commits, under `refs/moat/runs/<run>/<name>`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::time::Duration;

use flow::id::{CommitId, RunId, TreeId};
use git2::{ErrorCode, Oid, Repository};

use crate::error::{Doing, StoreError};
use crate::mirror::Mirror;
use crate::objects;

const RUNS: &str = "refs/moat/runs";

/// Held while a reference is written.
const REFERENCES_LOCK: &str = "moat-references.lock";

/// Another process writes the same file of a git dir for milliseconds at most.
pub(crate) const LOCKED_TRIES: u32 = 50;
pub(crate) const LOCKED_WAIT: Duration = Duration::from_millis(10);

/// What a reference keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// A candidate.
    Tree(TreeId),
    /// A commit.
    Commit(CommitId),
}

impl From<TreeId> for Kept {
    fn from(id: TreeId) -> Self {
        Self::Tree(id)
    }
}

impl From<CommitId> for Kept {
    fn from(id: CommitId) -> Self {
        Self::Commit(id)
    }
}

impl Mirror {
    /// Keeps a tree or commit of a run under a name; a name can be given anew.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn keep(&self, run: &RunId, name: &str, what: impl Into<Kept>) -> Result<(), StoreError> {
        let repo = self.repository()?;
        let reference = reference(run, name)?;
        let id = match what.into() {
            Kept::Tree(tree) => {
                let id = objects::oid(tree.as_str())?;
                repo.find_tree(id)
                    .map_err(|_| StoreError::Missing {
                        kind: "tree",
                        id: tree.to_string(),
                    })?
                    .id()
            }
            Kept::Commit(commit) => {
                objects::find_commit(&repo, objects::oid(commit.as_str())?)?.id()
            }
        };
        self.point(&repo, &reference, id)
    }

    /// Makes a reference, or points it somewhere else, and writes it through to the disk.
    pub(crate) fn point(&self, repo: &Repository, name: &str, id: Oid) -> Result<(), StoreError> {
        let _alone = self.unlocked(name)?;
        let written = repo.reference(name, id, true, "");
        written.map(drop).doing("keep an object")?;
        objects::flush_file(&self.git_dir().join(name))
    }

    /// Removes a reference.
    pub(crate) fn forget(&self, repo: &Repository, name: &str) -> Result<(), StoreError> {
        let _alone = self.unlocked(name)?;
        let found = repo.find_reference(name);
        let mut reference = found.doing("let go of an object")?;
        reference.delete().doing("let go of an object")
    }

    /// Takes away the lock of a reference that was written by one who then died.
    pub(crate) fn unlock(&self, name: &str) -> Result<(), StoreError> {
        match self
            .git_dir()
            .join(format!("{name}.lock"))
            .symlink_metadata()
        {
            Ok(_) => self.unlocked(name).map(drop),
            Err(_) => Ok(()),
        }
    }

    /// Nobody but us writes references in a mirror, one process at a time: a lock of git that is there now was left by one that died.
    fn unlocked(&self, name: &str) -> Result<File, StoreError> {
        let alone = self.hold(REFERENCES_LOCK)?;
        let lock = self.git_dir().join(format!("{name}.lock"));
        match fs::remove_file(&lock) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", &lock, e)),
            _ => Ok(alone),
        }
    }

    /// The commit that a run keeps under a name, if it keeps one there.
    pub fn kept_commit(&self, run: &RunId, name: &str) -> Result<Option<CommitId>, StoreError> {
        let repo = self.repository()?;
        let found = repo.find_reference(&reference(run, name)?);
        match found.map(|reference| reference.target()) {
            Ok(Some(id)) => Ok(Some(objects::commit_id(
                objects::find_commit(&repo, id)?.id(),
            )?)),
            Ok(None) => Ok(None),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(source) => Err(StoreError::Git {
                doing: "read a kept object",
                source,
            }),
        }
    }

    /// Moves what a run keeps under a name from one commit to another, if it is still at the first: of two who move it at once, one wins.
    ///
    /// Gives where it is now: `to` when it was moved or was there already.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn advance(
        &self,
        run: &RunId,
        name: &str,
        from: &CommitId,
        to: &CommitId,
    ) -> Result<CommitId, StoreError> {
        let repo = self.repository()?;
        let reference = reference(run, name)?;
        let (old, new) = (objects::oid(from.as_str())?, objects::oid(to.as_str())?);
        let new = objects::find_commit(&repo, new)?.id();
        let _alone = self.unlocked(&reference)?;
        let moved = repo.reference_matching(&reference, new, true, old, "");
        match moved.map(drop) {
            Ok(()) => {
                objects::flush_file(&self.git_dir().join(&reference))?;
                Ok(to.clone())
            }
            Err(error) if error.code() == ErrorCode::Modified => {
                let actual = self.kept_commit(run, name)?;
                actual.ok_or_else(|| StoreError::Missing {
                    kind: "commit kept as",
                    id: name.to_owned(),
                })
            }
            Err(source) => Err(StoreError::Git {
                doing: "move a kept object",
                source,
            }),
        }
    }

    /// What a run keeps, by name, in the order of names.
    pub fn kept(&self, run: &RunId) -> Result<Vec<(String, Kept)>, StoreError> {
        let repo = self.repository()?;
        let mut kept = Vec::new();
        for (name, id) in references(&repo, run)? {
            let what = if repo.find_commit(id).is_ok() {
                Kept::Commit(objects::commit_id(id)?)
            } else {
                Kept::Tree(objects::tree_id(id)?)
            };
            kept.push((name, what));
        }
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(kept)
    }

    /// Lets go of everything that a run keeps.
    pub fn release(&self, run: &RunId) -> Result<(), StoreError> {
        let repo = self.repository()?;
        for (name, _) in references(&repo, run)? {
            self.forget(&repo, &format!("{RUNS}/{run}/{name}"))?;
        }
        Ok(())
    }
}

fn reference(run: &RunId, name: &str) -> Result<String, StoreError> {
    let valid = !name.is_empty()
        && name.len() <= 64
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !valid {
        return Err(StoreError::KeptName {
            name: name.chars().take(80).collect(),
        });
    }
    Ok(format!("{RUNS}/{run}/{name}"))
}

fn references(repo: &Repository, run: &RunId) -> Result<Vec<(String, Oid)>, StoreError> {
    let prefix = format!("{RUNS}/{run}/");
    let mut found = Vec::new();
    for reference in repo
        .references_glob(&format!("{prefix}*"))
        .doing("list kept objects")?
    {
        let reference = reference.doing("list kept objects")?;
        if let (Ok(name), Some(id)) = (reference.name(), reference.target())
            && let Some(name) = name.strip_prefix(&prefix)
        {
            found.push((name.to_owned(), id));
        }
    }
    Ok(found)
}
