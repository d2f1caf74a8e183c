//! The file system inside: an empty root with what was listed, and nothing of the host's beyond it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::child::{At as _, Failed, sys};
use crate::command::{Mount, Tree};
use crate::specification::Specification;

const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const RDONLY: u64 = 0x1;

/// Covered by the new root for a moment; every Linux has it.
const STAGE: &str = "/tmp";

/// Devices that hold no authority.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// A piece that was taken hold of before the host's paths go out of sight.
enum Piece {
    Tree(OwnedFd, bool),
    /// A directory that can be changed, of which only these parts will be.
    Parts(OwnedFd, Vec<PathBuf>),
    Made(Mount),
}

/// A root that lacks only what the specification says.
pub(crate) struct Root {
    /// Opened while it could be written: for root it is read-only afterwards.
    pid_max: Option<File>,
    guard: Option<Guard>,
}

/// Builds what no specification changes, and stands in it. The host's mounts are in sight, and follow the host's own (`slave`) until the rest is
/// built.
pub(crate) fn prepare(by_root: bool) -> Result<Root, Failed> {
    let devices = DEVICES
        .iter()
        .map(|name| Ok((*name, clone_tree(&Path::new("/dev").join(name), 0)?)))
        .collect::<Result<Vec<_>, Failed>>()?;
    sys::mount(
        "tmpfs",
        Path::new(STAGE),
        libc::MS_NOSUID | libc::MS_NODEV,
        "mode=0755,size=16m,nr_inodes=20k",
    )
    .at("root")?;
    std::env::set_current_dir(STAGE).at("root")?;
    // From where it was made to where it is in nobody's way: over the root, whose paths begin beneath it.
    move_mount(CWD, ".", CWD, "/", MoveMountFlags::empty()).at("root")?;
    basics(devices)?;
    let pid_max = pid_max(by_root)?;
    let mut guard = by_root.then(Guard::default);
    if let Some(guard) = &mut guard {
        guard.proc()?;
    }
    Ok(Root { pid_max, guard })
}

/// Adds what was specified, and makes it the root. The old one is still there, and out of the way of paths.
pub(crate) fn finish(mut root: Root, specification: &Specification) -> Result<(), Failed> {
    sys::remount("/", libc::MS_REC | libc::MS_PRIVATE).at("private mounts")?;
    let pieces = specification
        .mounts
        .iter()
        .map(|mount| Ok((mount.inside().clone(), hold(mount)?)))
        .collect::<Result<Vec<_>, Failed>>()?;
    let size = format!(
        "mode=1777,size={},nr_inodes=200k",
        specification.limits.tmp_bytes
    );
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    sys::mount("tmpfs", Path::new("tmp"), flags, &size).at("tmp")?;
    fs::create_dir("tmp/home").at("tmp")?;
    for (inside, piece) in pieces {
        place(&inside, piece)?;
    }
    if let Some(file) = &mut root.pid_max {
        // The kernel takes no less than its reserved pids and one.
        let most = specification.limits.processes.max(310).to_string();
        file.write_all(most.as_bytes()).at("process limit")?;
    }
    if let Some(guard) = &mut root.guard {
        guard.proc()?;
    }
    sys::pivot_here().at("pivot root")
}

/// Lets go of the host's mounts, and makes the root read-only.
pub(crate) fn seal() -> Result<(), Failed> {
    sys::leave_old_root().at("pivot root")?;
    std::env::set_current_dir("/").at("pivot root")?;
    sys::remount(
        "/",
        libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV,
    )
    .at("read-only root")?;
    sys::remount(
        "/dev",
        libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID,
    )
    .at("read-only dev")
}

/// Takes hold of a piece by descriptor, so that no path of the host is resolved twice.
fn hold(mount: &Mount) -> Result<Piece, Failed> {
    Ok(match mount {
        Mount::ReadOnly { host, .. } => {
            Piece::Tree(clone_tree(host, NOSUID | NODEV | RDONLY)?, host.is_dir())
        }
        Mount::ReadWrite { host, .. } => {
            Piece::Tree(clone_tree(host, NOSUID | NODEV)?, host.is_dir())
        }
        Mount::Tree { tree, writable, .. } => {
            let root = match tree {
                Tree::Directory(host) => clone_tree(host, NOSUID | NODEV)?,
                Tree::Layers { upper, work, .. } if !writable.is_empty() => {
                    overlay(&tree.layers()[1..], Some((upper, work))).at("overlay")?
                }
                Tree::Layers { .. } => overlay(&tree.layers(), None).at("overlay")?,
            };
            Piece::Parts(root, writable.clone())
        }
        Mount::Overlay {
            lower, upper, work, ..
        } => {
            let made = overlay(lower, Some((upper, work)));
            Piece::Tree(made.at("overlay")?, true)
        }
        Mount::Tmpfs { .. } | Mount::Link { .. } | Mount::Text { .. } => Piece::Made(mount.clone()),
    })
}

fn clone_tree(host: &Path, attributes: u64) -> Result<OwnedFd, Failed> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, host, flags).map_err(|errno| Failed {
        step: format!("mount of {}", host.display()),
        error: errno.into(),
    })?;
    if attributes != 0 {
        sys::mount_attributes(tree.as_raw_fd(), attributes).at("mount attributes")?;
    }
    Ok(tree)
}

/// A directory as an option of a mount names it, by a descriptor: a path may be longer than the 255 bytes of an option, and hold what separates
/// paths or options. It is held until the mount is made.
struct Named {
    name: String,
    _held: OwnedFd,
}

impl Named {
    fn new(directory: &Path) -> std::io::Result<Named> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
        Ok(Named {
            name: format!("/proc/self/fd/{}", held.as_raw_fd()),
            _held: held,
        })
    }
}

/// `lower` has the topmost first; changes go to the first of `upper`, whose second is for the kernel's own work on the same file system.
fn overlay(lower: &[PathBuf], upper: Option<(&PathBuf, &PathBuf)>) -> std::io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let lower = lower.iter().map(|layer| Named::new(layer));
    let lower = lower.collect::<std::io::Result<Vec<_>>>()?;
    // As one text: older kernels do not take them one by one (`lowerdir+`). A dozen of them are short enough.
    let names: Vec<&str> = lower.iter().map(|layer| layer.name.as_str()).collect();
    fsconfig_set_string(&context, "lowerdir", names.join(":"))?;
    let upper = upper.map(|(upper, work)| {
        Ok::<_, std::io::Error>((Named::new(upper)?, Named::new(work)?, work))
    });
    let upper = upper.transpose()?;
    if let Some((upper, named_work, work)) = &upper {
        // All that is mounted so is made anew after a power cut, and without it an unmount writes out all that the file system holds. The kernel
        // marks what it works with, lest it be mounted again after one: what a step's commands share is, in its turn.
        match fs::remove_dir_all(work.join("work/incompat/volatile")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => fsconfig_set_flag(&context, "volatile")?,
        }
        fsconfig_set_string(&context, "upperdir", &upper.name)?;
        fsconfig_set_string(&context, "workdir", &named_work.name)?;
        // A layer that takes the changes of one mount lies beneath another while the first stands still; with an index the kernel refuses that.
        fsconfig_set_string(&context, "index", "off")?;
    }
    fsconfig_set_flag(&context, "userxattr")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// What every program expects: /proc and /dev, and a place for /tmp.
fn basics(devices: Vec<(&str, OwnedFd)>) -> Result<(), Failed> {
    for directory in ["proc", "dev", "tmp"] {
        fs::create_dir(directory).at("root")?;
    }
    sys::mount(
        "proc",
        Path::new("proc"),
        libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
        "",
    )
    .at("proc")?;
    sys::mount(
        "tmpfs",
        Path::new("dev"),
        libc::MS_NOSUID,
        "mode=0755,size=64k",
    )
    .at("dev")?;
    for (name, tree) in devices {
        fs::write(Path::new("dev").join(name), "").at("dev")?;
        attach(&tree, &Path::new("dev").join(name))?;
    }
    fs::create_dir("dev/shm").at("dev")?;
    sys::mount(
        "tmpfs",
        Path::new("dev/shm"),
        libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
        "mode=1777,size=64m,nr_inodes=10k",
    )
    .at("dev")?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, Path::new("dev").join(name)).at("dev")?;
    }
    Ok(())
}

fn place(inside: &Path, piece: Piece) -> Result<(), Failed> {
    let target: PathBuf = PathBuf::from(".").join(inside.strip_prefix("/").unwrap_or(inside));
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).at("mount point")?;
    }
    match piece {
        Piece::Tree(tree, directory) => {
            if directory {
                fs::create_dir_all(&target).at("mount point")?;
            } else {
                made(&target).at("mount point")?;
            }
            attach(&tree, &target)
        }
        Piece::Parts(root, parts) => {
            fs::create_dir_all(&target).at("mount point")?;
            attach(&root, &target)?;
            open_parts(&root, &target, &parts)
        }
        Piece::Made(Mount::Tmpfs { size_bytes, .. }) => {
            fs::create_dir_all(&target).at("mount point")?;
            let data = format!("mode=0755,size={size_bytes}");
            sys::mount("tmpfs", &target, libc::MS_NOSUID | libc::MS_NODEV, &data).at("tmpfs")
        }
        Piece::Made(Mount::Link { target: says, .. }) => {
            std::os::unix::fs::symlink(says, &target).at("link")
        }
        Piece::Made(Mount::Text { content, .. }) => fs::write(&target, content).at("text"),
        Piece::Made(_) => Ok(()),
    }
}

/// Makes a tree that is mounted already read-only, but for its writable parts: those are mounted over it.
fn open_parts(root: &OwnedFd, target: &Path, parts: &[PathBuf]) -> Result<(), Failed> {
    if parts.iter().any(|part| part.as_os_str().is_empty()) {
        return Ok(());
    }
    let parts = parts
        .iter()
        .map(|part| Ok((part, clone_part(root, part).at("writable part")?)))
        .collect::<Result<Vec<_>, Failed>>()?;
    sys::mount_attributes(root.as_raw_fd(), RDONLY).at("mount attributes")?;
    parts
        .iter()
        .try_for_each(|(part, tree)| attach(tree, &target.join(part)))
}

/// Step by step: a symbolic link on the way could lead out of the tree, to anything of the host's.
fn clone_part(root: &OwnedFd, part: &Path) -> std::io::Result<OwnedFd> {
    let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(root, ".", step, Mode::empty())?;
    for component in part.components() {
        let Component::Normal(name) = component else {
            return Err(Errno::INVAL.into());
        };
        at = rustix::fs::openat(&at, name, step, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&at)?.st_mode) == FileType::Symlink {
            return Err(Errno::LOOP.into());
        }
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(&at, "", flags)?)
}

/// A file to mount upon. One that is there already may be the host's: it is never opened for writing.
fn made(target: &Path) -> std::io::Result<()> {
    match fs::File::create_new(target) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn attach(tree: &OwnedFd, target: &Path) -> Result<(), Failed> {
    move_mount(
        tree,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .at("mount")
}

/// Much of /proc is open to the machine's root by its user id alone, without any capability, and inside it is still that user: what can be
/// written there becomes read-only, and what only root may read is empty. Landlock refuses the writing as well.
#[derive(Default)]
struct Guard {
    seen: BTreeSet<OsString>,
}

impl Guard {
    /// Once ahead and once more when the program is known: the kernel may have loaded a module in between.
    fn proc(&mut self) -> Result<(), Failed> {
        let (nothing, step) = (Path::new("dev/null"), "guarded proc");
        for entry in fs::read_dir("proc").at(step)? {
            let entry = entry.at(step)?;
            let name = entry.file_name();
            // Processes come and go, and belong to this namespace.
            let is_process = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
            if is_process || self.seen.contains(&name) {
                continue;
            }
            let (path, data) = (entry.path(), entry.metadata().at(step)?);
            let mode = std::os::unix::fs::PermissionsExt::mode(&data.permissions());
            let source = match (data.file_type().is_file(), data.is_dir()) {
                (true, _) if mode & 0o044 == 0 => Some(nothing),
                (true, _) if mode & 0o222 != 0 => Some(path.as_path()),
                (_, true) => Some(path.as_path()),
                _ => None,
            };
            if let Some(source) = source {
                attach(&clone_tree(source, NOSUID | RDONLY)?, &path)?;
            }
            self.seen.insert(name);
        }
        Ok(())
    }
}

/// Bounds the whole tree: RLIMIT_NPROC does not hold for root, a namespace's `pid_max` holds for all.
fn pid_max(by_root: bool) -> Result<Option<File>, Failed> {
    let step = "process limit";
    if has_pid_max_of_its_own() {
        let file = fs::OpenOptions::new()
            .write(true)
            .open("proc/sys/kernel/pid_max");
        return file.map(Some).at(step);
    }
    if !by_root {
        return Ok(None);
    }
    Err(Failed {
        step: step.into(),
        error: std::io::Error::from_raw_os_error(libc::ENOSYS),
    })
}

/// From Linux 6.14 each pid namespace has its own. Before, the file is the whole machine's, and root could write it.
fn has_pid_max_of_its_own() -> bool {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 14)
}
