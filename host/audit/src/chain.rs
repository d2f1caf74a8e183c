//! Appending: one writer at a time, from the last line on the disk.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use locks::LockError;

use crate::entry::{Entry, Recorded, Sealed};
use crate::head::{self, Anchor};
use crate::verify::Place;
use crate::{Broken, TrailError, files, line};

/// A file that is larger is followed by another one.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// An append takes milliseconds; who holds the lock for longer is stopped or hangs.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The trail of a state directory. Many processes may have it open.
#[derive(Debug)]
pub struct Trail {
    directory: PathBuf,
    file_bytes_max: u64,
    /// Threads of one process wait here and not by polling the file lock.
    turn: Mutex<()>,
}

/// Held by whoever appends, or looks how far the trail goes.
pub(crate) struct Held {
    _file: File,
}

/// Where the next line goes.
struct Tail {
    last: Anchor,
    file: u32,
    bytes: u64,
    torn: Option<Sealed>,
}

impl Trail {
    /// Opens the trail of a directory, or begins it, readable by its owner only.
    ///
    /// # Errors
    /// [`TrailError`]. Whether it can be appended to is seen when it is.
    pub fn open(directory: &Path) -> Result<Trail, TrailError> {
        Trail::with_files_of(directory, FILE_BYTES_MAX)
    }

    /// The same with files of at most about this size.
    ///
    /// # Errors
    /// [`TrailError`].
    pub fn with_files_of(directory: &Path, file_bytes_max: u64) -> Result<Trail, TrailError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| TrailError::of(directory, &error))?;
        let trail = Trail {
            directory: directory.to_owned(),
            file_bytes_max,
            turn: Mutex::new(()),
        };
        let _held = trail.hold()?;
        trail.begin()?;
        Ok(trail)
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file with the head: beside the directory, so that it is not gone with it.
    pub fn head_path(&self) -> PathBuf {
        self.directory.with_extension("head")
    }

    /// The head comes before the first line: from then on, lines without a head are lines whose head was taken away.
    fn begin(&self) -> Result<(), TrailError> {
        let path = self.head_path();
        let failed = |error: &std::io::Error| TrailError::of(&path, error);
        let none = files::numbers(&self.directory)
            .map_err(|error| TrailError::of(&self.directory, &error))?
            .is_empty();
        // Empty is that of a moat that was killed before it had written to it.
        let unwritten = path
            .metadata()
            .map_or(true, |head| head.is_file() && head.len() == 0);
        if none && unwritten {
            let file = head::write(&path, &Anchor::start()).map_err(|error| failed(&error))?;
            file.sync_all().map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// Appends an entry; it is on the disk when this returns. Gives its number.
    ///
    /// # Errors
    /// [`TrailError`]: what the entry tells must not be done then.
    pub fn append(&self, at_ms: u64, entry: Entry) -> Result<u64, TrailError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let _held = self.hold()?;
        let mut tail = self.tail()?;
        if let Some(sealed) = tail.torn.take() {
            self.write(
                &mut tail,
                at_ms,
                Entry::Sealed(sealed),
                &[files::TORN_MARK, b'\n'],
            )?;
        }
        if tail.bytes >= self.file_bytes_max {
            tail.file += 1;
            tail.bytes = 0;
        }
        self.write(&mut tail, at_ms, entry.bounded(), b"")?;
        Ok(tail.last.number)
    }

    fn write(
        &self,
        tail: &mut Tail,
        at_ms: u64,
        entry: Entry,
        before: &[u8],
    ) -> Result<(), TrailError> {
        let recorded = Recorded {
            number: tail.last.number + 1,
            at_ms,
            moat: env!("CARGO_PKG_VERSION").into(),
            entry,
            previous: tail.last.hash.clone(),
        };
        let (line, hash) = line::written(&recorded)?;
        let path = files::path(&self.directory, tail.file);
        let bytes = [before, &line].concat();
        append(&path, &bytes, tail.bytes == 0).map_err(|error| TrailError::of(&path, &error))?;
        tail.bytes += bytes.len() as u64;
        tail.last = Anchor {
            number: recorded.number,
            hash,
        };
        let head = self.head_path();
        head::write(&head, &tail.last).map_err(|error| TrailError::of(&head, &error))?;
        Ok(())
    }

    /// Finds the last line, and sees that it is not before the head.
    fn tail(&self) -> Result<Tail, TrailError> {
        let unusable = |error: &std::io::Error| TrailError::of(&self.directory, error);
        let numbers = files::numbers(&self.directory).map_err(|error| unusable(&error))?;
        let file = numbers.last().copied().unwrap_or(1);
        let mut tail = Tail {
            last: Anchor::start(),
            file,
            bytes: 0,
            torn: None,
        };
        for number in numbers.iter().rev() {
            let end = files::end(&files::path(&self.directory, *number))
                .map_err(|error| unusable(&error))?;
            if *number == file {
                tail.bytes = end.bytes;
                tail.torn = end.torn.map(|(bytes, digest)| Sealed { bytes, digest });
            }
            if let Some(last) = end.last {
                tail.last = Anchor {
                    number: last.number,
                    hash: last.hash,
                };
                break;
            }
        }
        self.not_before_the_head(&tail)?;
        Ok(tail)
    }

    fn not_before_the_head(&self, tail: &Tail) -> Result<(), TrailError> {
        let place = Place {
            file: files::name(tail.file),
            line: 0,
        };
        let head = self.head()?.ok_or_else(|| head_is_gone(self))?;
        let same = head.number < tail.last.number || head == tail.last;
        if same {
            return Ok(());
        }
        Err(cut_off(place, &head, tail.last.number).into())
    }

    pub(crate) fn head(&self) -> Result<Option<Anchor>, TrailError> {
        let path = self.head_path();
        head::read(&path).map_err(|error| TrailError::of(&path, &error))
    }

    pub(crate) fn hold(&self) -> Result<Held, TrailError> {
        let path = self.directory.join("lock");
        let failed = |error: &std::io::Error| TrailError::of(&path, error);
        let file = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed(&error))?;
        match locks::within(&file, LOCK_WAIT) {
            Ok(()) => Ok(Held { _file: file }),
            Err(LockError::Kept { by }) => Err(TrailError::Busy { path, by }),
            Err(LockError::Io(error)) => Err(failed(&error)),
        }
    }
}

fn append(path: &Path, bytes: &[u8], fresh: bool) -> std::io::Result<()> {
    let mut file = File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    if fresh && let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// The trail ends before its head.
pub(crate) fn cut_off(place: Place, head: &Anchor, last: u64) -> Broken {
    let why = if head.number == last {
        format!("entry {last} is another one than its head names")
    } else {
        format!(
            "it ends at entry {last}, and its head names entry {}: what came after was cut off",
            head.number
        )
    };
    Broken { place, why }
}

/// Lines without a head.
pub(crate) fn head_is_gone(trail: &Trail) -> Broken {
    let name = trail.head_path();
    let name = name
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    Broken {
        place: Place {
            file: name.unwrap_or_default(),
            line: 0,
        },
        why: "the head is gone, so that a cut tail could not be seen".into(),
    }
}
