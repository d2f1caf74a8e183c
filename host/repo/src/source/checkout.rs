//! The user's checkouts of a branch: whether they are clean, and how they follow the branch when it moves.
//!
//! A file is replaced only when it is, at that moment, the version that the branch had before (or, after a crash, the
//! new one already). Each replacement is one rename, so a kill leaves every file whole.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;

use git2::{ErrorCode, Index, Odb, Oid, Repository, RepositoryState};

use super::aside::{self, Lock};
use super::files::{self, Replacement};
use super::{Source, git_dir_of, staged, unstaged};
use crate::error::{Doing, StoreError};
use crate::harden::{self, Part};
use crate::kept::{LOCKED_TRIES, LOCKED_WAIT};
use crate::names;
use crate::objects;
use crate::tree::{self, Difference};

/// A checkout that is on a published branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// Its directory.
    pub path: PathBuf,
    /// What became of it.
    pub outcome: CheckoutOutcome,
}

/// What became of a checkout when its branch moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckoutOutcome {
    /// Its files and index are at the new commit now.
    Updated {
        /// How many files were written or removed.
        files: u64,
    },
    /// Its index is at the new commit already.
    Current,
    /// It was left as it is, because its owner works in it.
    Left {
        /// Why.
        reason: LeftReason,
        /// The paths concerned.
        paths: Vec<String>,
    },
}

/// Why a checkout does not follow its branch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeftReason {
    /// Changes are staged.
    #[error("its index has changes that are not committed")]
    Staged,
    /// Tracked files are changed.
    #[error("its files have changes that are not committed")]
    Changed,
    /// An untracked file is where a new one would go.
    #[error("it has untracked files where new ones would go")]
    InTheWay,
    /// A merge, rebase or the like is going on.
    #[error("a merge, rebase, bisect or the like is under way there")]
    Busy,
    /// Another git process works on it, or died doing so.
    #[error("its index is locked (index.lock)")]
    Locked,
    /// The repository's configuration sends its files to another place.
    #[error("its configuration (core.worktree) names another directory")]
    Elsewhere,
    /// Writing failed.
    #[error("it could not be brought up to date ({0})")]
    Failed(String),
}

impl LeftReason {
    /// Whether it may be otherwise a moment later, without its owner's doing anything about it.
    pub fn passes(&self) -> bool {
        matches!(self, LeftReason::Locked | LeftReason::Failed(_))
    }
}

/// What the new index is called while it is made.
const INDEX_ASIDE: &str = "index";

type Obstacle = (LeftReason, Vec<String>);

/// One checkout, by its directory and git dir.
pub(super) struct Found {
    pub(super) path: PathBuf,
    git_dir: PathBuf,
    /// Known before looking any closer.
    obstacle: Option<LeftReason>,
}

/// The checkouts whose HEAD is on a branch, or which are rebasing or bisecting it.
pub(super) fn on_branch(source: &Source, branch: &str) -> Result<Vec<Found>, StoreError> {
    let common = source.common_dir();
    let mut found = Vec::new();
    let main = harden::open(common, Part::Checkout).doing("open the repository")?;
    if let Some(path) = main.workdir() {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let expected =
            source.worktree() == Some(path.as_path()) || common.parent() == Some(path.as_path());
        if let Some(obstacle) = holds(&main, common, branch)? {
            let obstacle = if expected {
                obstacle
            } else {
                Some(LeftReason::Elsewhere)
            };
            found.push(Found {
                path,
                git_dir: common.to_path_buf(),
                obstacle,
            });
        }
    }
    let linked = match fs::read_dir(common.join("worktrees")) {
        Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
        Err(_) => Vec::new(),
    };
    for git_dir in linked {
        // A checkout that is gone, moved or half made is none; git says so too.
        let text = fs::read_to_string(git_dir.join("gitdir")).unwrap_or_default();
        let Some(path) = git_dir
            .join(text.trim())
            .parent()
            .and_then(|p| p.canonicalize().ok())
        else {
            continue;
        };
        if text.trim().is_empty() || git_dir_of(&path) != git_dir.canonicalize().ok() {
            continue;
        }
        let Ok(repo) = harden::open(&git_dir, Part::Checkout) else {
            tracing::warn!(git_dir = %git_dir.display(), "this linked checkout cannot be opened and is left out");
            continue;
        };
        if let Some(obstacle) = holds(&repo, &git_dir, branch)? {
            found.push(Found {
                path,
                git_dir,
                obstacle,
            });
        }
    }
    Ok(found)
}

/// Whether a checkout holds a branch, and if so whether something is under way with it.
fn holds(
    repo: &Repository,
    git_dir: &Path,
    branch: &str,
) -> Result<Option<Option<LeftReason>>, StoreError> {
    let reference = format!("refs/heads/{branch}");
    for (file, wanted) in [
        ("rebase-merge/head-name", reference.as_str()),
        ("rebase-apply/head-name", &reference),
        ("BISECT_START", branch),
    ] {
        if fs::read_to_string(git_dir.join(file)).is_ok_and(|text| text.trim() == wanted) {
            return Ok(Some(Some(LeftReason::Busy)));
        }
    }
    match repo.find_reference("HEAD") {
        Ok(head) if head.symbolic_target().doing("read HEAD")? == Some(reference.as_str()) => Ok(
            Some((repo.state() != RepositoryState::Clean).then_some(LeftReason::Busy)),
        ),
        Ok(_) => Ok(None),
        Err(e) if e.code() == ErrorCode::NotFound => Ok(None),
        Err(source) => Err(StoreError::Git {
            doing: "read HEAD",
            source,
        }),
    }
}

impl Found {
    /// Removes what a process that died while it brought the checkout up to date has left.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        aside::clear(&self.git_dir, files::ASIDE, None)?;
        aside::clear(
            &self.git_dir,
            INDEX_ASIDE,
            Some(&self.git_dir.join("index")),
        )
    }

    /// What keeps this checkout from going from one commit to another; `store` holds both commits.
    pub(super) fn obstacle(
        &self,
        store: &Repository,
        from: Oid,
        to: Oid,
    ) -> Result<Option<Obstacle>, StoreError> {
        let repo = match self.open()? {
            Ok(repo) => repo,
            Err(reason) => return Ok(Some((reason, Vec::new()))),
        };
        let base = repo
            .find_tree(objects::tree_of(&repo, from)?)
            .doing("read a tree")?;
        let paths = staged(&repo, Some(&base))?;
        if !paths.is_empty() {
            return Ok(Some((LeftReason::Staged, paths)));
        }
        let paths = unstaged(&repo)?;
        if !paths.is_empty() {
            return Ok(Some((LeftReason::Changed, paths)));
        }
        let odb = store.odb().doing("open the objects")?;
        let changes = tree::differences(&odb, base.id(), objects::tree_of(store, to)?)?;
        self.in_the_way(&odb, &changes)
    }

    /// Brings the checkout from one commit to another, if it still is at the first.
    pub(super) fn update(self, from: Oid, to: Oid) -> Checkout {
        let outcome = self
            .try_update(from, to)
            .unwrap_or_else(|error| CheckoutOutcome::Left {
                reason: LeftReason::Failed(error.to_string()),
                paths: Vec::new(),
            });
        Checkout {
            path: self.path,
            outcome,
        }
    }

    fn try_update(&self, from: Oid, to: Oid) -> Result<CheckoutOutcome, StoreError> {
        let left = |reason, paths| Ok(CheckoutOutcome::Left { reason, paths });
        let repo = match self.open()? {
            Ok(repo) => repo,
            Err(reason) => return left(reason, Vec::new()),
        };
        let old = repo
            .find_tree(objects::tree_of(&repo, from)?)
            .doing("read a tree")?;
        let new = repo
            .find_tree(objects::tree_of(&repo, to)?)
            .doing("read a tree")?;
        if staged(&repo, Some(&new))?.is_empty() {
            return Ok(CheckoutOutcome::Current);
        }
        let paths = staged(&repo, Some(&old))?;
        if !paths.is_empty() {
            return left(LeftReason::Staged, paths);
        }
        let odb = repo.odb().doing("open the objects")?;
        let changes = tree::differences(&odb, old.id(), new.id())?;
        // What differs from the index may only be what an earlier call has written already.
        let known: HashSet<String> = changes.iter().map(|c| names::escape(&c.path)).collect();
        let others: Vec<String> = unstaged(&repo)?
            .into_iter()
            .filter(|path| !known.contains(path))
            .collect();
        if !others.is_empty() {
            return left(LeftReason::Changed, others);
        }
        if let Some((reason, paths)) = self.in_the_way(&odb, &changes)? {
            return left(reason, paths);
        }
        let files = self.write(&odb, &changes)?;
        Ok(CheckoutOutcome::Updated { files })
    }

    /// Opens the checkout unless something is under way there.
    fn open(&self) -> Result<Result<Repository, LeftReason>, StoreError> {
        if let Some(reason) = &self.obstacle {
            return Ok(Err(reason.clone()));
        }
        // A look at its status takes it for a moment, and what watches files looks often.
        let is_locked = || self.git_dir.join("index.lock").symlink_metadata().is_ok();
        let mut tries = 0;
        while is_locked() {
            if tries == LOCKED_TRIES {
                return Ok(Err(LeftReason::Locked));
            }
            thread::sleep(LOCKED_WAIT);
            tries += 1;
        }
        Ok(Ok(
            harden::open(&self.git_dir, Part::Checkout).doing("open a checkout")?
        ))
    }

    /// Paths at which the checkout has neither the old version nor the new one.
    fn in_the_way(
        &self,
        odb: &Odb<'_>,
        changes: &[Difference],
    ) -> Result<Option<Obstacle>, StoreError> {
        let removed: HashSet<&[u8]> = changes
            .iter()
            .filter(|c| c.old.is_some())
            .map(|c| c.path.as_slice())
            .collect();
        let (mut changed, mut blocked) = (Vec::new(), Vec::new());
        for change in changes {
            match files::replacement(&self.path, odb, change, &removed)? {
                Replacement::Changed => changed.push(names::escape(&change.path)),
                Replacement::Blocked => blocked.push(names::escape(&change.path)),
                Replacement::Done | Replacement::Write(_) | Replacement::Remove => {}
            }
        }
        if !changed.is_empty() {
            return Ok(Some((LeftReason::Changed, changed)));
        }
        Ok((!blocked.is_empty()).then_some((LeftReason::InTheWay, blocked)))
    }

    /// Removals first, so that a directory can take the place of a file and the other way round; the index last.
    fn write(&self, odb: &Odb<'_>, changes: &[Difference]) -> Result<u64, StoreError> {
        let removed: HashSet<&[u8]> = changes
            .iter()
            .filter(|c| c.old.is_some())
            .map(|c| c.path.as_slice())
            .collect();
        let mut count = 0;
        for removing in [true, false] {
            for change in changes.iter().filter(|c| c.new.is_none() == removing) {
                let path = self.path.join(std::ffi::OsStr::from_bytes(&change.path));
                let moved = || {
                    StoreError::io(
                        "replace",
                        &path,
                        std::io::Error::other("it was changed just now"),
                    )
                };
                match files::replacement(&self.path, odb, change, &removed)? {
                    Replacement::Done => continue,
                    Replacement::Write(content) => {
                        files::write(&self.path, &self.git_dir, change, &content)?
                    }
                    Replacement::Remove => files::remove(&self.path, &change.path)?,
                    Replacement::Changed | Replacement::Blocked => return Err(moved()),
                }
                count += 1;
            }
        }
        self.write_index(changes)?;
        Ok(count)
    }

    /// Under git's lock, as git does it; made aside, so that a lock that is left over is known.
    fn write_index(&self, changes: &[Difference]) -> Result<(), StoreError> {
        let target = self.git_dir.join("index");
        let read = || match fs::read(&target) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(|e| StoreError::io("read", &target, e)),
        };
        let before = read()?;
        let draft = aside::path(&self.git_dir, INDEX_ASIDE);
        if !before.is_empty() {
            fs::write(&draft, &before).map_err(|e| StoreError::io("write", &draft, e))?;
        }
        let mut index = Index::open(&draft).doing("read the index")?;
        for change in changes.iter().filter(|c| c.new.is_none()) {
            let path = Path::new(std::ffi::OsStr::from_bytes(&change.path));
            index.remove(path, 0).doing("update the index")?;
        }
        for change in changes {
            self.record(&mut index, change)?;
        }
        index.write().doing("write the index")?;
        let changed = |why: &str| StoreError::io("write", &target, std::io::Error::other(why));
        let lock = Lock::take(draft, &target)?
            .ok_or_else(|| changed("another git process has locked it"))?;
        if read()? != before {
            return Err(changed("it was changed just now"));
        }
        lock.commit()
    }

    fn record(&self, index: &mut Index, change: &Difference) -> Result<(), StoreError> {
        let Some(new) = &change.new else {
            return Ok(());
        };
        let entry = files::index_entry(&self.path, &change.path, new)?;
        index.add(&entry).doing("update the index")
    }
}
