//! What can be wrong with the user's repository, and what to do about it.

use std::path::PathBuf;

use flow::id::CommitId;

use crate::error::StoreError;

/// Why the user's repository cannot be used, or not now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no repository at the path.
    #[error("{} is no git repository: name the top directory of a checkout (the one that holds .git), or a bare repository", path.display())]
    NotARepository {
        /// The path that was named.
        path: PathBuf,
    },
    /// Its configuration names a working tree somewhere else.
    #[error("the repository at {} says that its files are in {} (core.worktree): name that directory, or unset core.worktree", path.display(), elsewhere.display())]
    WorktreeElsewhere {
        /// The path that was named.
        path: PathBuf,
        /// Where it says its files are.
        elsewhere: PathBuf,
    },
    /// Another user owns it.
    #[error("{} belongs to another user: run moat as its owner, or change the owner", path.display())]
    ForeignOwner {
        /// The path that was named.
        path: PathBuf,
    },
    /// Its objects have SHA-256 names.
    #[error("{} uses the object format {format}, and moat reads sha1 only so far", path.display())]
    ObjectFormat {
        /// The path that was named.
        path: PathBuf,
        /// The format.
        format: String,
    },
    /// It uses something that libgit2 does not know.
    #[error("{} uses the git extension {extension}, which moat cannot read: work on a plain clone of it", path.display())]
    Extension {
        /// The path that was named.
        path: PathBuf,
        /// The key below `extensions` in its configuration.
        extension: String,
    },
    /// It holds only the newest part of its history.
    #[error("{} is a shallow clone: run `git fetch --unshallow` there first", path.display())]
    Shallow {
        /// The path that was named.
        path: PathBuf,
    },
    /// It has no commit.
    #[error("{} has no commit on {branch} yet: commit something first", path.display())]
    Empty {
        /// The path that was named.
        path: PathBuf,
        /// The branch that HEAD names.
        branch: String,
    },
    /// HEAD is not on a branch.
    #[error("{} is on no branch (detached HEAD at {commit}): check out a branch, or name one", path.display())]
    Detached {
        /// The path that was named.
        path: PathBuf,
        /// Where HEAD is.
        commit: CommitId,
    },
    /// The branch does not exist.
    #[error("{} has no branch {branch:?}", path.display())]
    NoBranch {
        /// The path that was named.
        path: PathBuf,
        /// The branch that was asked for.
        branch: String,
    },
    /// moat moved the branch, and the checkout could not follow yet.
    #[error(
        "{} is behind {branch}, which moat moved, and could not follow: another git process has locked its index, or died doing so, or the disk is full; try again, and remove index.lock from its git directory if no git runs",
        path.display()
    )]
    Behind {
        /// The path that was named.
        path: PathBuf,
        /// The branch.
        branch: String,
    },
    /// Tracked files differ from the branch.
    #[error("{} has uncommitted changes in {}: commit or stash them first", path.display(), paths.join(", "))]
    Dirty {
        /// The checkout.
        path: PathBuf,
        /// The first of the paths that differ.
        paths: Vec<String>,
    },
    /// The tree has submodules.
    #[error("the branch has submodules ({}), which moat does not check out: work without them, or vendor their files", paths.join(", "))]
    Submodules {
        /// The first of them.
        paths: Vec<String>,
    },
    /// The tree has files that are larger than moat would copy for every step.
    #[error("the branch has files of more than {} MiB ({}), and every step has a worktree of its own: keep them with git-lfs, or out of the branch", bytes_max >> 20, paths.join(", "))]
    LargeFiles {
        /// The first of them.
        paths: Vec<String>,
        /// What a file may have.
        bytes_max: usize,
    },
    /// Reading failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
