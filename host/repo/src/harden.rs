//! The one place that opens a repository, and the settings of libgit2 that hold for the whole process.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

use git2::{ConfigLevel, Error, ErrorClass, ErrorCode, Repository, RepositoryOpenFlags, opts};

use crate::backend;
use crate::loose::Stores;
use crate::{objects, packs};

/// Which part of a repository is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Objects and references; `core.worktree` is ignored.
    Store,
    /// Objects, references, index and the checkout that belongs to this git dir.
    Checkout,
}

/// Opens the repository whose git dir is exactly `git_dir`; its loose objects are read by our own code, and
/// its indexes are whole.
///
/// Nothing is searched for, no `.git` is appended, and no `GIT_*` variable is read (libgit2 reads those only with
/// `FROM_ENV`).
pub(crate) fn open(git_dir: &Path, part: Part) -> Result<Repository, Error> {
    harden()?;
    let mut flags = RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::NO_DOTGIT;
    if part == Part::Store {
        flags |= RepositoryOpenFlags::BARE;
    }
    let repo = Repository::open_ext(git_dir, flags, &[] as &[&OsStr])?;
    let stores = objects::stores(&repo.commondir().join("objects"));
    packs::check(&stores).map_err(|damaged| {
        Error::new(
            ErrorCode::GenericError,
            ErrorClass::Odb,
            damaged.to_string(),
        )
    })?;
    backend::install(&repo, Stores::new(stores))?;
    Ok(repo)
}

/// Makes libgit2 deaf to the machine's configuration, once.
pub(crate) fn harden() -> Result<(), Error> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| set().map_err(|e| e.message().to_owned()))
        .clone()
        .map_err(|message| Error::from_str(&message))
}

fn set() -> Result<(), Error> {
    for level in [
        ConfigLevel::ProgramData,
        ConfigLevel::System,
        ConfigLevel::XDG,
        ConfigLevel::Global,
    ] {
        #[expect(unsafe_code, reason = "libgit2 keeps its options in globals")]
        // SAFETY: runs once, inside a `OnceLock`, before the first repository of this process is opened, so no other
        // thread reads these globals at the same time.
        unsafe {
            opts::set_search_path(level, "")?;
        }
    }
    #[expect(unsafe_code, reason = "libgit2 keeps its options in globals")]
    // SAFETY: as above.
    unsafe {
        opts::set_verify_owner_validation(true)?;
    }
    opts::strict_hash_verification(true);
    opts::strict_object_creation(true);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        unsafe_code,
        reason = "tests may stop at the first surprise; reading a global of libgit2"
    )]
    use super::*;

    #[test]
    fn the_machines_configuration_is_out_of_reach() {
        harden().unwrap();
        for level in [
            ConfigLevel::ProgramData,
            ConfigLevel::System,
            ConfigLevel::XDG,
            ConfigLevel::Global,
        ] {
            // SAFETY: nobody sets the path after `harden`.
            let path = unsafe { opts::get_search_path(level) }.unwrap();
            assert_eq!(path.to_bytes(), b"", "{level:?}");
        }
    }

    #[test]
    fn nothing_is_found_from_inside_a_checkout() {
        let dir = tempfile::tempdir().unwrap();
        Repository::init(dir.path()).unwrap();
        let inner = dir.path().join("src");
        std::fs::create_dir(&inner).unwrap();
        assert!(open(&inner, Part::Store).is_err());
        assert!(open(dir.path(), Part::Store).is_err());
        for part in [Part::Store, Part::Checkout] {
            assert!(open(&dir.path().join(".git/refs"), part).is_err());
            assert!(open(dir.path(), part).is_err());
            assert!(open(&dir.path().join(".git"), part).is_ok());
        }
    }

    #[test]
    fn a_store_has_no_files_whatever_its_configuration_says() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::init(dir.path().join("repo")).unwrap();
        let elsewhere = dir.path().to_str().unwrap();
        repo.config()
            .unwrap()
            .set_str("core.worktree", elsewhere)
            .unwrap();
        assert!(open(repo.path(), Part::Store).unwrap().workdir().is_none());
        assert!(
            open(repo.path(), Part::Checkout)
                .unwrap()
                .workdir()
                .is_some()
        );
    }
}
