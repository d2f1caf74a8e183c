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

use crate::command::{Limits, Mount};

/// Between two looks. A look is one system call a file system.
const PERIOD: Duration = Duration::from_millis(100);

/// What stays free of a large disk, for the journal and for everybody else.
const RESERVE_BYTES: u64 = 1 << 30;
const RESERVE_FILES: u64 = 65_536;

/// No source tree and no build goes deeper; what does is made to be overlooked.
const DEPTH_MAX: u32 = 200;

/// Watches over the writable mounts of one program.
#[derive(Debug, Clone)]
pub struct DiskWatch {
    places: Vec<PathBuf>,
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
    pub(crate) fn new(mounts: &[Mount], limits: &Limits) -> DiskWatch {
        let places: Vec<PathBuf> = mounts.iter().flat_map(Mount::changes).collect();
        let by_device: BTreeMap<u64, &PathBuf> = places
            .iter()
            .filter_map(|place| Some((rustix::fs::stat(place).ok()?.st_dev, place)))
            .collect();
        let disks = by_device
            .into_values()
            .filter_map(|place| Disk::of(place))
            .collect();
        let limit = Room {
            bytes: limits.disk_bytes,
            files: limits.disk_files,
        };
        DiskWatch {
            places,
            disks,
            limit,
        }
    }

    /// Returns when the limit is passed or a disk is down to its reserve; never, where nothing is writable.
    ///
    /// Looks closely, at every file, only when a disk as a whole lost as much as the limit.
    pub async fn exceeded(&self) {
        if self.disks.is_empty() {
            return std::future::pending().await;
        }
        let mut close_look: Option<tokio::task::JoinHandle<bool>> = None;
        let mut not_before = Instant::now();
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
                    && self.disks.iter().any(|disk| disk.lost(self.limit)) =>
                {
                    let (places, limit) = (self.places.clone(), self.limit);
                    close_look = Some(tokio::task::spawn_blocking(move || {
                        Weighing::over(&places, limit)
                    }));
                }
                other => close_look = other,
            }
        }
    }
}

impl Disk {
    fn of(place: &Path) -> Option<Disk> {
        let stat = rustix::fs::statvfs(place).ok()?;
        let at_start = room(place)?;
        let reserve = |total: u64, most: u64, free: u64| (total / 20).min(most).min(free / 2);
        Some(Disk {
            place: place.to_owned(),
            at_start,
            reserve: Room {
                bytes: reserve(
                    stat.f_blocks.saturating_mul(stat.f_frsize),
                    RESERVE_BYTES,
                    at_start.bytes,
                ),
                files: reserve(stat.f_files, RESERVE_FILES, at_start.files),
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
}

/// Enough was found, or something cannot be looked into.
struct Over;

impl Weighing {
    fn over(places: &[PathBuf], limit: Room) -> bool {
        let mut weighing = Weighing {
            found: Room { bytes: 0, files: 0 },
            limit,
        };
        places
            .iter()
            .any(|place| match open_directory(CWD, place.as_path()) {
                Ok(handle) => weighing.directory(&handle, 0).is_err(),
                Err(_) => false,
            })
    }

    #[allow(
        clippy::unnecessary_cast,
        reason = "these fields have other widths on other machines"
    )]
    /// What cannot be looked into, or lies too deep, counts as too much: it was made so by the program.
    fn directory(&mut self, handle: &OwnedFd, depth: u32) -> Result<(), Over> {
        if depth > DEPTH_MAX {
            return Err(Over);
        }
        for entry in Dir::read_from(handle).map_err(|_| Over)? {
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
                    Err(_) => return Err(Over),
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
