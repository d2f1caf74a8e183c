//! Moves a branch of the user's repository: forwards, by compare-and-swap, and with it the checkouts that are on it.
//!
//! ```text
//!   objects copied and flushed ─▶ noted ─▶ branch moved (CAS) ─▶ files of clean checkouts ─▶ their index ─▶ note removed
//! ```
//! A process killed at any arrow leaves a repository that git finds good; whoever publishes next, or looks whether a run can begin, finishes what
//! is left. Before the CAS nothing that the user sees has changed.

use std::fs::File;
use std::path::PathBuf;

use flow::id::CommitId;
use git2::{Oid, ReferenceType, Repository};

use super::branch::{self, Move};
use super::checkout::{self, Checkout, CheckoutOutcome, LeftReason};
use super::publication::{self, Publication};
use super::{PATHS_MAX, Source, SourceError, aside};
use crate::error::{Doing, StoreError};
use crate::harden::{self, Part};
use crate::mirror::Mirror;
use crate::objects;

/// What a publication did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Whether this call moved the branch; false when it was there already.
    pub moved: bool,
    /// Each checkout that is on the branch, and what became of it.
    pub checkouts: Vec<Checkout>,
}

/// Why a branch was not moved. Nothing that the user sees has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The branch is somewhere else by now.
    #[error("{branch} is at {actual} and not at {expected} any more")]
    Moved {
        /// The branch.
        branch: String,
        /// Where it should have been.
        expected: CommitId,
        /// Where it is.
        actual: CommitId,
    },
    /// The new commit does not contain the expected one.
    #[error("{new} does not follow from {expected}: a branch only moves forwards")]
    NotForwards {
        /// Where the branch is.
        expected: CommitId,
        /// Where it should go.
        new: CommitId,
    },
    /// A checkout of the branch cannot follow.
    #[error("{} is on {branch} and {reason}: {}", path.display(), paths.join(", "))]
    CheckoutDirty {
        /// The checkout.
        path: PathBuf,
        /// The branch.
        branch: String,
        /// What stands in the way.
        reason: LeftReason,
        /// The first of the paths concerned.
        paths: Vec<String>,
    },
    /// Somebody holds the branch's lock file.
    #[error("{} exists: another git process is moving {branch}, or died doing so; remove the file if none runs", lock.display())]
    Locked {
        /// The branch.
        branch: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// The branch is a name for another one.
    #[error("{branch} is a symbolic reference; name the branch that it stands for")]
    Symbolic {
        /// The branch.
        branch: String,
    },
    /// The repository cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Reading or writing objects failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Source {
    /// Moves a branch from `expected` to `new`, a commit of the mirror, and takes clean checkouts of it along.
    ///
    /// Safe to repeat: when the branch is at `new` already, only checkouts that still hold `expected` are brought up
    /// to date. Hooks and filters do not run; stashes, other branches and the configuration are not touched.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn publish(
        &self,
        mirror: &Mirror,
        branch: &str,
        expected: &CommitId,
        new: &CommitId,
    ) -> Result<Published, PublishError> {
        let _lock = self.lock()?;
        self.clear(branch)?;
        self.finish_noted()?;
        let actual = self.branch_tip(branch)?;
        let store = mirror.repository()?;
        let (from, to) = (
            objects::oid(expected.as_str())?,
            objects::oid(new.as_str())?,
        );
        if !objects::is_ancestor(&store, from, to)? {
            return Err(PublishError::NotForwards {
                expected: expected.clone(),
                new: new.clone(),
            });
        }
        let publication = Publication {
            branch: branch.to_owned(),
            from,
            to,
        };
        let moved = actual != *new;
        if moved {
            if actual != *expected {
                return Err(PublishError::Moved {
                    branch: branch.to_owned(),
                    expected: expected.clone(),
                    actual,
                });
            }
            self.check_checkouts(&store, branch, from, to)?;
            self.move_branch(&store, &publication)?;
        } else {
            publication.note(&self.common_dir)?;
        }
        let checkouts = self.take_along(&publication)?;
        Ok(Published { moved, checkouts })
    }

    /// Brings to its end what processes that died while they published have begun, and keeps all others from publishing for as long as what is
    /// returned is kept.
    ///
    /// # Errors
    /// [`SourceError`] when the repository cannot be read or written, or somebody who publishes stands still.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(super) fn finish(&self) -> Result<File, SourceError> {
        let lock = self.lock()?;
        self.finish_noted()?;
        Ok(lock)
    }

    fn finish_noted(&self) -> Result<(), SourceError> {
        for one in publication::noted(&self.common_dir)? {
            self.clear(&one.branch)?;
            let tip = match self.branch_tip(&one.branch) {
                Ok(tip) => Some(tip),
                Err(SourceError::NoBranch { .. } | SourceError::Empty { .. }) => None,
                Err(error) => return Err(error),
            };
            // Anywhere else it was not moved yet, or its owner has moved it since.
            if tip.is_none_or(|tip| tip.as_str() != one.to.to_string()) {
                publication::forget(&self.common_dir, &one.branch)?;
                continue;
            }
            for checkout in self.take_along(&one)? {
                tracing::warn!(path = %checkout.path.display(), outcome = ?checkout.outcome, "a checkout was left behind when its branch moved");
            }
        }
        Ok(())
    }

    /// Removes what processes that died have left of their own.
    fn clear(&self, branch: &str) -> Result<(), StoreError> {
        for checkout in checkout::on_branch(self, branch)? {
            checkout.clear()?;
        }
        branch::clear(&self.common_dir, &format!("refs/heads/{branch}"))
    }

    /// Brings the checkouts to where their branch is. Noted until then; also where one could not follow for a reason that passes.
    fn take_along(&self, publication: &Publication) -> Result<Vec<Checkout>, StoreError> {
        let found = checkout::on_branch(self, &publication.branch)?.into_iter();
        let (from, to) = (publication.from, publication.to);
        let checkouts: Vec<Checkout> = found.map(|checkout| checkout.update(from, to)).collect();
        let is_behind = |checkout: &Checkout| matches!(&checkout.outcome, CheckoutOutcome::Left { reason, .. } if reason.passes());
        if !checkouts.iter().any(is_behind) {
            publication::forget(&self.common_dir, &publication.branch)?;
        }
        Ok(checkouts)
    }

    /// Keeps publications of several processes apart, so that none takes another's half-updated checkout for work of
    /// its owner. The directory itself is the lock: nothing is left behind, and the system frees it when the holder
    /// dies. It does not keep git out; the compare-and-swap does.
    fn lock(&self) -> Result<File, StoreError> {
        let directory = File::open(&self.common_dir)
            .map_err(|e| StoreError::io("open", &self.common_dir, e))?;
        locks::exclusive(&directory).map_err(|e| StoreError::io("lock", &self.common_dir, e))?;
        Ok(directory)
    }

    fn check_checkouts(
        &self,
        store: &Repository,
        branch: &str,
        from: Oid,
        to: Oid,
    ) -> Result<(), PublishError> {
        for checkout in checkout::on_branch(self, branch)? {
            if let Some((reason, mut paths)) = checkout.obstacle(store, from, to)? {
                paths.truncate(PATHS_MAX);
                return Err(PublishError::CheckoutDirty {
                    path: checkout.path,
                    branch: branch.to_owned(),
                    reason,
                    paths,
                });
            }
        }
        Ok(())
    }

    fn move_branch(
        &self,
        store: &Repository,
        publication: &Publication,
    ) -> Result<(), PublishError> {
        let (branch, from, to) = (&publication.branch, publication.from, publication.to);
        let repo = harden::open(&self.common_dir, Part::Store).doing("open the repository")?;
        let name = format!("refs/heads/{branch}");
        let before = repo.find_reference(&name).doing("read the branch")?;
        if before.kind() == Some(ReferenceType::Symbolic) {
            return Err(PublishError::Symbolic {
                branch: branch.to_owned(),
            });
        }
        let written = objects::copy_reachable(store, &repo, to, &[from])?;
        objects::flush(&self.common_dir.join("objects"), &written)?;
        publication.note(&self.common_dir)?;
        match branch::advance(&repo, &self.common_dir, &name, from, to)? {
            Move::Done => {}
            Move::Locked => {
                return Err(PublishError::Locked {
                    branch: branch.clone(),
                    lock: aside::lock_of(&self.common_dir.join(&name)),
                });
            }
            Move::Changed => {
                let (expected, actual) = (objects::commit_id(from)?, self.branch_tip(branch)?);
                return Err(PublishError::Moved {
                    branch: branch.to_owned(),
                    expected,
                    actual,
                });
            }
        }
        // Through to the disk before a journal says that the branch has moved.
        Ok(objects::flush_file(&self.common_dir.join(&name))?)
    }
}
