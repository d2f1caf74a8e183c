//! Directories that are made once for the whole machine, by name, and shared by all who use them.
//!
//! ```text
//!   <name>/…        what was made; never changed
//!   <name>/whole    written last: in which boot, and how much it is
//!   <name>.lock     shared by whoever uses it, exclusive for who makes or removes it; its time is the last use
//! ```
//!
//! The kernel lets go of a lock when its holder dies, so neither a crash nor `kill -9` leaves one. Nothing is written through to the disk:
//! what is of an earlier boot may be hollow after a power cut, and is made anew.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::error::StoreError;

/// How long one who could not make something looks away before it asks again, so that all who ask do not hold each other up.
const TURN: Duration = Duration::from_millis(1);

/// A directory of such directories.
#[derive(Debug, Clone)]
pub struct Shelf {
    root: PathBuf,
    remove: fn(&Path) -> io::Result<()>,
}

/// One of them in use: as long as this lives, nobody removes it.
#[derive(Debug)]
pub struct Lease {
    directory: PathBuf,
    lock: File,
}

/// How much stays of what nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// What was last used longer ago goes.
    pub idle_max: Duration,
    /// Beyond this many bytes in all, those in use included, what was longest not used goes.
    pub bytes_max: u64,
}

/// What a clean-up came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Directories removed.
    pub removed: u64,
    /// Bytes in their files.
    pub bytes: u64,
    /// Directories that stay.
    pub left: u64,
}

pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) used: SystemTime,
}

impl Shelf {
    /// In a directory, which is made when the first thing is. `remove` takes away one of them with all below it, or what a killed maker left of
    /// it; nothing there is as good.
    pub fn at(root: &Path, remove: fn(&Path) -> io::Result<()>) -> Shelf {
        Shelf {
            root: root.to_path_buf(),
            remove,
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What has a name; `make` makes it now, in an empty directory, if it is not there, and tells how many bytes it is.
    ///
    /// Who asks while another process makes it waits for that.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of it is taken for whole then.
    pub fn lease(
        &self,
        name: &str,
        mut make: impl FnMut(&Path) -> Result<u64, StoreError>,
    ) -> Result<Lease, StoreError> {
        self.prepare()?;
        loop {
            if let Some(lease) = self.shared(name)? {
                return Ok(lease);
            }
            // Never waited for: whoever made it meanwhile uses it now, for as long as a run lasts.
            match self.put(name, &mut make)? {
                // Once more from the beginning: between the two locks it could be gone again.
                Some(()) => {}
                None => std::thread::sleep(TURN),
            }
        }
    }

    /// What has a name, if it is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn find(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        match whole(&self.root.join(name))? {
            Some(_) => self.shared(name),
            None => Ok(None),
        }
    }

    /// The same, after whoever makes it now has come to an end.
    fn shared(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        let directory = self.root.join(name);
        let lock = self.lock(name);
        loop {
            let Some(file) = locked(&lock, How::Shared)? else {
                continue;
            };
            if whole(&directory)?.is_none() {
                return Ok(None);
            }
            let lease = Lease {
                directory,
                lock: file,
            };
            lease.note_use();
            return Ok(Some(lease));
        }
    }

    /// Makes it, unless it is there. None, and nothing is made, while somebody holds it: they make it, or use it.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of it is taken for whole then.
    pub fn put(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<u64, StoreError>,
    ) -> Result<Option<()>, StoreError> {
        self.prepare()?;
        let Some(_held) = locked(&self.lock(name), How::AloneNow)? else {
            return Ok(None);
        };
        let directory = self.root.join(name);
        if whole(&directory)?.is_none() {
            // What an earlier attempt or an earlier boot left.
            self.remove_all(&directory)?;
            DirBuilder::new()
                .mode(0o755)
                .create(&directory)
                .map_err(|e| StoreError::io("create", &directory, e))?;
            let bytes = make(&directory)?;
            let text = format!("{}\n{bytes}\n", boot()?);
            let path = directory.join("whole");
            fs::write(&path, text).map_err(|e| StoreError::io("write", &path, e))?;
        }
        Ok(Some(()))
    }

    /// Removes what nobody uses and is too much. What is in use stays, whatever its age.
    ///
    /// # Errors
    /// [`StoreError`] at the first that cannot be removed.
    pub fn sweep(&self, keep: Keep) -> Result<Swept, StoreError> {
        let found = self.found(|_| true)?.into_iter();
        // What cannot be read is as good as not there.
        let bytes = |one: &Found| self.bytes(&one.name).unwrap_or_default().unwrap_or(0);
        let mut found: Vec<(u64, Found)> = found.map(|one| (bytes(&one), one)).collect();
        found.sort_by_key(|(_, one)| one.used);
        let mut total: u64 = found.iter().map(|(bytes, _)| bytes).sum();
        let mut swept = Swept::default();
        for (bytes, one) in found {
            let idle = one.used.elapsed().unwrap_or_default();
            let goes = idle > keep.idle_max || total > keep.bytes_max || bytes == 0;
            if goes && self.remove(&one.name)? {
                total -= bytes;
                swept.removed += 1;
                swept.bytes += bytes;
            } else {
                swept.left += 1;
            }
        }
        Ok(swept)
    }

    /// What is there with such a name, whole or not, in no order.
    pub(crate) fn found(&self, is_meant: impl Fn(&str) -> bool) -> Result<Vec<Found>, StoreError> {
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
            if !is_meant(name) {
                continue;
            }
            let Ok(used) = entry.metadata().and_then(|data| data.modified()) else {
                continue;
            };
            found.push(Found {
                name: name.to_owned(),
                used,
            });
        }
        Ok(found)
    }

    /// How many bytes it is, at least one, if it is there as it was made.
    pub(crate) fn bytes(&self, name: &str) -> Result<Option<u64>, StoreError> {
        Ok(whole(&self.root.join(name))?.map(|bytes| bytes.max(1)))
    }

    /// Removes one; not, when somebody uses it.
    fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let lock = self.lock(name);
        let Some(_held) = locked(&lock, How::AloneNow)? else {
            return Ok(false);
        };
        self.remove_all(&self.root.join(name))?;
        // Last: whoever waits for this very file sees that it has gone, and makes another.
        fs::remove_file(&lock).map_err(|e| StoreError::io("remove", &lock, e))?;
        Ok(true)
    }

    /// What says that it is whole goes first: one that is removed in part is not taken for it.
    fn remove_all(&self, directory: &Path) -> Result<(), StoreError> {
        match fs::remove_file(directory.join("whole")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", directory, e));
            }
            _ => {}
        }
        match (self.remove)(directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", directory, e))
            }
            _ => Ok(()),
        }
    }

    fn lock(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.lock"))
    }

    fn prepare(&self) -> Result<(), StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(|e| StoreError::io("create", &self.root, e))
    }
}

impl Lease {
    /// The directory. It must not be changed.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// This is the time of its last use. That it cannot be noted is no reason to stop: it may go the sooner.
    pub(crate) fn note_use(&self) {
        let _ = self.lock.set_modified(SystemTime::now());
    }
}

/// How a file is locked.
#[derive(Clone, Copy)]
enum How {
    /// Together with others, once nobody has it alone.
    Shared,
    /// Alone, without waiting.
    AloneNow,
}

/// Opens and locks a file. None, when it was removed meanwhile, or somebody else holds it and nobody is to wait.
fn locked(path: &Path, how: How) -> Result<Option<File>, StoreError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|e| StoreError::io("open", path, e))?;
    let failed = |e: io::Error| StoreError::io("lock", path, e);
    match how {
        How::Shared => locks::shared(&file).map_err(|e| failed(e.into()))?,
        How::AloneNow => match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        },
    }
    let held = file
        .metadata()
        .map_err(|e| StoreError::io("lock", path, e))?;
    let is_there = path
        .metadata()
        .is_ok_and(|now| (now.dev(), now.ino()) == (held.dev(), held.ino()));
    Ok(is_there.then_some(file))
}

/// How many bytes it is, if it is there as it was made, in this boot.
fn whole(directory: &Path) -> Result<Option<u64>, StoreError> {
    let path = directory.join("whole");
    let text = match fs::read(&path) {
        // After a power cut it may hold anything.
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("read", &path, e)),
    };
    let mut lines = text.lines();
    let is_of_this_boot = lines.next() == Some(boot()?);
    let bytes = lines.next().and_then(|line| line.parse().ok());
    Ok(bytes.filter(|_| is_of_this_boot && text.ends_with('\n')))
}

/// The kernel's name for the time since it was started.
fn boot() -> Result<&'static str, StoreError> {
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(boot) = BOOT.get() {
        return Ok(boot);
    }
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(|e| StoreError::io("read", path, e))?;
    Ok(BOOT.get_or_init(|| text.trim().to_owned()))
}
