//! Programs that fill the disk, and what they leave.

use std::path::Path;
use std::process::Command as Program;
use std::time::Duration;

use confine::{DiskMark, Ending, remove_tree};
use tempfile::TempDir;

use crate::place::{Place, text};

async fn ending(place: &Place, script: &str, bytes: u64, files: u64) -> Ending {
    let mut command = place.command("python3", &["-c", script], Duration::from_secs(60));
    command.limits.disk_bytes = bytes;
    command.limits.disk_files = files;
    let finished = place.launcher.run(command).await.unwrap();
    assert_eq!(text(&finished.stdout), "", "it got to its end");
    finished.ending
}

#[tokio::test]
async fn what_lies_deep_or_behind_closed_doors_is_found() {
    for hide in [
        "for n in range(300): os.mkdir('d'); os.chdir('d')",
        "os.mkdir('d'); os.chdir('d'); os.chmod('.', 0o300)",
    ] {
        // What others free meanwhile would hide what it takes.
        let place = Place::alone();
        let script = format!(
            "import os, time\n{hide}\nfor n in range(20):\n f = open('f%d' % n, 'wb'); f.write(b'x' * 10_000_000); f.close()\ntime.sleep(50); print('end')"
        );
        assert_eq!(
            ending(&place, &script, 100_000_000, 1_000_000).await,
            Ending::DiskFull,
            "{hide}"
        );
        remove_tree(place.work.path()).unwrap();
        std::fs::create_dir(place.work.path()).unwrap();
    }
}

#[tokio::test]
async fn what_commands_before_left_counts_where_they_share_a_mark() {
    let place = Place::new();
    let mark = DiskMark::now(place.work.path());
    let script = |name: &str| {
        format!(
            "import time\nfor n in range(4):\n f = open('{name}%d' % n, 'wb'); f.write(b'x' * 10_000_000); f.close()\ntime.sleep(3)"
        )
    };
    let run = async |name: &str, since| {
        let script = script(name);
        let mut command = place.command("python3", &["-c", &script], Duration::from_secs(60));
        command.limits.disk_bytes = 60_000_000;
        command.since = since;
        place.launcher.run(command).await.unwrap().ending
    };
    assert_eq!(run("a", Some(mark.clone())).await, Ending::Exited(0));
    assert_eq!(run("b", Some(mark)).await, Ending::DiskFull);
}

#[tokio::test]
async fn empty_files_without_end_are_stopped() {
    let place = Place::new();
    let script =
        "import os, time\nfor n in range(20000): os.mknod('f%d' % n)\ntime.sleep(50); print('end')";
    assert_eq!(
        ending(&place, script, u64::MAX, 10_000).await,
        Ending::DiskFull
    );
}

#[tokio::test]
async fn space_is_taken_by_writing_only() {
    let place = Place::new();
    let script = "import os, ctypes\nfd = os.open('f', os.O_CREAT | os.O_RDWR)\n\
        libc = ctypes.CDLL(None, use_errno=True)\nprint(libc.fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(1 << 32)), ctypes.get_errno())\n\
        os.posix_fallocate(fd, 0, 1 << 20)\nprint(os.stat('f').st_size)";
    let finished = place.python(script).await;
    assert_eq!(
        text(&finished.stdout),
        "-1 95\n1048576\n",
        "{}",
        text(&finished.stderr)
    );
}

/// A small disk of its own; only root can have one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> Option<SmallDisk> {
        let directory = TempDir::new().unwrap();
        let mounted = Program::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(directory.path())
            .output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        is_mounted.then(|| SmallDisk(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Program::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_part_of_the_disk_stays_free_even_of_files_without_a_name() {
    let Some(disk) = SmallDisk::new() else {
        return;
    };
    let place = Place::new();
    let script = "import os, time\nfd = os.open('f', os.O_CREAT | os.O_RDWR); os.unlink('f')\n\
        for n in range(62):\n os.write(fd, b'x' * (1 << 20)); time.sleep(0.02)\ntime.sleep(50); print('end')";
    let mut command = place.command("python3", &["-c", script], Duration::from_secs(60));
    command.mounts.push(confine::Mount::ReadWrite {
        host: disk.0.path().into(),
        inside: "/small".into(),
    });
    command.directory = "/small".into();
    let finished = place.launcher.run(command).await.unwrap();
    assert_eq!(finished.ending, Ending::DiskFull);
    std::fs::write(disk.0.path().join("journal"), "x".repeat(1 << 20)).unwrap();
}

fn left(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

#[tokio::test]
async fn whatever_was_left_can_be_removed() {
    let outside = TempDir::new().unwrap();
    std::fs::write(outside.path().join("keep"), "x").unwrap();
    let place = Place::new();
    let script = format!(
        "import os\nos.symlink('{}', 'link'); os.mkfifo('pipe'); os.mkdir('moved-1'); open('moved-1/x', 'w'); open('moved-2', 'w')\n\
         os.mkdir('shut'); open('shut/f', 'w'); os.mkdir('shut/in'); os.chmod('shut/in', 0); os.chmod('shut', 0)\n\
         open(b'\\xff\\n', 'w')\nfor n in range(1200): os.mkdir('d'); open('f', 'w').close(); os.chdir('d')\nos.chmod('.', 0)",
        outside.path().display()
    );
    let finished = place.python(&script).await;
    assert_eq!(
        finished.ending,
        Ending::Exited(0),
        "{}",
        text(&finished.stderr)
    );
    let work = place.work.path().to_owned();
    // A small stack and few descriptors: neither may be needed in proportion to the depth.
    let few = rustix::process::Rlimit {
        current: Some(1000),
        ..rustix::process::getrlimit(rustix::process::Resource::Nofile)
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, few).unwrap();
    let removing = std::thread::Builder::new().stack_size(512 * 1024);
    let removed = removing
        .spawn({
            let work = work.clone();
            move || remove_tree(&work)
        })
        .unwrap();
    removed.join().unwrap().unwrap();
    assert!(!left(&work) && left(&outside.path().join("keep")));
    remove_tree(&work).unwrap();
    std::fs::write(&work, "a file").unwrap();
    remove_tree(&work).unwrap();
    std::os::unix::fs::symlink(outside.path(), &work).unwrap();
    remove_tree(&work).unwrap();
    assert!(!left(&work) && left(&outside.path().join("keep")));
    std::fs::create_dir(&work).unwrap();
}
