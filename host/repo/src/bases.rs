//! Base directories: what runs see of a tree is written out once for the whole machine, and shared by all their worktrees.
//!
//! ```text
//!   bases/<tree>-<part>/tree    the files; never changed
//!   bases/<tree>-<part>/whole   written last: in which boot, and how much it is
//!   bases/<tree>-<part>.lock    shared by whoever uses it, exclusive for who makes or removes it; its time is the last use
//! ```
//!
//! The kernel lets go of a lock when its holder dies, so neither a crash nor `kill -9` leaves one. Nothing of a base is written through to
//! the disk: one of an earlier boot may be hollow after a power cut, and is made anew.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flow::id::TreeId;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::StoreError;
use crate::materialise::Materialised;
use crate::mirror::Mirror;
use crate::tree::EntryKind;

/// Which part of a tree is written out.
pub struct Part<'a> {
    /// Names what `keep` does, the same for the same answers: lower-case letters, digits and `-`, at most 100.
    pub name: &'a str,
    /// Asked for every path, directories first; what it refuses is left out, a directory with all below it.
    pub keep: &'a dyn Fn(&str, EntryKind) -> bool,
}

impl Part<'_> {
    /// All of it.
    pub const ALL: Part<'static> = Part {
        name: "all",
        keep: &|_, _| true,
    };
}

/// How long one who could not make a base looks away before it asks again, so that all who ask do not hold each other up.
const TURN: Duration = Duration::from_millis(1);

/// The base directories of one machine.
#[derive(Debug, Clone)]
pub struct Bases {
    root: PathBuf,
}

/// A base directory in use: as long as this lives, nobody removes it.
#[derive(Debug)]
pub struct Base {
    tree: PathBuf,
    _lease: File,
}

/// How much stays of bases that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// One that was last used longer ago goes.
    pub idle_max: Duration,
    /// Beyond this many bytes in all, those in use included, the ones longest not used go.
    pub bytes_max: u64,
}

/// What a clean-up came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Bases removed.
    pub removed: u64,
    /// Bytes in their files.
    pub bytes: u64,
    /// Bases that stay.
    pub left: u64,
}

/// The last line of a base, as it is read back.
struct Whole {
    bytes: u64,
}

impl Bases {
    /// The bases in a directory, which is made when the first one is.
    pub fn at(root: &Path) -> Bases {
        Bases {
            root: root.to_path_buf(),
        }
    }

    /// Where they are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The base of a part of a tree; written out now, if it is not there.
    ///
    /// Who asks while another process writes it waits for that.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of it is taken for whole then.
    #[tracing::instrument(name = "base", level = "debug", skip_all)]
    pub fn lease(
        &self,
        mirror: &Mirror,
        tree: &TreeId,
        part: &Part<'_>,
    ) -> Result<Base, StoreError> {
        let name = part.key(tree)?;
        self.prepare()?;
        let directory = self.root.join(&name);
        let lock = self.root.join(format!("{name}.lock"));
        loop {
            let Some(file) = locked(&lock, FlockOperation::LockShared)? else {
                continue;
            };
            if whole(&directory)?.is_some() {
                // The time of its last use. That it cannot be noted is no reason to stop: it may go the sooner.
                let _ = file.set_modified(SystemTime::now());
                return Ok(Base {
                    tree: directory.join("tree"),
                    _lease: file,
                });
            }
            drop(file);
            // Never waited for: whoever made it meanwhile uses it now, for as long as a run lasts.
            let Some(_held) = locked(&lock, FlockOperation::NonBlockingLockExclusive)? else {
                std::thread::sleep(TURN);
                continue;
            };
            if whole(&directory)?.is_none() {
                make(mirror, tree, part, &directory)?;
            }
            // Once more from the beginning: between the two locks it could be gone again.
        }
    }

    /// Removes bases that nobody uses and that are too many. One in use stays, whatever its age.
    ///
    /// # Errors
    /// [`StoreError`] at the first that cannot be removed.
    pub fn sweep(&self, keep: Keep) -> Result<Swept, StoreError> {
        let mut found = self.found()?;
        found.sort_by_key(|one| one.used);
        let mut total: u64 = found.iter().map(|one| one.bytes).sum();
        let mut swept = Swept::default();
        for one in found {
            let idle = one.used.elapsed().unwrap_or_default();
            let goes = idle > keep.idle_max || total > keep.bytes_max || one.bytes == 0;
            if goes && self.remove(&one.name)? {
                total -= one.bytes;
                swept.removed += 1;
                swept.bytes += one.bytes;
            } else {
                swept.left += 1;
            }
        }
        Ok(swept)
    }

    fn found(&self) -> Result<Vec<Found>, StoreError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(StoreError::io("list", &self.root, e)),
        };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(|n| n.strip_suffix(".lock")) else {
                continue;
            };
            let Ok(used) = entry.metadata().and_then(|data| data.modified()) else {
                continue;
            };
            let bytes = whole(&self.root.join(name))?.map_or(0, |whole| whole.bytes.max(1));
            found.push(Found {
                name: name.to_owned(),
                used,
                bytes,
            });
        }
        Ok(found)
    }

    /// Removes one; not, when somebody uses it.
    fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let lock = self.root.join(format!("{name}.lock"));
        let Some(_held) = locked(&lock, FlockOperation::NonBlockingLockExclusive)? else {
            return Ok(false);
        };
        remove_all(&self.root.join(name))?;
        // Last: whoever waits for this very file sees that it has gone, and makes another.
        fs::remove_file(&lock).map_err(|e| StoreError::io("remove", &lock, e))?;
        Ok(true)
    }

    fn prepare(&self) -> Result<(), StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(|e| StoreError::io("create", &self.root, e))
    }
}

struct Found {
    name: String,
    used: SystemTime,
    bytes: u64,
}

impl Part<'_> {
    fn key(&self, tree: &TreeId) -> Result<String, StoreError> {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.name.is_empty() || self.name.len() > 100 || !self.name.bytes().all(valid) {
            return Err(StoreError::PartName {
                name: self.name.chars().take(80).collect(),
            });
        }
        Ok(format!("{tree}-{}", self.name))
    }
}

impl Base {
    /// The directory that holds its files. It must not be changed.
    pub fn path(&self) -> &Path {
        &self.tree
    }
}

/// Opens and locks a file. None, when it was removed meanwhile, or somebody else holds it and nobody is to wait.
fn locked(path: &Path, operation: FlockOperation) -> Result<Option<File>, StoreError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|e| StoreError::io("open", path, e))?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(StoreError::io("lock", path, e)),
        }
    }
    let held = file
        .metadata()
        .map_err(|e| StoreError::io("lock", path, e))?;
    let is_there = path
        .metadata()
        .is_ok_and(|now| (now.dev(), now.ino()) == (held.dev(), held.ino()));
    Ok(is_there.then_some(file))
}

/// Writes a base out; what an earlier attempt or an earlier boot left is removed first.
fn make(
    mirror: &Mirror,
    tree: &TreeId,
    part: &Part<'_>,
    directory: &Path,
) -> Result<(), StoreError> {
    remove_all(directory)?;
    DirBuilder::new()
        .mode(0o755)
        .create(directory)
        .map_err(|e| StoreError::io("create", directory, e))?;
    let written = mirror.materialise(tree, &directory.join("tree"), part.keep)?;
    warn(&written);
    let text = format!("{}\n{}\n", boot()?, written.bytes);
    let path = directory.join("whole");
    fs::write(&path, text).map_err(|e| StoreError::io("write", &path, e))
}

pub(crate) fn warn(written: &Materialised) {
    for skipped in &written.skipped {
        tracing::warn!(path = skipped.path, reason = %skipped.reason, "left out of the worktree");
    }
}

/// Whether a base is there as it was written, in this boot.
fn whole(directory: &Path) -> Result<Option<Whole>, StoreError> {
    let path = directory.join("whole");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("read", &path, e)),
    };
    let mut lines = text.lines();
    let is_of_this_boot = lines.next() == Some(boot()?.as_str());
    let bytes = lines.next().and_then(|line| line.parse().ok());
    Ok(bytes
        .filter(|_| is_of_this_boot && text.ends_with('\n'))
        .map(|bytes| Whole { bytes }))
}

/// The kernel's name for the time since it was started.
fn boot() -> Result<String, StoreError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(|e| StoreError::io("read", path, e))?;
    Ok(text.trim().to_owned())
}

fn remove_all(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path, e)),
        _ => Ok(()),
    }
}
