//! Writes a tree as a plain directory: no `.git`, bytes as they are, through directory handles.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flow::id::TreeId;
use git2::{ObjectType, Odb, Oid};
use rustix::fs::{CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::error::{Doing, StoreError};
use crate::mirror::Mirror;
use crate::names::{self, NameFault};
use crate::objects;
use crate::tree::{self, Bounds, EntryKind, Item};

/// More writers than this wait for one another in the kernel's directory code.
const WRITERS_MAX: usize = 4;

/// Batches on their way to a writer; bounds open directory handles and memory.
const BATCHES_WAITING_MAX: usize = 16;

/// Files in one batch: enough to make the hand-over cheap, few enough to share a large directory.
const BATCH_FILES_MAX: usize = 64;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Materialised {
    /// Files and symlinks written.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Entries that `keep` left out; a directory counts once.
    pub hidden: u64,
    /// Entries that cannot be written safely.
    pub skipped: Vec<Skipped>,
}

/// An entry of the tree that was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path, escaped.
    pub path: String,
    /// Why.
    pub reason: SkippedReason,
}

/// Why an entry cannot be written into a worktree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SkippedReason {
    /// The name is dangerous.
    #[error("{0}")]
    Name(NameFault),
    /// A symlink that leads, or could lead, out of the worktree.
    #[error("the symlink leads out of the worktree")]
    SymlinkEscapes,
    /// A submodule.
    #[error("submodules are not checked out")]
    Submodule,
}

impl Mirror {
    /// Writes a tree into an empty directory, which is made when missing (its parent must exist).
    ///
    /// `keep` is asked for every path, directories first; what it refuses is left out, a directory with all below it.
    /// Nothing is synced to the disk: a worktree can always be written again. On an error the directory holds a part.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn materialise(
        &self,
        tree: &TreeId,
        directory: &Path,
        keep: &dyn Fn(&str, EntryKind) -> bool,
    ) -> Result<Materialised, StoreError> {
        let root = objects::oid(tree.as_str())?;
        let repo = self.repository()?;
        let odb = repo.odb().doing("open the objects")?;
        let handle = Arc::new(open_empty(directory)?);

        let count = thread::available_parallelism()
            .map_or(2, usize::from)
            .clamp(1, WRITERS_MAX);
        let (sender, receiver) = sync_channel(BATCHES_WAITING_MAX);
        let receiver = Arc::new(std::sync::Mutex::new(receiver));
        thread::scope(|scope| {
            let writers: Vec<_> = (0..count)
                .map(|_| {
                    let receiver = Arc::clone(&receiver);
                    scope.spawn(move || self.write_batches(&receiver))
                })
                .collect();
            // The writers alone hold the receiver now: when all have failed, sending fails too instead of waiting.
            drop(receiver);
            let mut plan = Plan {
                odb: &odb,
                keep,
                sender,
                done: Materialised::default(),
                bounds: Bounds::new(root),
            };
            let planned = plan.directory(root, &handle, &mut directory.to_path_buf(), "", 0);
            let Plan {
                sender, mut done, ..
            } = plan;
            drop(sender);
            let mut failed = None;
            for writer in writers {
                match writer.join() {
                    Ok(Ok((files, bytes))) => {
                        done.files += files;
                        done.bytes += bytes;
                    }
                    Ok(Err(error)) => failed = Some(error),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            match failed {
                // A writer's failure is the cause; the planner only notices that nobody listens.
                Some(error) => Err(error),
                None => planned.map(|()| done),
            }
        })
    }

    fn write_batches(
        &self,
        receiver: &std::sync::Mutex<Receiver<Batch>>,
    ) -> Result<(u64, u64), StoreError> {
        let repo = self.repository()?;
        let odb = repo.odb().doing("open the objects")?;
        let (mut files, mut bytes) = (0, 0);
        loop {
            let batch = match receiver.lock() {
                Ok(receiver) => receiver.recv(),
                Err(_) => break,
            };
            let Ok(batch) = batch else { break };
            for (name, id, executable) in &batch.files {
                let name: &OsStr = OsStrExt::from_bytes(name);
                let path = batch.path.join(name);
                bytes += write_file(&odb, &batch.directory, &path, *id, *executable)?;
                files += 1;
            }
        }
        Ok((files, bytes))
    }
}

/// Whether an entry may stand in a worktree. The import asks the same: what was not written was not deleted.
pub(crate) fn writable(
    odb: &Odb<'_>,
    item: &Item,
    depth: usize,
) -> Result<Option<SkippedReason>, StoreError> {
    if let Err(fault) = names::check_dangerous(&item.name) {
        return Ok(Some(SkippedReason::Name(fault)));
    }
    Ok(match item.kind() {
        EntryKind::Submodule => Some(SkippedReason::Submodule),
        EntryKind::Symlink => {
            let target = objects::read(odb, item.id, ObjectType::Blob, "symlink")?;
            (!names::link_is_contained(target.data(), depth))
                .then_some(SkippedReason::SymlinkEscapes)
        }
        EntryKind::File { .. } | EntryKind::Directory => None,
    })
}

/// Files of one directory, for one writer.
struct Batch {
    directory: Arc<OwnedFd>,
    path: PathBuf,
    files: Vec<(Vec<u8>, Oid, bool)>,
}

struct Plan<'a> {
    odb: &'a Odb<'a>,
    keep: &'a dyn Fn(&str, EntryKind) -> bool,
    sender: SyncSender<Batch>,
    done: Materialised,
    bounds: Bounds,
}

impl Plan<'_> {
    fn directory(
        &mut self,
        id: Oid,
        handle: &Arc<OwnedFd>,
        on_disk: &mut PathBuf,
        path: &str,
        depth: usize,
    ) -> Result<(), StoreError> {
        let items = tree::read(self.odb, id)?;
        self.bounds.enter(items.len(), depth)?;
        let mut files = Vec::new();
        for item in items {
            let name = match (
                writable(self.odb, &item, depth)?,
                std::str::from_utf8(&item.name),
            ) {
                (None, Ok(name)) => name,
                (reason, _) => {
                    let reason = reason.unwrap_or(SkippedReason::Name(NameFault::NotUtf8));
                    self.done.skipped.push(Skipped {
                        path: tree::join(path, &names::escape(&item.name)),
                        reason,
                    });
                    continue;
                }
            };
            let child = tree::join(path, name);
            if !(self.keep)(&child, item.kind()) {
                self.done.hidden += 1;
                continue;
            }
            match item.kind() {
                EntryKind::Directory => {
                    on_disk.push(name);
                    let failed = |e: Errno| StoreError::io("create", on_disk, e);
                    rustix::fs::mkdirat(handle, name, Mode::from_raw_mode(0o755))
                        .map_err(failed)?;
                    let inner = rustix::fs::openat(handle, name, DIRECTORY, Mode::empty())
                        .map_err(failed)?;
                    self.directory(item.id, &Arc::new(inner), on_disk, &child, depth + 1)?;
                    on_disk.pop();
                }
                EntryKind::Symlink => {
                    let target = objects::read(self.odb, item.id, ObjectType::Blob, "symlink")?;
                    rustix::fs::symlinkat(target.data(), handle, name)
                        .map_err(|e| StoreError::io("create", &on_disk.join(name), e))?;
                    self.done.files += 1;
                    self.done.bytes += target.len() as u64;
                }
                EntryKind::File { executable } => {
                    files.push((item.name, item.id, executable));
                    if files.len() == BATCH_FILES_MAX {
                        self.send(handle, on_disk, std::mem::take(&mut files));
                    }
                }
                EntryKind::Submodule => {}
            }
        }
        if !files.is_empty() {
            self.send(handle, on_disk, files);
        }
        Ok(())
    }

    fn send(&self, handle: &Arc<OwnedFd>, path: &Path, files: Vec<(Vec<u8>, Oid, bool)>) {
        // Nobody listens only after every writer has failed, and then their errors are what counts.
        let _ = self.sender.send(Batch {
            directory: Arc::clone(handle),
            path: path.to_path_buf(),
            files,
        });
    }
}

/// Writes a new file; `path` ends with its name.
pub(crate) fn write_file(
    odb: &Odb<'_>,
    directory: &OwnedFd,
    path: &Path,
    id: Oid,
    executable: bool,
) -> Result<u64, StoreError> {
    let failed = |e: std::io::Error| StoreError::io("write", path, e);
    let name = path.file_name().unwrap_or_default();
    let blob = objects::read(odb, id, ObjectType::Blob, "file")?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
    let file = rustix::fs::openat(directory, name, flags, mode).map_err(|e| failed(e.into()))?;
    File::from(file).write_all(blob.data()).map_err(failed)?;
    Ok(blob.len() as u64)
}

fn open_empty(directory: &Path) -> Result<OwnedFd, StoreError> {
    let failed = |e: Errno| StoreError::io("open", directory, e);
    match rustix::fs::mkdirat(CWD, directory, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(StoreError::io("create", directory, e)),
    }
    let handle = rustix::fs::openat(CWD, directory, DIRECTORY, Mode::empty()).map_err(failed)?;
    let mut buffer = Vec::with_capacity(4096);
    let mut entries = RawDir::new(&handle, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        if !matches!(entry.map_err(failed)?.file_name().to_bytes(), b"." | b"..") {
            return Err(StoreError::NotEmpty {
                path: directory.to_path_buf(),
            });
        }
    }
    Ok(handle)
}
