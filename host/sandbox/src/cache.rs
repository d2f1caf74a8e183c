//! Compiled components on disk, keyed by what was compiled and how.
//!
//! Loading compiled code is as trusted as running it natively: each file carries a keyed digest, and one that does not match is compiled
//! again, never loaded. The directory and its key are readable by the owner only and are never mounted writable for a guest.

use std::fs;
use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flow::id::Digest;
use sha2::{Digest as _, Sha256};

/// An 18 MB Python component compiles to less than 100 MB.
const COMPILED_BYTES_MAX: u64 = 512 << 20;

/// How names of drafts begin. Moats of earlier versions hold none of theirs, and call them otherwise.
const DRAFT: &str = "compiling";

/// The key's name; those of what is to become it go on with a dash.
const KEY: &str = "key";

/// The cache's directory.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    key: [u8; 32],
}

/// A directory for one compilation; another process leaves it alone as long as this is kept.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    _held: fs::File,
}

impl Draft {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Cache {
    pub(crate) fn open(directory: &Path) -> Result<Cache, Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let path = directory.join(KEY);
        if !path.exists() {
            // One process at a time: what another has left is of one that died.
            let held = fs::File::open(directory)?;
            locks::exclusive(&held)?;
            if !path.exists() {
                make_key(directory, &path)?;
            }
        }
        let key = fs::read(&path)?
            .try_into()
            .map_err(|_| Error::other("the cache's key file is damaged: remove it"))?;
        Ok(Cache {
            directory: directory.to_owned(),
            key,
        })
    }

    /// A directory of its own for one compilation; those of processes that died are removed.
    pub(crate) fn draft(&self) -> Result<Draft, Error> {
        // One process at a time: none sees another's before it is held.
        let directory = fs::File::open(&self.directory)?;
        locks::exclusive(&directory)?;
        self.sweep()?;
        let path = self.directory.join(unique(DRAFT)?);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let held = fs::File::open(&path)?;
        held.lock()?;
        Ok(Draft { path, _held: held })
    }

    /// Removes what processes that died left, unless somebody makes something just now: nobody is waited for.
    pub(crate) fn sweep_if_free(&self) -> Result<(), Error> {
        let directory = fs::File::open(&self.directory)?;
        match directory.try_lock() {
            Ok(()) => self.sweep(),
            Err(fs::TryLockError::WouldBlock) => Ok(()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn sweep(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name
                .strip_prefix(KEY)
                .is_some_and(|rest| rest.starts_with('-'))
            {
                // Made under the lock that is held here, by a process that died then.
                remove_if_there(&entry.path())?;
            }
            if !name.starts_with(DRAFT) {
                continue;
            }
            // One that is gone was removed by who made it.
            let Ok(draft) = fs::File::open(entry.path()) else {
                continue;
            };
            if draft.try_lock().is_ok()
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "an abandoned draft is left");
            }
        }
        Ok(())
    }

    /// The compiled component, if it is there and whole.
    pub(crate) fn find(&self, component: &Digest, engine: &str) -> Option<PathBuf> {
        let path = self.path(component, engine);
        let told = fs::read(path.with_extension("mac")).ok()?;
        let content = fs::read(&path).ok()?;
        (told == self.mac(&content, component, engine)).then_some(path)
    }

    /// Takes a freshly compiled component over.
    pub(crate) fn store(
        &self,
        component: &Digest,
        engine: &str,
        compiled: &Path,
    ) -> Result<PathBuf, Error> {
        let path = self.path(component, engine);
        let content = read_plain(compiled)?;
        let mac = path.with_extension("mac");
        let own = self.draft()?;
        let (draft, draft_mac) = (own.path().join("compiled"), own.path().join("mac"));
        fs::write(&draft, &content)?;
        fs::write(&draft_mac, self.mac(&content, component, engine))?;
        fs::rename(&draft_mac, &mac)?;
        // A file that is there and whole stays: another moat may be mounting it, which fails when its name goes to a new file meanwhile.
        let is_new = fs::hard_link(&draft, &path).is_ok();
        if !is_new && self.find(component, engine).is_none() {
            fs::rename(&draft, &path)?;
        }
        fs::remove_dir_all(own.path())?;
        Ok(path)
    }

    fn path(&self, component: &Digest, engine: &str) -> PathBuf {
        let engine = Digest::of(engine.as_bytes());
        self.directory
            .join(format!("{}-{}.cwasm", component.hex(), engine.short()))
    }

    /// Keyed: whoever can write here but does not know the key cannot make it match. The inner digest is of fixed length, so the
    /// construction does not suffer from extension.
    fn mac(&self, content: &[u8], component: &Digest, engine: &str) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(component.as_str());
        hash.update(Sha256::digest(engine));
        hash.update(Sha256::digest(content));
        hash.finalize().to_vec()
    }
}

/// Reads what a compiling worker left. A component may have taken that worker over: a symbolic link would be read from the host, a pipe would
/// be waited for.
fn read_plain(path: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt as _;
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags as i32)
        .open(path)?;
    let data = file.metadata()?;
    if !data.is_file() || data.nlink() != 1 || data.len() > COMPILED_BYTES_MAX {
        return Err(Error::other("the compiling worker left no plain file"));
    }
    let mut content = Vec::new();
    file.take(COMPILED_BYTES_MAX).read_to_end(&mut content)?;
    Ok(content)
}

/// Whole or not at all: under another name first. Who makes one holds the directory's lock.
fn make_key(directory: &Path, path: &Path) -> Result<(), Error> {
    let mut fresh = [0; 32];
    rustix::rand::getrandom(&mut fresh, rustix::rand::GetRandomFlags::empty())?;
    let draft = directory.join(unique(KEY)?);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(&fresh)?;
    file.sync_all()?;
    // An older moat that takes no lock may have been quicker: the first one stays.
    let made = match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    };
    remove_if_there(&draft)?;
    made
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn unique(prefix: &str) -> Result<String, Error> {
    let mut name = [0; 8];
    rustix::rand::getrandom(&mut name, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{prefix}-{}", hex::encode(name)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn what_was_changed_or_belongs_to_another_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let drafted = cache.draft().unwrap();
        let draft = drafted.path().join("c");
        fs::write(&draft, "compiled").unwrap();
        let path = cache.store(&one, "e", &draft).unwrap();
        assert_eq!(cache.find(&one, "e").as_deref(), Some(path.as_path()));
        assert_eq!(
            Cache::open(dir.path()).unwrap().find(&one, "e").as_deref(),
            Some(path.as_path()),
            "the key stays"
        );
        assert!(cache.find(&two, "e").is_none() && cache.find(&one, "f").is_none());
        let number =
            |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = number(&path);
        fs::write(&draft, "compiled").unwrap();
        cache.store(&one, "e", &draft).unwrap();
        assert_eq!(number(&path), before, "another may be mounting it");
        fs::copy(&path, cache.path(&two, "e")).unwrap();
        fs::copy(
            path.with_extension("mac"),
            cache.path(&two, "e").with_extension("mac"),
        )
        .unwrap();
        assert!(cache.find(&two, "e").is_none(), "swapped");
        fs::write(&path, "Compiled").unwrap();
        assert!(cache.find(&one, "e").is_none(), "flipped");
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_a_living_one_needs_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let living = cache.draft().unwrap();
        let dead = dir.path().join("compiling-1");
        fs::create_dir_all(dead.join("out")).unwrap();
        let other = Cache::open(dir.path()).unwrap().draft().unwrap();
        assert!(!dead.exists() && living.path().exists() && other.path().exists());
        fs::create_dir_all(dead.join("out")).unwrap();
        let key = dir.path().join("key-0011223344556677");
        fs::write(&key, "half").unwrap();
        cache.sweep_if_free().unwrap();
        assert!(!key.exists() && dir.path().join("key").exists());
        assert!(!dead.exists() && living.path().exists() && other.path().exists());
    }
}
