//! The user's own repository: found where the user says, read, and written only by `publish`, or by who finishes what one of those left half done.

mod aside;
mod branch;
mod checkout;
mod error;
mod files;
mod line_ends;
mod publication;
mod publish;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use flow::id::CommitId;
use git2::{Config, DiffOptions, ErrorCode, ObjectType, Reference, Repository};

pub use checkout::{Checkout, CheckoutOutcome, LeftReason};
pub use error::SourceError;
pub use publish::{PublishError, Published};

use crate::error::{Doing, StoreError};
use crate::harden::{self, Part};
use crate::names;
use crate::objects;
use crate::tree::{self, EntryKind};

/// A list of paths in an error or report is cut here.
const PATHS_MAX: usize = 100;

/// A larger file is copied for every step and held in memory for every copy: a run would crawl, and say nothing of why.
const FILE_BYTES_MAX: usize = 256 << 20;

/// A pointer of git-lfs is shorter than this and begins so.
const LFS_BYTES_MAX: usize = 1024;
const LFS_BEGIN: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Where HEAD of a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// On a branch with commits.
    Branch {
        /// Its name, without `refs/heads/`.
        name: String,
        /// Its newest commit.
        tip: CommitId,
    },
    /// On no branch.
    Detached {
        /// The commit.
        commit: CommitId,
    },
    /// On a branch without a commit.
    Unborn {
        /// Its name.
        name: String,
    },
}

/// A branch that a run can start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Its newest commit.
    pub tip: CommitId,
    /// The first of the files that are only pointers into git-lfs: a worktree holds the pointer, not the content.
    pub lfs_pointers: Vec<String>,
}

/// The user's repository.
///
/// Opened by path, never by search; each call opens it anew, so that what it says is so now.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the user named it, made absolute.
    path: PathBuf,
    git_dir: PathBuf,
    common_dir: PathBuf,
    worktree: Option<PathBuf>,
}

impl Source {
    /// Opens the repository at exactly this path: the top of a checkout (main or linked), or a bare repository.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let not_one = || SourceError::NotARepository {
            path: path.to_path_buf(),
        };
        let path = path
            .canonicalize()
            .ok()
            .filter(|p| p.is_dir())
            .ok_or_else(not_one)?;
        let (git_dir, worktree) = match path.join(".git").symlink_metadata() {
            Ok(_) => (git_dir_of(&path).ok_or_else(not_one)?, Some(path.clone())),
            // Someone named the `.git` directory itself.
            Err(_) if path.file_name().is_some_and(|n| n == ".git") => match path.parent() {
                Some(parent) => return Self::open(parent),
                None => return Err(not_one()),
            },
            Err(_) => (path.clone(), None),
        };
        let common_dir = common_dir_of(&git_dir);
        check_format(&path, &common_dir)?;
        let part = if worktree.is_some() {
            Part::Checkout
        } else {
            Part::Store
        };
        let repo = harden::open(&git_dir, part).map_err(|source| match source.code() {
            ErrorCode::NotFound => not_one(),
            ErrorCode::Owner => SourceError::ForeignOwner { path: path.clone() },
            _ => StoreError::Git {
                doing: "open the repository",
                source,
            }
            .into(),
        })?;
        // A `.git` that says it is bare has no files, whatever stands next to it.
        let said = repo
            .workdir()
            .map(|w| w.canonicalize().unwrap_or_else(|_| w.to_path_buf()));
        let worktree = worktree.filter(|_| said.is_some());
        if let (Some(worktree), Some(elsewhere)) = (&worktree, said)
            && *worktree != elsewhere
        {
            return Err(SourceError::WorktreeElsewhere { path, elsewhere });
        }
        if repo.is_shallow() {
            return Err(SourceError::Shallow { path });
        }
        Ok(Self {
            path,
            git_dir,
            common_dir,
            worktree,
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its git dir; that of a linked worktree is below the main one's.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The git dir that holds objects and branches.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// The checkout it was opened at; none for a bare repository.
    pub fn worktree(&self) -> Option<&Path> {
        self.worktree.as_deref()
    }

    /// Where HEAD is.
    pub fn head(&self) -> Result<Head, SourceError> {
        let repo = self.store()?;
        let head = repo.find_reference("HEAD").doing("read HEAD")?;
        match head.symbolic_target().doing("read HEAD")? {
            Some(target) => {
                let name = target
                    .strip_prefix("refs/heads/")
                    .unwrap_or(target)
                    .to_owned();
                match commit_at(&repo, target)? {
                    Some(tip) => Ok(Head::Branch { name, tip }),
                    None => Ok(Head::Unborn { name }),
                }
            }
            None => {
                let commit = head.peel_to_commit().doing("read HEAD")?.id();
                Ok(Head::Detached {
                    commit: objects::commit_id(commit)?,
                })
            }
        }
    }

    /// The branch that HEAD is on and that has a commit.
    pub fn current_branch(&self) -> Result<String, SourceError> {
        match self.head()? {
            Head::Branch { name, .. } => Ok(name),
            Head::Detached { commit } => Err(SourceError::Detached {
                path: self.path.clone(),
                commit,
            }),
            Head::Unborn { name } => Err(SourceError::Empty {
                path: self.path.clone(),
                branch: name,
            }),
        }
    }

    /// The newest commit of a branch.
    pub fn branch_tip(&self, branch: &str) -> Result<CommitId, SourceError> {
        let no_branch = || SourceError::NoBranch {
            path: self.path.clone(),
            branch: branch.to_owned(),
        };
        let name = branch_reference(branch).ok_or_else(no_branch)?;
        if let Some(tip) = commit_at(&self.store()?, &name)? {
            return Ok(tip);
        }
        match self.head()? {
            Head::Unborn { name } if name == branch => Err(SourceError::Empty {
                path: self.path.clone(),
                branch: name,
            }),
            _ => Err(no_branch()),
        }
    }

    /// Whether a branch holds a commit: the question after a crash.
    pub fn branch_contains(&self, branch: &str, commit: &CommitId) -> Result<bool, SourceError> {
        let tip = self.branch_tip(branch)?;
        self.is_ancestor(commit, &tip)
    }

    /// Whether `ancestor` is `commit` or one of its ancestors; false when the repository does not hold both.
    pub fn is_ancestor(&self, ancestor: &CommitId, commit: &CommitId) -> Result<bool, SourceError> {
        let repo = self.store()?;
        let (ancestor, commit) = (
            objects::oid(ancestor.as_str())?,
            objects::oid(commit.as_str())?,
        );
        if repo.find_commit(ancestor).is_err() || repo.find_commit(commit).is_err() {
            return Ok(false);
        }
        Ok(objects::is_ancestor(&repo, ancestor, commit)?)
    }

    /// Tracked paths of this checkout that differ between HEAD, index and files; untracked files do not count.
    pub fn dirty(&self) -> Result<Vec<String>, SourceError> {
        let Some(worktree) = &self.worktree else {
            return Ok(Vec::new());
        };
        let repo = harden::open(&self.git_dir, Part::Checkout).doing("open the repository")?;
        let head = match repo.head() {
            Ok(head) => Some(head.peel_to_tree().doing("read HEAD")?),
            Err(e) if matches!(e.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => None,
            Err(source) => {
                return Err(StoreError::Git {
                    doing: "read HEAD",
                    source,
                }
                .into());
            }
        };
        tracing::trace!(worktree = %worktree.display(), "comparing the checkout with HEAD");
        let mut paths = staged(&repo, head.as_ref())?;
        paths.extend(unstaged(&repo)?);
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    /// Checks all that stands in the way of a run from a branch. Where the checkout is not clean, a move of the branch that is under way is waited
    /// for, and brought to its end if the process died that had begun it.
    pub fn inspect(&self, branch: &str) -> Result<Inspection, SourceError> {
        let mut tip = self.branch_tip(branch)?;
        if matches!(self.head()?, Head::Branch { name, .. } if name == branch)
            && !self.dirty()?.is_empty()
        {
            let _lock = self.finish()?;
            tip = self.branch_tip(branch)?;
            let mut paths = self.dirty()?;
            let noted = publication::noted(&self.common_dir)?;
            if !paths.is_empty() && noted.iter().any(|one| one.branch == branch) {
                return Err(SourceError::Behind {
                    path: self.path.clone(),
                    branch: branch.to_owned(),
                });
            }
            if !paths.is_empty() {
                paths.truncate(PATHS_MAX);
                return Err(SourceError::Dirty {
                    path: self.path.clone(),
                    paths,
                });
            }
        }
        let found = self.oddities(&tip)?;
        if !found.submodules.is_empty() {
            return Err(SourceError::Submodules {
                paths: found.submodules,
            });
        }
        if !found.large.is_empty() {
            return Err(SourceError::LargeFiles {
                paths: found.large,
                bytes_max: FILE_BYTES_MAX,
            });
        }
        Ok(Inspection {
            tip,
            lfs_pointers: found.lfs_pointers,
        })
    }

    /// Looks through a commit's tree; nothing is read but sizes, attributes and what may be a pointer.
    fn oddities(&self, commit: &CommitId) -> Result<Oddities, SourceError> {
        let repo = self.store()?;
        let odb = repo.odb().doing("open the objects")?;
        let root = objects::tree_of(&repo, objects::oid(commit.as_str())?)?;
        let (mut found, mut attributes, mut files) = (Oddities::default(), false, Vec::new());
        tree::walk(&odb, root, &mut |path, item| {
            match item.kind() {
                EntryKind::Directory => return Ok(true),
                EntryKind::Submodule if found.submodules.len() < PATHS_MAX => {
                    found.submodules.push(names::escape(path))
                }
                EntryKind::File { .. } if item.name == b".gitattributes" => {
                    let blob = objects::read(&odb, item.id, ObjectType::Blob, "file")?;
                    attributes |= blob.data().windows(10).any(|w| w == b"filter=lfs");
                }
                EntryKind::File { .. } => files.push((path.to_vec(), item.id)),
                _ => {}
            }
            Ok(false)
        })?;
        for (path, id) in files {
            let size = odb.read_header(id).doing("read an object")?.0;
            if size > FILE_BYTES_MAX && found.large.len() < PATHS_MAX {
                found.large.push(names::escape(&path));
            }
            if attributes && size < LFS_BYTES_MAX && found.lfs_pointers.len() < PATHS_MAX {
                let blob = objects::read(&odb, id, ObjectType::Blob, "file")?;
                if blob.data().starts_with(LFS_BEGIN) {
                    found.lfs_pointers.push(names::escape(&path));
                }
            }
        }
        Ok(found)
    }

    /// Opens objects and references for one call.
    fn store(&self) -> Result<Repository, StoreError> {
        harden::open(&self.git_dir, Part::Store).doing("open the repository")
    }
}

/// What of a tree moat cannot work with, or a person should know of: at most 100 paths of each.
#[derive(Default)]
struct Oddities {
    submodules: Vec<String>,
    lfs_pointers: Vec<String>,
    large: Vec<String>,
}

/// Paths that differ between a tree and the index.
fn staged(repo: &Repository, tree: Option<&git2::Tree<'_>>) -> Result<Vec<String>, StoreError> {
    let index = repo.index().doing("read the index")?;
    let diff = repo
        .diff_tree_to_index(tree, Some(&index), Some(&mut options()))
        .doing("compare the index")?;
    Ok(paths(&diff))
}

/// Tracked paths whose file differs from the index.
fn unstaged(repo: &Repository) -> Result<Vec<String>, StoreError> {
    let index = repo.index().doing("read the index")?;
    let diff = repo
        .diff_index_to_workdir(Some(&index), Some(&mut options()))
        .doing("compare the files")?;
    Ok(paths(&diff))
}

fn options() -> DiffOptions {
    let mut options = DiffOptions::new();
    options
        .include_untracked(false)
        .include_ignored(false)
        .ignore_submodules(true)
        .include_typechange(true)
        .update_index(false);
    options
}

fn paths(diff: &git2::Diff<'_>) -> Vec<String> {
    let path = |d: git2::DiffDelta<'_>| {
        d.new_file()
            .path_bytes()
            .or(d.old_file().path_bytes())
            .map(names::escape)
    };
    diff.deltas().filter_map(path).collect()
}

/// The full name of a branch, if it can be one. A leading `-` or a branch named `HEAD` mislead people and programs.
fn branch_reference(branch: &str) -> Option<String> {
    let name = format!("refs/heads/{branch}");
    (!branch.starts_with('-') && branch != "HEAD" && Reference::is_valid_name(&name))
        .then_some(name)
}

/// The commit at a reference; none when there is no such reference.
fn commit_at(repo: &Repository, name: &str) -> Result<Option<CommitId>, StoreError> {
    match repo.find_reference(name) {
        Ok(reference) => Ok(Some(objects::commit_id(
            reference.peel_to_commit().doing("read a branch")?.id(),
        )?)),
        Err(e) if e.code() == ErrorCode::NotFound => Ok(None),
        Err(source) => Err(StoreError::Git {
            doing: "read a branch",
            source,
        }),
    }
}

/// The git dir of a checkout: its `.git` directory, or where its `.git` file points. One step, not a search.
fn git_dir_of(worktree: &Path) -> Option<PathBuf> {
    let dot_git = worktree.join(".git");
    let git_dir = if dot_git.metadata().ok()?.is_dir() {
        dot_git
    } else {
        let text = fs::read_to_string(&dot_git).ok()?;
        worktree.join(text.strip_prefix("gitdir:")?.trim())
    };
    git_dir.canonicalize().ok().filter(|d| d.is_dir())
}

fn common_dir_of(git_dir: &Path) -> PathBuf {
    let text = fs::read_to_string(git_dir.join("commondir")).unwrap_or_default();
    let common = if text.trim().is_empty() {
        git_dir.to_path_buf()
    } else {
        git_dir.join(text.trim())
    };
    common.canonicalize().unwrap_or(common)
}

/// Tells what libgit2 would only call an unsupported extension.
fn check_format(path: &Path, common_dir: &Path) -> Result<(), SourceError> {
    let file = common_dir.join("config");
    match file.metadata() {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(StoreError::io("read", &file, e).into()),
    }
    let config = Config::open(&file).doing("read the repository's configuration")?;
    let mut entries = config
        .entries(Some("extensions.*"))
        .doing("read the repository's configuration")?;
    while let Some(entry) = entries.next() {
        let entry = entry.doing("read the repository's configuration")?;
        let name = entry
            .name()
            .unwrap_or_default()
            .trim_start_matches("extensions.")
            .to_ascii_lowercase();
        let value = entry.value().unwrap_or_default().to_ascii_lowercase();
        match name.as_str() {
            "objectformat" if value != "sha1" => {
                return Err(SourceError::ObjectFormat {
                    path: path.to_path_buf(),
                    format: value,
                });
            }
            "objectformat" | "noop" | "preciousobjects" | "worktreeconfig"
            | "relativeworktrees" => {}
            _ => {
                return Err(SourceError::Extension {
                    path: path.to_path_buf(),
                    extension: format!("{name} = {value}"),
                });
            }
        }
    }
    Ok(())
}
