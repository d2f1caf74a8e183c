//! The mirror: moat's own bare repository, which agents never see and nothing but this crate writes.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use flow::id::{CommitId, TreeId};
use git2::{ObjectType, Oid, Repository, RepositoryInitOptions};

use crate::drafts;
use crate::error::{Doing, StoreError};
use crate::harden::{self, Part};
use crate::names;
use crate::objects;
use crate::source::{Source, SourceError};
use crate::tree::{self, EntryKind};

/// The whole configuration of a mirror. Its bytes are compared at every opening.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\tlogAllRefUpdates = false\n";

/// No branch is ever checked out from a mirror.
const HEAD: &str = "ref: refs/heads/none\n";

/// What could make git read something else than we wrote. libgit2 and git need none of it in a mirror.
const FORBIDDEN: [&str; 13] = [
    "commondir",
    "config.worktree",
    "gitdir",
    "hooks",
    "index",
    "info",
    "modules",
    "objects/info/alternates",
    "objects/info/http-alternates",
    "packed-refs",
    "refs/replace",
    "shallow",
    "worktrees",
];

/// Held while objects are fetched, so that runs that start together fetch once.
const LOCK: &str = "moat.lock";

/// References to branch tips of which the mirror holds everything.
const COMPLETE: &str = "refs/moat/complete";

/// A handle to the mirror: its path, cheap to clone and to send between threads.
///
/// Every call opens the repository anew (some 50 microseconds) and checks that the mirror is as moat left it.
#[derive(Debug, Clone)]
pub struct Mirror {
    git_dir: Arc<Path>,
    /// While it is open, others leave the drafts of its objects alone.
    _open: Option<Arc<File>>,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path; bytes that are not UTF-8 and control characters are escaped.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of content; zero for directories and submodules.
    pub size: u64,
}

impl Mirror {
    /// Opens the mirror at `git_dir`, or makes one there.
    ///
    /// A new mirror gets its name only when it is whole, so a crash leaves either none or a good one.
    pub fn open_or_create(git_dir: &Path) -> Result<Self, StoreError> {
        if !git_dir.exists() {
            create(git_dir)?;
        }
        let git_dir = git_dir
            .canonicalize()
            .map_err(|e| StoreError::io("open", git_dir, e))?;
        let mirror = Self {
            _open: drafts::sweep(&git_dir)?.map(Arc::new),
            git_dir: git_dir.into(),
        };
        mirror.repository()?;
        Ok(mirror)
    }

    /// Where it is.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// Brings everything reachable from a branch of the user's repository into the mirror.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn fetch(&self, source: &Source, branch: &str) -> Result<CommitId, SourceError> {
        let tip = source.branch_tip(branch)?;
        self.fetch_commit(source, &tip)?;
        Ok(tip)
    }

    /// Brings everything reachable from a commit of the user's repository into the mirror.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn fetch_commit(&self, source: &Source, commit: &CommitId) -> Result<(), StoreError> {
        let tip = objects::oid(commit.as_str())?;
        let mirror = self.repository()?;
        let name = format!("{COMPLETE}/{tip}");
        if mirror.refname_to_id(&name).is_ok() {
            return self.unlock(&name);
        }
        let _lock = self.lock()?;
        let complete = self.complete(&mirror)?;
        for known in &complete {
            if mirror.find_commit(tip).is_ok() && objects::is_ancestor(&mirror, tip, *known)? {
                return Ok(());
            }
        }
        let from = harden::open(source.common_dir(), Part::Store).doing("open the repository")?;
        if complete.is_empty() {
            objects::link_packs(&source.common_dir().join("objects"), &self.objects_dir())?;
        }
        let written = objects::copy_reachable(&from, &mirror, tip, &complete)?;
        objects::flush(&self.objects_dir(), &written)?;
        tracing::debug!(%tip, objects = written.len(), "fetched into the mirror");
        self.point(&mirror, &name, tip)?;
        // What the new tip contains need not be remembered on its own.
        for old in complete {
            if objects::is_ancestor(&mirror, old, tip)? {
                self.forget(&mirror, &format!("{COMPLETE}/{old}"))?;
            }
        }
        Ok(())
    }

    /// The tree of a commit.
    pub fn tree_of(&self, commit: &CommitId) -> Result<TreeId, StoreError> {
        let repo = self.repository()?;
        objects::tree_id(objects::tree_of(&repo, objects::oid(commit.as_str())?)?)
    }

    /// The parents of a commit.
    pub fn parents_of(&self, commit: &CommitId) -> Result<Vec<CommitId>, StoreError> {
        let repo = self.repository()?;
        let commit = objects::find_commit(&repo, objects::oid(commit.as_str())?)?;
        commit.parent_ids().map(objects::commit_id).collect()
    }

    /// Whether the mirror holds a commit.
    pub fn has_commit(&self, commit: &CommitId) -> Result<bool, StoreError> {
        Ok(self
            .repository()?
            .find_commit(objects::oid(commit.as_str())?)
            .is_ok())
    }

    /// Whether the mirror holds a tree that can be read.
    pub(crate) fn has_tree(&self, tree: &TreeId) -> bool {
        let repo = self.repository();
        let found =
            |repo: Repository| Some(repo.find_tree(objects::oid(tree.as_str()).ok()?).is_ok());
        repo.ok().and_then(found).unwrap_or(false)
    }

    /// Whether `ancestor` is `commit` or one of its ancestors.
    pub fn is_ancestor(&self, ancestor: &CommitId, commit: &CommitId) -> Result<bool, StoreError> {
        let repo = self.repository()?;
        objects::is_ancestor(
            &repo,
            objects::oid(ancestor.as_str())?,
            objects::oid(commit.as_str())?,
        )
    }

    /// The content of a regular file, at most `bytes_max` of it; `None` when there is no regular file at the path.
    pub fn read(
        &self,
        tree: &TreeId,
        path: &str,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let repo = self.repository()?;
        let odb = repo.odb().doing("open the objects")?;
        match tree::find(&odb, objects::oid(tree.as_str())?, path)? {
            Some(item) if matches!(item.kind(), EntryKind::File { .. }) => {
                let blob = objects::read(&odb, item.id, ObjectType::Blob, "file")?;
                let data = blob.data();
                Ok(Some(data.get(..bytes_max).unwrap_or(data).to_vec()))
            }
            _ => Ok(None),
        }
    }

    /// What is at a path: its kind, and the id of its content, equal for equal content.
    pub fn entry(
        &self,
        tree: &TreeId,
        path: &str,
    ) -> Result<Option<(EntryKind, String)>, StoreError> {
        let repo = self.repository()?;
        let odb = repo.odb().doing("open the objects")?;
        let item = tree::find(&odb, objects::oid(tree.as_str())?, path)?;
        Ok(item.map(|i| (i.kind(), i.id.to_string())))
    }

    /// Every file, symlink and submodule of a tree, in git's order, without the directories.
    pub fn list(&self, tree: &TreeId) -> Result<Vec<Entry>, StoreError> {
        let repo = self.repository()?;
        let odb = repo.odb().doing("open the objects")?;
        let mut entries = Vec::new();
        tree::walk(&odb, objects::oid(tree.as_str())?, &mut |path, item| {
            let kind = item.kind();
            let size = match kind {
                EntryKind::Directory => return Ok(true),
                EntryKind::Submodule => 0,
                EntryKind::File { .. } | EntryKind::Symlink => {
                    odb.read_header(item.id).doing("read an object")?.0 as u64
                }
            };
            entries.push(Entry {
                path: names::escape(path),
                kind,
                size,
            });
            Ok(false)
        })?;
        Ok(entries)
    }

    /// Opens the repository for one call.
    pub(crate) fn repository(&self) -> Result<Repository, StoreError> {
        self.check()?;
        harden::open(&self.git_dir, Part::Store).doing("open the mirror")
    }

    pub(crate) fn objects_dir(&self) -> PathBuf {
        self.git_dir.join("objects")
    }

    fn complete(&self, mirror: &Repository) -> Result<Vec<Oid>, StoreError> {
        let references = mirror
            .references_glob(&format!("{COMPLETE}/*"))
            .doing("list what was fetched")?;
        Ok(references.filter_map(|r| r.ok()?.target()).collect())
    }

    /// Refuses a mirror whose settings are not what we wrote.
    fn check(&self) -> Result<(), StoreError> {
        let tampered = |what: &str| StoreError::Tampered {
            git_dir: self.git_dir.to_path_buf(),
            what: what.to_owned(),
        };
        for (name, wanted) in [("config", CONFIG), ("HEAD", HEAD)] {
            let path = self.git_dir.join(name);
            let is = path
                .symlink_metadata()
                .map_err(|e| StoreError::io("read", &path, e))?;
            let text = fs::read(&path).map_err(|e| StoreError::io("read", &path, e))?;
            if !is.is_file() || text != wanted.as_bytes() {
                return Err(tampered(name));
            }
        }
        for name in FORBIDDEN {
            match self.git_dir.join(name).symlink_metadata() {
                Ok(_) => return Err(tampered(name)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(StoreError::io("read", &self.git_dir.join(name), e)),
            }
        }
        Ok(())
    }

    /// Waits for the lock; the system frees it when the holder dies.
    fn lock(&self) -> Result<File, StoreError> {
        self.hold(LOCK)
    }

    pub(crate) fn hold(&self, lock: &str) -> Result<File, StoreError> {
        let path = self.git_dir.join(lock);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| StoreError::io("open", &path, e))?;
        locks::exclusive(&file).map_err(|e| StoreError::io("lock", &path, e))?;
        Ok(file)
    }
}

fn create(git_dir: &Path) -> Result<(), StoreError> {
    harden::harden().doing("prepare libgit2")?;
    let parent = git_dir
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(|e| StoreError::io("create", parent, e))?;
    let name = git_dir
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    // One process at a time: what is half-made now was left by one that died.
    let directory = File::open(parent).map_err(|e| StoreError::io("open", parent, e))?;
    locks::exclusive(&directory).map_err(|e| StoreError::io("lock", parent, e))?;
    if git_dir.exists() {
        return Ok(());
    }
    sweep(parent, &format!(".{name}.new-"));
    let stamp = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let aside = parent.join(format!(".{name}.new-{}-{stamp}", std::process::id()));
    DirBuilder::new()
        .mode(0o700)
        .create(&aside)
        .map_err(|e| StoreError::io("create", &aside, e))?;

    let mut options = RepositoryInitOptions::new();
    options
        .bare(true)
        .no_reinit(true)
        .external_template(false)
        .initial_head("refs/heads/none");
    Repository::init_opts(&aside, &options).doing("make the mirror")?;
    for directory in ["hooks", "info"] {
        let path = aside.join(directory);
        if let Err(e) = fs::remove_dir_all(&path)
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(StoreError::io("remove", &path, e));
        }
    }
    for (file, text) in [("config", CONFIG), ("HEAD", HEAD)] {
        let path = aside.join(file);
        fs::write(&path, text).map_err(|e| StoreError::io("write", &path, e))?;
    }
    match fs::rename(&aside, git_dir) {
        Ok(()) => Ok(()),
        // Somebody else was first; theirs is as good.
        Err(_) if git_dir.join("HEAD").exists() => {
            fs::remove_dir_all(&aside).map_err(|e| StoreError::io("remove", &aside, e))
        }
        Err(e) => Err(StoreError::io("create", git_dir, e)),
    }
}

/// Removes half-made mirrors of processes that died. Failing to is no reason to stop.
fn sweep(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry
            .file_name()
            .to_str()
            .is_some_and(|n| n.starts_with(prefix));
        if ours && let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "could not remove a half-made mirror");
        }
    }
}
