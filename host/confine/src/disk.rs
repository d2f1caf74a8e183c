//! The watch over the host's disk: what writable mounts grow by, and what stays free whoever fills it.
//!
//! An ordinary user has no quotas to give out, so this looks on. Programs have no `fallocate` (see `child/seccomp.rs`): they fill the disk no
//! faster than they can write, and the reserve is larger than what can be written between two looks.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::command::{Limits, Mount, Tree};

/// Between two looks. A look is one system call a file system.
const PERIOD: Duration = Duration::from_millis(100);

/// Between two close looks that nothing gave a reason for: what others free meanwhile hides what a program takes.
const CLOSELY: Duration = Duration::from_secs(10);

/// What stays free of a large disk, for the journal and for everybody else.
const RESERVE_BYTES: u64 = 1 << 30;
const RESERVE_FILES: u64 = 65_536;

/// No source tree and no build goes deeper; what does is made to be overlooked.
const DEPTH_MAX: u32 = 200;

/// How much of a disk was free at some time: what is left of it since then counts for whoever was started later, too.
#[derive(Debug, Clone)]
pub struct DiskMark(Option<(u64, Room)>);

/// Watches over the writable mounts of one program.
#[derive(Debug, Clone)]
pub struct DiskWatch {
    places: Vec<PathBuf>,
    /// Those that held nothing when they were mounted: what they hold now was written.
    scratch: Vec<PathBuf>,
    disks: Vec<Disk>,
    limit: Room,
}

/// A file system that holds at least one of the places.
#[derive(Debug, Clone)]
struct Disk {
    place: PathBuf,
    at_start: Room,
    reserve: Room,
}

/// Space on a disk, or taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    bytes: u64,
    files: u64,
}

impl DiskWatch {
    pub(crate) fn new(mounts: &[Mount], limits: &Limits, since: Option<&DiskMark>) -> DiskWatch {
        let places: Vec<PathBuf> = mounts.iter().flat_map(Mount::changes).collect();
        let by_device: BTreeMap<u64, &PathBuf> = places
            .iter()
            .filter_map(|place| Some((rustix::fs::stat(place).ok()?.st_dev, place)))
            .collect();
        let disks = by_device
            .into_iter()
            .filter_map(|(device, place)| Disk::of(place, since.and_then(|mark| mark.of(device))))
            .collect();
        let limit = Room {
            bytes: limits.disk_bytes,
            files: limits.disk_files,
        };
        let has_been_filled = |mount: &&Mount| {
            matches!(
                mount,
                Mount::Tree {
                    tree: Tree::Directory(_),
                    ..
                }
            )
        };
        let scratch = (mounts.iter().filter(|mount| !has_been_filled(mount)))
            .flat_map(Mount::changes)
            .collect();
        DiskWatch {
            places,
            scratch,
            disks,
            limit,
        }
    }

    /// Returns when the limit is passed or a disk is down to its reserve; never, where nothing is writable.
    ///
    /// Looks closely, at every file, when a disk as a whole lost as much as the limit, and now and then.
    pub async fn exceeded(&self) {
        if self.disks.is_empty() {
            return std::future::pending().await;
        }
        let mut close_look: Option<tokio::task::JoinHandle<bool>> = None;
        let mut not_before = Instant::now();
        let mut at_latest = Instant::now() + CLOSELY;
        loop {
            tokio::time::sleep(PERIOD).await;
            if self.disks.iter().any(Disk::is_down_to_reserve) {
                return;
            }
            match close_look.take() {
                Some(look) if look.is_finished() => {
                    if look.await.unwrap_or(true) {
                        return;
                    }
                    // Somebody else uses the disk: not again at once.
                    not_before = Instant::now() + Duration::from_secs(2);
                }
                None if Instant::now() >= not_before
                    && (Instant::now() >= at_latest || self.lost()) =>
                {
                    at_latest = Instant::now() + CLOSELY;
                    let is_suspected = self.lost();
                    let places = match is_suspected {
                        true => self.places.clone(),
                        false => self.scratch.clone(),
                    };
                    let limit = self.limit;
                    close_look = Some(tokio::task::spawn_blocking(move || {
                        Weighing::over(&places, limit, is_suspected)
                    }));
                }
                other => close_look = other,
            }
        }
    }
}

impl DiskWatch {
    /// Whether a disk as a whole lost as much as the limit.
    fn lost(&self) -> bool {
        self.disks.iter().any(|disk| disk.lost(self.limit))
    }
}

impl DiskMark {
    /// Of the disk that a directory lies on. Where that cannot be told, everything counts from its own start.
    pub fn now(directory: &Path) -> DiskMark {
        let marked = || {
            let device = rustix::fs::stat(directory).ok()?.st_dev;
            Some((device, room(directory)?))
        };
        DiskMark(marked())
    }

    fn of(&self, device: u64) -> Option<Room> {
        let (marked, room) = self.0?;
        (marked == device).then_some(room)
    }
}

impl Disk {
    fn of(place: &Path, since: Option<Room>) -> Option<Disk> {
        let stat = rustix::fs::statvfs(place).ok()?;
        let free = room(place)?;
        let at_start = since.unwrap_or(free);
        let reserve = |total: u64, most: u64, free: u64| (total / 20).min(most).min(free / 2);
        Some(Disk {
            place: place.to_owned(),
            at_start,
            reserve: Room {
                bytes: reserve(
                    stat.f_blocks.saturating_mul(stat.f_frsize),
                    RESERVE_BYTES,
                    free.bytes,
                ),
                files: reserve(stat.f_files, RESERVE_FILES, free.files),
            },
        })
    }

    fn is_down_to_reserve(&self) -> bool {
        room(&self.place)
            .is_some_and(|now| now.bytes < self.reserve.bytes || now.files < self.reserve.files)
    }

    fn lost(&self, limit: Room) -> bool {
        room(&self.place).is_some_and(|now| {
            self.at_start.bytes.saturating_sub(now.bytes) >= limit.bytes
                || self.at_start.files.saturating_sub(now.files) >= limit.files
        })
    }
}

fn room(place: &Path) -> Option<Room> {
    let stat = rustix::fs::statvfs(place).ok()?;
    Some(Room {
        bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        // Some file systems have no fixed number of files and say 0.
        files: if stat.f_files == 0 {
            u64::MAX
        } else {
            stat.f_favail
        },
    })
}

/// Adds up directories while a program may still write in them.
struct Weighing {
    found: Room,
    limit: Room,
    /// Whether what cannot be looked into counts as too much: where so much is gone from the disk, it was made so to hide it.
    is_suspected: bool,
}

/// What a directory takes on its disk with all below it, in bytes.
///
/// # Errors
/// Where it cannot be looked into, or lies too deep.
pub fn weigh(directory: &Path) -> std::io::Result<u64> {
    let mut weighing = Weighing {
        found: Room { bytes: 0, files: 0 },
        limit: Room {
            bytes: u64::MAX,
            files: u64::MAX,
        },
        is_suspected: true,
    };
    let handle = open_directory(CWD, directory)?;
    let weighed = weighing.directory(&handle, 0);
    weighed.map_err(|Over| std::io::Error::other("it cannot be looked into as a whole"))?;
    Ok(weighing.found.bytes)
}

/// Enough was found, or something cannot be looked into.
struct Over;

impl Weighing {
    fn over(places: &[PathBuf], limit: Room, is_suspected: bool) -> bool {
        let mut weighing = Weighing {
            found: Room { bytes: 0, files: 0 },
            limit,
            is_suspected,
        };
        places
            .iter()
            .any(|place| match open_directory(CWD, place.as_path()) {
                Ok(handle) => weighing.directory(&handle, 0).is_err(),
                Err(_) => false,
            })
    }

    /// Something cannot be looked into, or lies too deep.
    fn hidden(&self) -> Result<(), Over> {
        match self.is_suspected {
            true => Err(Over),
            false => Ok(()),
        }
    }

    #[allow(
        clippy::unnecessary_cast,
        reason = "these fields have other widths on other machines"
    )]
    fn directory(&mut self, handle: &OwnedFd, depth: u32) -> Result<(), Over> {
        if depth > DEPTH_MAX {
            return self.hidden();
        }
        let Ok(entries) = Dir::read_from(handle) else {
            return self.hidden();
        };
        for entry in entries {
            let Ok(entry) = entry else { return Ok(()) };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(handle, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            self.found.files += 1;
            // A file of several names is met as often.
            self.found.bytes +=
                (stat.st_blocks as u64).saturating_mul(512) / (stat.st_nlink as u64).max(1);
            if self.found.bytes >= self.limit.bytes || self.found.files >= self.limit.files {
                return Err(Over);
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                match open_directory(handle, name) {
                    Ok(below) => self.directory(&below, depth + 1)?,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(_) => self.hidden()?,
                }
            }
        }
        Ok(())
    }
}

fn open_directory(
    parent: impl std::os::fd::AsFd,
    name: impl rustix::path::Arg,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}
