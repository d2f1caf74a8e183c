//! Indexes of packs and of commits, checked before libgit2 follows them.
//!
//! libgit2 1.9.7 believes them: it reads, outside of what it has mapped, wherever the offset in a damaged index points. All three kinds end
//! in the SHA-1 of what is before it, which git looks at only in `fsck`; and the offsets of a pack's index have to lie in its pack.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha1::{Digest, Sha1};

use crate::error::StoreError;

/// Bytes of a SHA-1.
const SUM: u64 = 20;

/// The table of how many names begin with a byte or a lesser one.
const FAN_OUT: u64 = 256 * 4;

const SIGNATURE: &[u8] = b"\xfftOc\0\0\0\x02";

/// Bytes before the first object of a pack.
const PACK_HEADER: u64 = 12;

/// More files than any machine has repositories at work.
const KNOWN_MAX: usize = 20_000;

/// What was found whole in this process, by what a changed file would not keep.
static KNOWN: Mutex<Option<HashSet<Seen>>> = Mutex::new(None);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Seen {
    file: [i64; 5],
    pack_bytes: u64,
}

/// A pack or index that is not as git wrote it.
#[derive(Debug, thiserror::Error)]
#[error("{} is damaged ({why}): `git fsck` in the repository shows what is lost", path.display())]
pub(crate) struct Damaged {
    path: PathBuf,
    why: String,
}

impl From<Damaged> for StoreError {
    fn from(Damaged { path, why }: Damaged) -> Self {
        StoreError::Damaged { path, why }
    }
}

/// Checks a pack itself, all of it.
pub(crate) fn check_pack(path: &Path) -> Result<(), Damaged> {
    let sum = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        sum_holds(&mut file, length)
    });
    let why = match sum {
        Ok(true) => return Ok(()),
        Ok(false) => "its checksum differs".into(),
        Err(e) => e.to_string(),
    };
    Err(Damaged {
        path: path.to_path_buf(),
        why,
    })
}

/// Checks the indexes of these object directories; what was checked before is not read again.
pub(crate) fn check(stores: &[PathBuf]) -> Result<(), Damaged> {
    for store in stores {
        for name in ["info/commit-graph", "pack/multi-pack-index"] {
            one(&store.join(name), None)?;
        }
        let Ok(entries) = fs::read_dir(store.join("pack")) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "idx") {
                // Without its pack nobody asks it.
                if let Ok(pack) = path.with_extension("pack").metadata() {
                    one(&path, Some(pack.len()))?;
                }
            }
        }
    }
    Ok(())
}

fn one(path: &Path, pack_bytes: Option<u64>) -> Result<(), Damaged> {
    let damaged = |why: String| Damaged {
        path: path.to_path_buf(),
        why,
    };
    let data = match path.metadata() {
        Ok(data) => data,
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        Err(e) => return Err(damaged(e.to_string())),
    };
    if !data.is_file() {
        return Err(damaged("it is no file".into()));
    }
    let seen = Seen {
        file: [
            data.dev() as i64,
            data.ino() as i64,
            data.size() as i64,
            data.mtime(),
            data.mtime_nsec(),
        ],
        pack_bytes: pack_bytes.unwrap_or(0),
    };
    let known = || {
        KNOWN
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    if known().get_or_insert_default().contains(&seen) {
        return Ok(());
    }
    let whole = File::open(path).and_then(|mut file| {
        if !sum_holds(&mut file, data.len())? {
            return Ok(Some("its checksum differs"));
        }
        match pack_bytes {
            Some(bytes) => offsets_fault(&mut file, data.len(), bytes),
            None => Ok(None),
        }
    });
    match whole {
        Ok(None) => {}
        Ok(Some(why)) => return Err(damaged(why.into())),
        Err(e) => return Err(damaged(e.to_string())),
    }
    let mut known = known();
    let known = known.get_or_insert_default();
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    known.insert(seen);
    Ok(())
}

fn sum_holds(file: &mut File, length: u64) -> io::Result<bool> {
    let Some(content) = length.checked_sub(SUM) else {
        return Ok(false);
    };
    let mut sum = Sha1::new();
    io::copy(&mut file.by_ref().take(content), &mut sum)?;
    let mut told = Vec::new();
    file.take(SUM).read_to_end(&mut told)?;
    Ok(sum.finalize().as_slice() == told)
}

/// What is wrong with the offsets of a pack's index; nothing, where all lie in a pack of so many bytes.
fn offsets_fault(file: &mut File, length: u64, pack: u64) -> io::Result<Option<&'static str>> {
    let mut head = [0; 8];
    file.rewind()?;
    file.read_exact(&mut head)?;
    // The old form has no signature, and each offset before its name.
    let is_new = head == SIGNATURE;
    let fan_at = if is_new { 8 } else { 0 };
    let entry = if is_new { SUM + 4 + 4 } else { 4 + SUM };
    let Some(room) = length.checked_sub(fan_at + FAN_OUT + 2 * SUM) else {
        return Ok(Some("it is too short"));
    };
    let mut count = [0; 4];
    file.seek(SeekFrom::Start(fan_at + FAN_OUT - 4))?;
    file.read_exact(&mut count)?;
    let count = u64::from(u32::from_be_bytes(count));
    let large = match room.checked_sub(count * entry) {
        Some(rest) if rest % 8 == 0 && (is_new || rest == 0) => rest / 8,
        _ => return Ok(Some("its length does not fit its number of objects")),
    };
    let mut table = Vec::new();
    let is_inside = |offset: u64| offset >= PACK_HEADER && offset < pack.saturating_sub(SUM);
    if !is_new {
        file.take(count * entry).read_to_end(&mut table)?;
        let good = table
            .chunks_exact(entry as usize)
            .all(|e| is_inside(u64::from(number(e))));
        return Ok((!good).then_some("an offset lies outside of its pack"));
    }
    file.seek(SeekFrom::Start(fan_at + FAN_OUT + count * (SUM + 4)))?;
    file.take(count * 4 + large * 8).read_to_end(&mut table)?;
    let (small, wide) = table.split_at((count as usize * 4).min(table.len()));
    let good = small.chunks_exact(4).map(number).all(|offset| {
        if offset & 0x8000_0000 == 0 {
            return is_inside(u64::from(offset));
        }
        let wide = wide.chunks_exact(8).nth((offset & 0x7fff_ffff) as usize);
        let wide = wide.and_then(|bytes| bytes.try_into().ok());
        wide.is_some_and(|bytes| is_inside(u64::from_be_bytes(bytes)))
    });
    Ok((!good).then_some("an offset lies outside of its pack"))
}

/// The number that bytes begin with.
fn number(bytes: &[u8]) -> u32 {
    let first = bytes.first_chunk::<4>().copied().unwrap_or([0xff; 4]);
    u32::from_be_bytes(first)
}
