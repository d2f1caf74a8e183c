//! What can go wrong in moat's own store of git objects.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the mirror: the machine, the store itself, or an id that it does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// libgit2 refused.
    #[error("git: could not {doing}: {}", source.message())]
    Git {
        /// What was being done.
        doing: &'static str,
        /// libgit2's words.
        source: git2::Error,
    },
    /// The operating system refused.
    #[error("could not {doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which path, escaped.
        path: String,
        /// The system's words.
        source: io::Error,
    },
    /// The mirror is not as moat left it.
    #[error(
        "the mirror {} was changed from outside ({what}): move it away; moat makes a new one from the repository",
        git_dir.display()
    )]
    Tampered {
        /// The mirror.
        git_dir: PathBuf,
        /// Which part differs.
        what: String,
    },
    /// A pack or an index is not as git wrote it.
    #[error("{} is damaged ({why}): `git fsck` in the repository shows what is lost", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An object is not in the store.
    #[error("the store does not hold {kind} {id}")]
    Missing {
        /// What it should be.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// A tree object breaks git's own rules.
    #[error("tree {id} is broken: {why}; `git fsck` in the repository shows where it comes from")]
    BrokenTree {
        /// Its id.
        id: String,
        /// The rule.
        why: &'static str,
    },
    /// A tree is deeper or larger than anything that is a project.
    #[error("tree {id} has more than {max} {what}")]
    TreeTooLarge {
        /// Its id.
        id: String,
        /// Levels or entries.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The directory to write into holds something.
    #[error("{} is not empty: a worktree is written only into an empty directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A name for a part of a tree that is no name.
    #[error(
        "{name:?} cannot name a part of a tree: lower-case letters, digits and `-`, at most 100"
    )]
    PartName {
        /// The name.
        name: String,
    },
    /// A name for a kept object that is no name.
    #[error("{name:?} cannot name a kept object: lower-case letters, digits and `-`, at most 64")]
    KeptName {
        /// The name.
        name: String,
    },
}

impl StoreError {
    /// That the operating system refused: `doing` what, to which path.
    pub fn io(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let path = crate::names::escape(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
        Self::Io {
            doing,
            path,
            source: source.into(),
        }
    }
}

/// Says what libgit2 was asked for when it refused.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, git2::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Git { doing, source })
    }
}
