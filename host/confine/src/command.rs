//! What is to be run, and how it ended.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::disk::DiskMark;

/// A program to run confined. It sees the mounts, a private `/tmp`, `/dev` and `/proc`, and nothing else.
#[derive(Debug)]
pub struct Command {
    /// Absolute, as seen inside.
    pub program: PathBuf,
    /// Without the program's name.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Working directory, as seen inside.
    pub directory: PathBuf,
    /// Later mounts cover earlier ones.
    pub mounts: Vec<Mount>,
    /// What it can reach.
    pub network: Network,
    /// What it may use.
    pub limits: Limits,
    /// What its writable mounts hold counts from here; absent: from its start.
    pub since: Option<DiskMark>,
    /// Given on standard input.
    pub stdin: Vec<u8>,
    /// Become descriptors 3, 4, … of the program.
    pub pass: Vec<OwnedFd>,
}

/// A piece of the host that is visible inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// A host directory or file, read-only with all that is mounted below it.
    ReadOnly {
        /// On the host.
        host: PathBuf,
        /// Where it is seen.
        inside: PathBuf,
    },
    /// A host directory or file that can be changed.
    ReadWrite {
        /// On the host.
        host: PathBuf,
        /// Where it is seen.
        inside: PathBuf,
    },
    /// A tree of which nothing can be changed but its writable parts.
    Tree {
        /// On the host.
        tree: Tree,
        /// Files and directories of it, as relative paths; an empty one is all of it. None lies behind a symbolic link.
        writable: Vec<PathBuf>,
        /// Where it is seen.
        inside: PathBuf,
    },
    /// Directories, one over the other, that seem writable; changes go to `upper`.
    Overlay {
        /// On the host, the topmost first; never changed.
        lower: Vec<PathBuf>,
        /// On the host, takes the changes.
        upper: PathBuf,
        /// On the host, empty, on the same file system as `upper`.
        work: PathBuf,
        /// Where it is seen.
        inside: PathBuf,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Where it is seen.
        inside: PathBuf,
        /// Its size.
        size_bytes: u64,
    },
    /// A symbolic link.
    Link {
        /// What it says.
        target: PathBuf,
        /// Where it is seen.
        inside: PathBuf,
    },
    /// A small file with this content.
    Text {
        /// Where it is seen.
        inside: PathBuf,
        /// Its content.
        content: String,
    },
}

/// Where the files of a tree are on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tree {
    /// In a directory.
    Directory(PathBuf),
    /// In `lower`, and over them in `upper`: what an overlay in a user namespace makes of them. At most one program at a time may change it.
    Layers {
        /// Shared, never changed; the topmost first.
        lower: Vec<PathBuf>,
        /// Takes the changes.
        upper: PathBuf,
        /// Empty at first, on the same file system as `upper`.
        work: PathBuf,
    },
}

impl Tree {
    /// The directory that changes go to.
    pub fn changes(&self) -> &Path {
        match self {
            Tree::Directory(directory) => directory,
            Tree::Layers { upper, .. } => upper,
        }
    }

    /// Its directories, the topmost first.
    pub fn layers(&self) -> Vec<PathBuf> {
        match self {
            Tree::Directory(directory) => vec![directory.clone()],
            Tree::Layers { lower, upper, .. } => {
                std::iter::once(upper).chain(lower).cloned().collect()
            }
        }
    }
}

impl Mount {
    /// Where it is seen.
    pub fn inside(&self) -> &PathBuf {
        match self {
            Mount::ReadOnly { inside, .. }
            | Mount::ReadWrite { inside, .. }
            | Mount::Tree { inside, .. }
            | Mount::Overlay { inside, .. }
            | Mount::Tmpfs { inside, .. }
            | Mount::Link { inside, .. }
            | Mount::Text { inside, .. } => inside,
        }
    }

    /// Where inside it can be changed.
    pub(crate) fn writable(&self) -> Vec<PathBuf> {
        match self {
            Mount::ReadWrite { inside, .. }
            | Mount::Overlay { inside, .. }
            | Mount::Tmpfs { inside, .. } => vec![inside.clone()],
            Mount::Tree {
                writable, inside, ..
            } => writable.iter().map(|part| below(inside, part)).collect(),
            Mount::ReadOnly { .. } | Mount::Link { .. } | Mount::Text { .. } => vec![],
        }
    }

    /// Where on the host its changes go.
    pub(crate) fn changes(&self) -> Vec<PathBuf> {
        match self {
            Mount::ReadWrite { host, .. } => vec![host.clone()],
            Mount::Overlay { upper, .. } => vec![upper.clone()],
            Mount::Tree { tree, writable, .. } => match tree {
                Tree::Directory(host) => writable.iter().map(|part| below(host, part)).collect(),
                Tree::Layers { upper, .. } if !writable.is_empty() => vec![upper.clone()],
                Tree::Layers { .. } => vec![],
            },
            Mount::ReadOnly { .. }
            | Mount::Tmpfs { .. }
            | Mount::Link { .. }
            | Mount::Text { .. } => vec![],
        }
    }
}

/// A part of a tree; the empty one is the tree itself, and a path that ends in a slash would not do for a file.
pub(crate) fn below(root: &Path, part: &Path) -> PathBuf {
    match part.as_os_str().is_empty() {
        true => root.to_owned(),
        false => root.join(part),
    }
}

/// What a program can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A loopback of its own, shared with nothing.
    None,
    /// As `None`, and on that loopback one listener, at [`crate::DOOR_PORT`], which the host serves: see [`crate::Launcher::run_with_door`].
    Door,
    /// The host's network; for services that the project deploys.
    Host,
}

/// What a program and all that it starts may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Private writable memory of each process; absent: unlimited.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at one time.
    pub processes: u32,
    /// Size of any one file.
    pub file_bytes: u64,
    /// What the writable mounts of the host may hold in all; looked at once their disk lost as much.
    pub disk_bytes: u64,
    /// Files and directories that the writable mounts of the host may hold in all.
    pub disk_files: u64,
    /// Descriptors of each process.
    pub open_files: u32,
    /// The private `/tmp`.
    pub tmp_bytes: u64,
    /// Wall clock; at its end the whole tree is killed.
    pub wall: Duration,
    /// How long all of it together may stand still: print nothing and take no processor time. Absent: as long as it likes.
    pub idle: Option<Duration>,
    /// Each of stdout and stderr: the middle is dropped beyond it.
    pub output_bytes: usize,
}

impl Limits {
    /// Enough for a compiler and its test suite, and not for a machine's trouble.
    pub fn for_builds(wall: Duration) -> Limits {
        Limits {
            memory_bytes: Some(8 << 30),
            processes: 512,
            file_bytes: 4 << 30,
            disk_bytes: 8 << 30,
            disk_files: 1_000_000,
            open_files: 4096,
            tmp_bytes: 1 << 30,
            wall,
            idle: None,
            output_bytes: 1 << 20,
        }
    }
}

/// How a confined program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// Killed at its deadline.
    Deadline,
    /// Killed because it stood still for as long as it may: it printed nothing, and none of its processes took any processor time.
    Idle,
    /// Killed because the writable mounts grew beyond their limit, or the disk was about to be full.
    DiskFull,
}

/// What held the program, the lower level first. There is none without namespaces and seccomp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Namespaces and seccomp, on a kernel without Landlock, or with less of it than `Full` asks for: of two layers over the files one.
    Namespaces,
    /// Namespaces, Landlock and seccomp together.
    Full,
}

/// A program that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How.
    pub ending: Ending,
    /// Its output, the middle dropped beyond the limit.
    pub stdout: Vec<u8>,
    /// Its errors, the middle dropped beyond the limit.
    pub stderr: Vec<u8>,
    /// Whether a middle was dropped.
    pub truncated: bool,
    /// Wall clock from spawn to end.
    pub duration: Duration,
    /// What held it. For a program that was ended before it had begun: the least that would have been accepted.
    pub level: Level,
}
