//! A kernel without openat2 (or a container that forbids it): trees are taken in and written out as strictly as ever.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use repo::StoreError;
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::fixture::{fixture, write};

/// For the process that has no openat2: the file that it makes at its end.
const ASKED: &str = "MOAT_TEST_WITHOUT_OPENAT2";

#[test]
fn without_openat2_nothing_outside_is_read_or_written() {
    if let Some(mark) = std::env::var_os(ASKED) {
        forbid_openat2();
        hostile_view();
        fs::write(mark, "done").unwrap();
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mark = place.path().join("mark");
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "openat2::without_openat2_nothing_outside_is_read_or_written",
        ])
        .env(ASKED, &mark)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}{errors}");
    assert!(mark.exists(), "{said}");
}

/// For this thread and those that it starts, as long as they live.
fn forbid_openat2() {
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = seccompiler::SeccompFilter::new(
        [(libc::SYS_openat2, vec![])].into(),
        seccompiler::SeccompAction::Allow,
        seccompiler::SeccompAction::Errno(libc::ENOSYS as u32),
        arch,
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
    let (flags, mode) = (rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    let resolve = rustix::fs::ResolveFlags::BENEATH;
    let tried = rustix::fs::openat2(rustix::fs::CWD, ".", flags, mode, resolve);
    assert_eq!(tried.unwrap_err(), Errno::NOSYS);
}

fn hostile_view() {
    let fixture = fixture(&[("a", "1"), ("dir/b", "2"), ("dir/deep/c", "3")]);
    let (_, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    let outside = fixture.dir.path().join("outside");
    for name in ["secret", "b", "deep/c"] {
        write(&outside.join(name), "CANARY");
    }
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    for directory in ["", "deep"] {
        let events = inotify::WatchFlags::OPEN
            | inotify::WatchFlags::ACCESS
            | inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE;
        inotify::add_watch(&watch, outside.join(directory), events).unwrap();
    }

    // Files, directories and parents of files that the base has, replaced by ways out.
    fs::remove_file(path.join("a")).unwrap();
    symlink(outside.join("secret"), path.join("a")).unwrap();
    fs::remove_dir_all(path.join("dir")).unwrap();
    symlink(&outside, path.join("dir")).unwrap();
    symlink("../outside/secret", path.join("relative")).unwrap();
    symlink("/proc/self/root", path.join("root")).unwrap();
    symlink("dir/secret", path.join("through")).unwrap();
    let report = fixture.import(&path, &base);
    let files = fixture.files(&report.tree);
    assert!(
        files.values().all(|content| !content.contains("CANARY")),
        "{files:?}"
    );
    assert_eq!(
        (&*files["a"], &*files["dir/b"], &*files["dir/deep/c"]),
        ("1", "2", "3")
    );

    // The other way round: a worktree is not written where a link leads.
    let link = fixture.dir.path().join("link");
    symlink(&outside, &link).unwrap();
    let written = fixture.mirror.materialise(&base, &link, &|_, _| true);
    assert!(matches!(written, Err(StoreError::Io { .. })), "{written:?}");

    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let event = inotify::Reader::new(&watch, &mut buffer)
        .next()
        .map(|e| e.events());
    assert_eq!(event, Err(Errno::AGAIN), "something outside was touched");
}
