//! What a system call changes: its name, and the kind of place that it changes.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Directories, each with the name by which kinds call it; what has no name is not looked at.
pub type Places = Vec<(PathBuf, Option<&'static str>)>;

/// Whether a call changes anything outside of its process.
pub enum Counted {
    Yes(String),
    No,
}

/// One process, all of its threads.
pub struct Caller {
    pid: i32,
    places: Places,
    /// Descriptors that were connected to an address of the network.
    connected: BTreeSet<u64>,
}

/// Where in its arguments a call names what it changes.
#[derive(Clone, Copy)]
enum Named {
    /// A path.
    Path(usize),
    /// A directory and a path below it.
    At(usize, usize),
    /// An open file.
    File(usize),
    /// A directory, a path below it, and flags: it may be there already.
    Opened(usize, usize, usize),
}

fn named(number: i64) -> Option<(&'static str, Named)> {
    use Named::{At, File, Opened, Path};
    Some(match number {
        libc::SYS_creat => ("truncate", Path(0)),
        libc::SYS_open => ("open", Path(0)),
        libc::SYS_openat => ("open", Opened(0, 1, 2)),
        libc::SYS_mkdir => ("mkdir", Path(0)),
        libc::SYS_mkdirat => ("mkdir", At(0, 1)),
        libc::SYS_mknodat => ("mknod", At(0, 1)),
        libc::SYS_rename => ("rename", Path(1)),
        libc::SYS_renameat | libc::SYS_renameat2 => ("rename", At(2, 3)),
        libc::SYS_unlink => ("unlink", Path(0)),
        libc::SYS_unlinkat => ("unlink", At(0, 1)),
        libc::SYS_rmdir => ("unlink", Path(0)),
        libc::SYS_symlink => ("symlink", Path(1)),
        libc::SYS_symlinkat => ("symlink", At(1, 2)),
        libc::SYS_link => ("link", Path(1)),
        libc::SYS_linkat => ("link", At(2, 3)),
        libc::SYS_chmod => ("chmod", Path(0)),
        libc::SYS_fchmod => ("chmod", File(0)),
        libc::SYS_fchmodat | libc::SYS_fchmodat2 => ("chmod", At(0, 1)),
        libc::SYS_chown => ("chown", Path(0)),
        libc::SYS_fchown => ("chown", File(0)),
        libc::SYS_fchownat => ("chown", At(0, 1)),
        libc::SYS_utimensat => ("utimens", At(0, 1)),
        libc::SYS_setxattr => ("setxattr", Path(0)),
        libc::SYS_fsetxattr => ("setxattr", File(0)),
        libc::SYS_write | libc::SYS_writev => ("write", File(0)),
        libc::SYS_pwrite64 | libc::SYS_pwritev | libc::SYS_pwritev2 => ("write", File(0)),
        libc::SYS_truncate => ("truncate", Path(0)),
        libc::SYS_ftruncate => ("truncate", File(0)),
        libc::SYS_fallocate => ("fallocate", File(0)),
        libc::SYS_copy_file_range => ("copy", File(2)),
        libc::SYS_sendfile => ("copy", File(0)),
        libc::SYS_ioctl => ("clone-file", File(0)),
        libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_sync_file_range | libc::SYS_syncfs => {
            ("sync", File(0))
        }
        libc::SYS_mount => ("mount", Path(1)),
        libc::SYS_umount2 => ("umount", Path(0)),
        libc::SYS_move_mount => ("mount", At(2, 3)),
        _ => return None,
    })
}

impl Caller {
    pub fn new(pid: i32, places: Places) -> Caller {
        Caller {
            pid,
            places,
            connected: BTreeSet::new(),
        }
    }

    /// Whether a thread is one of this process.
    pub fn owns(&self, thread: u32) -> bool {
        Path::new(&format!("/proc/{}/task/{thread}", self.pid)).exists()
    }

    pub fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
    }

    pub fn kill(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid).unwrap();
        // Nobody has waited for it: the number is still its own.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }

    /// The kind of a call, if it changes anything.
    pub fn kind(&mut self, thread: u32, number: i64, arguments: &[u64; 6]) -> Counted {
        match number {
            libc::SYS_fork | libc::SYS_vfork | libc::SYS_clone => Counted::Yes("spawn".into()),
            libc::SYS_clone3 => {
                let flags = self.read(arguments[0], 8);
                let flags = flags.and_then(|bytes| bytes.try_into().ok());
                let flags = flags.map_or(0, u64::from_ne_bytes);
                if flags & libc::CLONE_THREAD as u64 != 0 {
                    return Counted::No;
                }
                Counted::Yes("spawn".into())
            }
            libc::SYS_kill | libc::SYS_pidfd_send_signal => Counted::Yes("kill".into()),
            libc::SYS_execve | libc::SYS_execveat => Counted::Yes("exec".into()),
            libc::SYS_connect => self.connects(arguments),
            libc::SYS_sendto | libc::SYS_sendmsg if self.is_connected(arguments[0]) => {
                Counted::Yes("send network".into())
            }
            _ => self.changes(thread, number, arguments),
        }
    }

    fn connects(&mut self, arguments: &[u64; 6]) -> Counted {
        let family = self.read(arguments[1], 2);
        let family = family.and_then(|bytes| bytes.try_into().ok());
        let family = family.map(u16::from_ne_bytes).map(i32::from);
        if !matches!(family, Some(libc::AF_INET | libc::AF_INET6)) {
            return Counted::No;
        }
        self.connected.insert(arguments[0]);
        Counted::Yes("connect network".into())
    }

    fn is_connected(&self, fd: u64) -> bool {
        self.connected.contains(&fd)
            && self
                .link(&format!("fd/{fd}"))
                .is_some_and(|path| path.to_string_lossy().starts_with("socket:"))
    }

    fn changes(&self, thread: u32, number: i64, arguments: &[u64; 6]) -> Counted {
        let Some((mut name, named)) = named(number) else {
            return Counted::No;
        };
        let path = match named {
            Named::File(nth) if self.is_connected(arguments[nth]) => {
                return Counted::Yes("send network".into());
            }
            Named::File(nth) => match self.link(&format!("fd/{}", arguments[nth] as i32)) {
                Some(path) if !lasts(&path) => return Counted::No,
                path => path,
            },
            Named::Path(nth) => self.resolved(thread, libc::AT_FDCWD, arguments[nth]),
            Named::At(directory, nth) => {
                self.resolved(thread, arguments[directory] as i32, arguments[nth])
            }
            Named::Opened(directory, nth, _) => {
                self.resolved(thread, arguments[directory] as i32, arguments[nth])
            }
        };
        match (named, path.as_deref().map(is_there)) {
            (Named::Opened(_, _, flags), Some(true)) => {
                if arguments[flags] as i32 & libc::O_TRUNC == 0 {
                    return Counted::No;
                }
                name = "truncate";
            }
            (Named::Path(_) | Named::At(..), Some(is_there))
                if (name == "mkdir" && is_there) || (name == "unlink" && !is_there) =>
            {
                return Counted::No;
            }
            _ => {}
        }
        match path.map(|path| self.place(&path)) {
            Some(None) => Counted::No,
            Some(Some(place)) => Counted::Yes(format!("{name} {place}")),
            // Of a shielded process that is not ours to look into, only the calls on names and those that are made for files count.
            None if matches!(number, libc::SYS_write | libc::SYS_writev) => Counted::No,
            None => Counted::Yes(format!("{name} ?")),
        }
    }

    fn link(&self, name: &str) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/{name}", self.pid)).ok()
    }

    fn resolved(&self, thread: u32, directory: i32, address: u64) -> Option<PathBuf> {
        let name = self.text(address)?;
        if name.starts_with('/') {
            return Some(name.into());
        }
        let directory = if directory == libc::AT_FDCWD {
            self.link(&format!("task/{thread}/cwd"))
        } else {
            self.link(&format!("fd/{directory}"))
        };
        Some(directory?.join(name))
    }

    fn read(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        // A process that has shielded itself is closed to all but root: others tell fewer kinds of calls apart.
        let memory = File::open(format!("/proc/{}/mem", self.pid)).ok()?;
        memory.read_exact_at(&mut bytes, address).ok()?;
        Some(bytes)
    }

    fn text(&self, address: u64) -> Option<String> {
        let mut found = Vec::new();
        // By pieces that cross no page: the next may not be there.
        while found.len() < 8192 {
            let at = address + found.len() as u64;
            let piece = self.read(at, (64 - at % 64) as usize)?;
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                found.extend(&piece[..end]);
                return Some(String::from_utf8_lossy(&found).into_owned());
            }
            found.extend(piece);
        }
        None
    }

    /// A place without what differs from one run to the next; none outside of the places that are watched.
    fn place(&self, path: &Path) -> Option<String> {
        let (root, name) = self
            .places
            .iter()
            .find(|(root, _)| path.starts_with(root))?;
        let below = path.strip_prefix(root).ok()?;
        let parts = below.iter().map(|part| part.to_string_lossy());
        let parts: Vec<String> = parts.map(|part| steady(&part)).collect();
        Some(
            std::iter::once((*name)?.to_owned())
                .chain(shortened(&parts))
                .collect::<Vec<_>>()
                .join("/"),
        )
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Not a pipe, a socket, a file without a name, a terminal.
fn lasts(path: &Path) -> bool {
    let is_below = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    let is_unnamed = path.to_string_lossy().starts_with("/memfd:");
    let is_fleeting = is_below(&["/dev", "/proc"]) && !is_below(&["/dev/shm"]);
    path.is_absolute() && !is_unnamed && !is_fleeting
}

/// The beginning of a path, and the end of a name: below a view stand the project's own files, as many as there are.
fn shortened(parts: &[String]) -> Vec<String> {
    const DEEP: usize = 5;
    if parts.len() <= DEEP {
        return parts.to_vec();
    }
    let mut kept = parts[..DEEP - 1].to_vec();
    kept.push("..".into());
    kept
}

/// A name without numbers, digests and what is random in it.
pub fn steady(name: &str) -> String {
    if let Some(start) = [".tmp", "tmp_", "pack-"]
        .iter()
        .find(|start| name.starts_with(**start))
    {
        return format!("{start}#");
    }
    let word = |word: &str| {
        // Of a directory of objects, and the last part of a run's name.
        let hex = [2, 4].contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex || word.bytes().any(|byte| byte.is_ascii_digit()) {
            "#".to_owned()
        } else {
            word.to_owned()
        }
    };
    name.split('.')
        .map(|part| part.split('-').map(word).collect::<Vec<_>>().join("-"))
        .collect::<Vec<_>>()
        .join(".")
}
