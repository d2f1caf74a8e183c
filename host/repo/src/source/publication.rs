//! Moves of branches that are under way, noted in the git dir until the checkouts have followed: who comes after one that died in the middle must not
//! take a checkout that is behind for work of its owner. A line a branch, `<from> <to> <branch>`, read and written by whoever holds the lock on
//! publications.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use git2::Oid;

use super::aside;
use crate::error::StoreError;
use crate::objects;

const NOTE: &str = "moat-publication";

/// What a note is called while it is written.
const ASIDE: &str = "publication";

/// A longer one is none of ours.
const NOTE_BYTES_MAX: u64 = 1 << 20;

/// From where to where a branch is being moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) branch: String,
    pub(super) from: Oid,
    pub(super) to: Oid,
}

impl Publication {
    /// Notes it, in the place of an earlier one of its branch, through to the disk.
    pub(super) fn note(&self, git_dir: &Path) -> Result<(), StoreError> {
        let mut all = others(git_dir, &self.branch)?;
        all.push(self.clone());
        write(git_dir, &all)
    }
}

/// Those that are noted and can be read. Removes what a killed process had half written, and a note that holds none.
pub(super) fn noted(git_dir: &Path) -> Result<Vec<Publication>, StoreError> {
    aside::clear(git_dir, ASIDE, None)?;
    let all = read(git_dir)?;
    if all.is_empty() {
        aside::remove(&git_dir.join(NOTE))?;
    }
    Ok(all)
}

/// The checkouts of a branch have followed, or will not.
pub(super) fn forget(git_dir: &Path, branch: &str) -> Result<(), StoreError> {
    match others(git_dir, branch)?.as_slice() {
        [] => aside::remove(&git_dir.join(NOTE)),
        others => write(git_dir, others),
    }
}

fn others(git_dir: &Path, branch: &str) -> Result<Vec<Publication>, StoreError> {
    let mut all = read(git_dir)?;
    all.retain(|one| one.branch != branch);
    Ok(all)
}

fn read(git_dir: &Path) -> Result<Vec<Publication>, StoreError> {
    let note = git_dir.join(NOTE);
    let failed = |e| StoreError::io("read", &note, e);
    match note.symlink_metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(failed(e)),
        // A pipe would be waited for.
        Ok(data) if !data.is_file() => {
            return Err(failed(std::io::Error::other("it is no file of moat's")));
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(&note)
        .and_then(|file| file.take(NOTE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Publication> {
    let mut words = line.split(' ');
    let mut oid = || objects::oid(words.next()?).ok();
    let (from, to) = (oid()?, oid()?);
    let branch = words.next()?.to_owned();
    words
        .next()
        .is_none()
        .then_some(Publication { branch, from, to })
}

fn write(git_dir: &Path, all: &[Publication]) -> Result<(), StoreError> {
    let (draft, note) = (aside::path(git_dir, ASIDE), git_dir.join(NOTE));
    let line = |one: &Publication| format!("{} {} {}\n", one.from, one.to, one.branch);
    let text: String = all.iter().map(line).collect();
    let written = File::create(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&draft, &note));
    written.map_err(|e| StoreError::io("write", &note, e))?;
    objects::flush_file(&note)
}
