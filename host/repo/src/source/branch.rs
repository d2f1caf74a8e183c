//! The one move of a branch of the user's repository, with what git keeps about such moves.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use git2::{Oid, Repository, Signature};

use super::aside::{self, Lock};
use crate::error::{Doing, StoreError};

const ASIDE: &str = "ref";
const MESSAGE: &str = "moat: fast-forward";

/// Longer than a line that we write.
const LAST_LINE_BYTES: u64 = 1024;

/// What became of it.
pub(super) enum Move {
    /// The branch is where it should be.
    Done,
    /// It was not where it had been.
    Changed,
    /// Somebody else has its lock.
    Locked,
}

/// Removes what a killed process left when it moved the branch, whether it came to that or not.
pub(super) fn clear(git_dir: &Path, name: &str) -> Result<(), StoreError> {
    aside::clear(git_dir, ASIDE, Some(&git_dir.join(name)))
}

/// Moves a branch, by its whole name, under git's lock: a killed process leaves the branch as it was or as it should be, and a lock that the next
/// one of ours knows by [`clear`].
pub(super) fn advance(
    repo: &Repository,
    git_dir: &Path,
    name: &str,
    from: Oid,
    to: Oid,
) -> Result<Move, StoreError> {
    let target = git_dir.join(name);
    let draft = aside::path(git_dir, ASIDE);
    let failed = |e| StoreError::io("write", &draft, e);
    let mut file = File::create_new(&draft).map_err(failed)?;
    file.write_all(format!("{to}\n").as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    let Some(lock) = Lock::take(draft.clone(), &target)? else {
        return Ok(Move::Locked);
    };
    let now = repo.find_reference(name).doing("read the branch")?;
    if now.target() != Some(from) {
        return Ok(Move::Changed);
    }
    log(repo, git_dir, name, from, to)?;
    let head = repo.find_reference("HEAD").doing("read HEAD")?;
    if head.symbolic_target().doing("read HEAD")? == Some(name) {
        log(repo, git_dir, "HEAD", from, to)?;
    }
    lock.commit()?;
    Ok(Move::Done)
}

/// Notes a move where git notes them, once: a move that was interrupted is noted already.
fn log(
    repo: &Repository,
    git_dir: &Path,
    name: &str,
    from: Oid,
    to: Oid,
) -> Result<(), StoreError> {
    let path = git_dir.join("logs").join(name);
    let is_wanted = || {
        let config = repo.config().and_then(|mut config| config.snapshot());
        let set = config.and_then(|config| config.get_bool("core.logAllRefUpdates"));
        set.unwrap_or_else(|_| !repo.is_bare())
    };
    if !path.exists() && !is_wanted() {
        return Ok(());
    }
    let failed = |e| StoreError::io("write", &path, e);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .open(&path)
        .map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_LINE_BYTES)))
        .map_err(failed)?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).map_err(failed)?;
    let end = String::from_utf8_lossy(&end);
    let moved = format!("{from} {to} ");
    let last = end.lines().next_back();
    if last.is_some_and(|line| line.contains(&moved)) {
        return Ok(());
    }
    // A line that a killed process left unfinished must not swallow ours.
    let begin = if end.is_empty() || end.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let who = repo
        .signature()
        .or_else(|_| Signature::now("moat", "moat@localhost"))
        .doing("read the clock")?;
    let at = who.when();
    let (sign, minutes) = (at.sign(), at.offset_minutes().abs());
    let who = format!(
        "{} <{}> {} {sign}{:02}{:02}",
        String::from_utf8_lossy(who.name_bytes()),
        String::from_utf8_lossy(who.email_bytes()),
        at.seconds(),
        minutes / 60,
        minutes % 60
    );
    file.write_all(format!("{begin}{moved}{who}\t{MESSAGE}\n").as_bytes())
        .map_err(failed)
}
