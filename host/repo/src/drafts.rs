//! Drafts of the mirror's objects: what a process that was killed had half written, and the lock by which others know that nobody writes it still.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use crate::error::StoreError;

/// Held, shared, by whoever has the mirror open: it may be writing objects.
const LOCK: &str = "moat.open";

/// Takes away the drafts of processes that died, where nobody has the mirror open, and says that it is open for as long as what is returned is
/// kept. There is no lock on a file system that nobody can write to.
pub(crate) fn sweep(git_dir: &Path) -> Result<Option<File>, StoreError> {
    let path = git_dir.join(LOCK);
    let opened = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if is_read_only(error.kind()) => return Ok(None),
        Err(error) => return Err(StoreError::io("open", &path, error)),
    };
    if file.try_lock().is_ok() {
        remove(&git_dir.join("objects"), &|name| {
            name.starts_with("tmp_object")
        });
        remove(&git_dir.join("objects/pack"), &is_copy);
    }
    // In place of the other one: whoever writes waits for whoever sweeps.
    file.lock_shared()
        .map_err(|error| StoreError::io("lock", &path, error))?;
    Ok(Some(file))
}

fn is_read_only(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
    )
}

/// `pack-….copy-<pid>`, see `objects::link_packs`.
fn is_copy(name: &str) -> bool {
    let end = name.rsplit_once(".copy-").map(|(_, pid)| pid);
    end.is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What cannot be removed is in nobody's way.
fn remove(directory: &Path, is_draft: &dyn Fn(&str) -> bool) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_draft)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "a draft of an object is left");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn drafts_go_when_nobody_has_the_mirror_open_and_nothing_else_does() {
        let directory = tempfile::TempDir::new().unwrap();
        let pack = directory.path().join("objects/pack");
        fs::create_dir_all(&pack).unwrap();
        let objects = directory.path().join("objects");
        let kept = [
            objects.join("aa"),
            pack.join("pack-1.pack"),
            pack.join("pack-1.copy-x"),
        ];
        let drafts = [
            objects.join("tmp_object_git2_a1"),
            pack.join("pack-1.copy-12"),
        ];
        for path in kept.iter().chain(&drafts) {
            fs::write(path, "").unwrap();
        }
        let there = |paths: &[std::path::PathBuf]| paths.iter().all(|path| path.exists());

        // Somebody has it open, and may be writing them.
        let other = File::create(directory.path().join(LOCK)).unwrap();
        other.lock_shared().unwrap();
        let first = sweep(directory.path()).unwrap();
        assert!(there(&drafts) && there(&kept));
        drop(other);
        let second = sweep(directory.path()).unwrap();
        assert!(there(&drafts), "the first has it open");
        drop((first, second));
        let _third = sweep(directory.path()).unwrap().unwrap();
        assert!(!drafts.iter().any(|path| path.exists()));
        assert!(there(&kept));
    }
}
