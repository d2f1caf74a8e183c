//! Which process keeps a file locked, as the kernel tells it: for whoever has waited for it in vain.

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A process that keeps a file locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeper {
    /// The process.
    pub pid: u32,
    /// Whether it was stopped (`SIGSTOP`, a debugger), and so keeps the file for as long as nobody wakes it.
    pub stands_still: bool,
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pid = self.pid;
        match self.stands_still {
            true => write!(
                f,
                "process {pid}, which stands still: let it go on (kill -CONT {pid}), or end it (kill -KILL {pid})"
            ),
            false => write!(f, "process {pid}: wait until it has ended, or end it"),
        }
    }
}

/// SQLite's lock of whoever writes in WAL mode: this byte of the file that its processes share.
const WRITE_BYTE: u64 = 120;

/// Who has the database for writing, where that can be told.
///
/// Read from `/proc/locks`: to ask by `fcntl` one would have to open the file, and closing it gives up the locks that this process has on it.
pub fn of_database(database: &Path) -> Option<Keeper> {
    let mut shared = database.as_os_str().to_owned();
    shared.push("-shm");
    holder("POSIX", &mapped(Path::new(&shared))?, WRITE_BYTE)
}

/// Who has a whole file locked by `flock`.
pub fn of_file(file: &File) -> Option<Keeper> {
    let found = file.metadata().ok()?;
    let inode = found.ino();
    // Where the mount is not to be seen, as in a chroot, this is mostly the same.
    let of_stat = || {
        (
            rustix::fs::major(found.dev()),
            rustix::fs::minor(found.dev()),
        )
    };
    let (major, minor) = device(file).unwrap_or_else(of_stat);
    holder("FLOCK", &format!("{major:02x}:{minor:02x}:{inode}"), 0)
}

/// The device of an open file's file system, which is that of its mount: `stat` has another one on btrfs, and on some overlays.
fn device(file: &File) -> Option<(u32, u32)> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let mount = info
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))?
        .trim();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let of_mount = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == mount).then_some(())?;
        let (major, minor) = words.nth(1)?.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    mounts.lines().find_map(of_mount)
}

fn holder(kind: &str, file: &str, byte: u64) -> Option<Keeper> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = locks
        .lines()
        .find_map(|line| locker(line, kind, file, byte))?;
    Some(Keeper {
        pid,
        stands_still: state(pid).is_some_and(|state| matches!(state, 'T' | 't')),
    })
}

/// Device and inode of a file that this process has mapped, in the words of `/proc/locks`: for some file systems `stat` has another device.
fn mapped(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps
        .lines()
        .find(|line| line.ends_with(path.to_str().unwrap_or("\n")))?;
    let mut words = line.split_ascii_whitespace().skip(3);
    Some(format!("{}:{}", words.next()?, words.next()?))
}

/// The process of a line such as `7: POSIX  ADVISORY  WRITE 412 fd:00:131 120 120`; those that only wait have an arrow in it.
fn locker(line: &str, kind: &str, file: &str, byte: u64) -> Option<u32> {
    let words: Vec<&str> = line.split_ascii_whitespace().skip(1).collect();
    let [how, _, access, pid, of, first, last] = words[..] else {
        return None;
    };
    let covers = first.parse().is_ok_and(|first: u64| first <= byte)
        && (last == "EOF" || last.parse().is_ok_and(|last: u64| last >= byte));
    let is_it = how == kind && access == "WRITE" && of == file && covers;
    pid.parse().ok().filter(|pid| is_it && *pid > 0)
}

/// `T` where it was stopped.
fn state(pid: u32) -> Option<char> {
    stat(pid, STATE)?.chars().next()
}

/// How long a process has run, in ticks of the system.
pub(crate) fn ticks(pid: u32) -> Option<u64> {
    let ticks = |field| stat(pid, field)?.parse::<u64>().ok();
    Some(ticks(USER_TIME)? + ticks(SYSTEM_TIME)?)
}

/// Fields of `/proc/PID/stat`, from the state on (proc(5)).
const STATE: usize = 0;
const USER_TIME: usize = 11;
const SYSTEM_TIME: usize = 12;

fn stat(pid: u32, field: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, also brackets.
    let fields = stat.rsplit_once(')')?.1;
    fields
        .split_ascii_whitespace()
        .nth(field)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_is_told_from_readers_from_those_who_wait_and_from_other_files() {
        let pid = |line: &str| locker(line, "POSIX", "fd:00:131", WRITE_BYTE);
        assert_eq!(
            pid("1: POSIX  ADVISORY  WRITE 412 fd:00:131 120 120"),
            Some(412)
        );
        assert_eq!(
            pid("1: POSIX  ADVISORY  WRITE 412 fd:00:131 0 EOF"),
            Some(412)
        );
        for other in [
            "1: POSIX  ADVISORY  READ 412 fd:00:131 120 120",
            "1: POSIX  ADVISORY  WRITE 412 fd:00:131 123 127",
            "1: POSIX  ADVISORY  WRITE 412 fd:00:132 120 120",
            "1: -> POSIX  ADVISORY  WRITE 412 fd:00:131 120 120",
            "1: FLOCK  ADVISORY  WRITE 412 fd:00:131 0 EOF",
            "1: OFDLCK ADVISORY  WRITE -1 fd:00:131 120 120",
            "",
        ] {
            assert_eq!(pid(other), None, "{other}");
        }
    }
}
