//! Launchers that wait for their program: each is used once, holds nothing, and is gone with whoever started it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};
use std::time::{Duration, Instant};

use confine::{Command, ConfineError, Ending, Launcher, Level, Mount};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::faults::PORTRAIT;
use crate::place::{Place, Turn, alive, launcher, text};

/// One that waits is three processes: the launcher, init, and what becomes the program.
const WAITING: usize = 3;

const WALL: Duration = Duration::from_secs(60);

pub async fn until(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A launcher that nobody else has, known by its path.
struct Own {
    place: Place,
    directory: TempDir,
    launcher: Launcher,
}

impl Own {
    fn new(place: Place) -> Own {
        let directory = TempDir::new_in(place.scratch.path()).unwrap();
        let path = directory.path().join("own");
        symlink(launcher(), &path).unwrap();
        Own {
            launcher: Launcher::new(path),
            directory,
            place,
        }
    }

    fn mark(&self) -> String {
        self.directory.path().display().to_string()
    }

    fn sh(&self, script: &str) -> Command {
        let mut command = self.place.command("sh", &["-c", script], WALL);
        // Two that are being mounted at one time must not share what they work with.
        let overlay = |mount: &Mount| matches!(mount, Mount::Overlay { .. });
        command.mounts.retain(|mount| !overlay(mount));
        command
    }

    async fn output(&self, script: &str) -> String {
        let finished = self.launcher.run(self.sh(script)).await.unwrap();
        assert_eq!(finished.ending, Ending::Exited(0));
        assert_eq!(finished.level, Level::Full);
        text(&finished.stdout)
    }

    /// Until one waits and nothing else is there; its processes, the launcher first.
    async fn waiting(&self) -> Vec<i32> {
        let mut found = vec![];
        until(|| {
            found = processes(&self.mark());
            let [launcher, init, program] = found[..] else {
                return false;
            };
            // The last has given up its capabilities when it stands where it waits.
            parent(launcher) == std::process::id().cast_signed()
                && parent(init) == launcher
                && parent(program) == init
                && status(program, "CapBnd").chars().all(|one| one == '0')
        })
        .await;
        found
    }
}

fn parent(pid: i32) -> i32 {
    status(pid, "PPid").parse().unwrap_or_default()
}

fn processes(mark: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let mut found: Vec<i32> = all
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.windows(mark.len()).any(|part| part == mark.as_bytes())
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    // A child's number is the larger one, unless they were used up in between.
    found.sort_unstable();
    found
}

fn status(pid: i32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_once(':'))
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default()
}

fn kill(pid: i32) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn one_that_waits_is_used_and_never_a_second_time() {
    let own = Own::new(Place::new());
    let (mut used, mut waited) = (BTreeSet::new(), 0);
    own.output("true").await;
    while waited < 4 {
        let waiting = own.waiting().await;
        let mut child = own.launcher.spawn(own.sh("sleep 0.1")).unwrap();
        let id = child.id().unwrap().cast_signed();
        assert!(used.insert(id), "used again");
        // It may wait a moment before this process knows that it does: then another is started.
        waited += u32::from(id == waiting[0]);
        assert!(used.len() < 40, "never used");
        assert_eq!(child.wait().await.unwrap(), Ending::Exited(0));
        child.kill().await;
    }
}

#[tokio::test]
async fn a_program_is_held_alike_whether_its_launcher_waited_or_not() {
    let own = Own::new(Place::new());
    let path = own.place.work.path().join("portrait");
    let mut portraits = vec![];
    for _ in 0..3 {
        let command = own.place.command("sh", &["-c", PORTRAIT], WALL);
        own.launcher.run(command).await.unwrap();
        portraits.push(std::fs::read_to_string(&path).unwrap());
        own.waiting().await;
    }
    assert!(portraits[0].contains("NoNewPrivs:\t1"), "{}", portraits[0]);
    assert!(!portraits[0].contains("landlock"), "{}", portraits[0]);
    assert_eq!(portraits[0], portraits[1]);
    assert_eq!(portraits[0], portraits[2]);
}

#[tokio::test]
async fn limits_are_those_of_the_program_and_not_of_the_one_before() {
    let own = Own::new(Place::new());
    let script =
        "cat /proc/sys/kernel/pid_max; ulimit -n; ulimit -f; df --output=size /tmp | tail -1";
    let mut seen = BTreeSet::new();
    for factor in 1..=3 {
        let mut command = own.sh(script);
        command.limits.processes = 1000 * factor;
        command.limits.open_files = 100 * factor;
        command.limits.file_bytes = (1 << 20) * u64::from(factor);
        command.limits.tmp_bytes = (4 << 20) * u64::from(factor);
        let finished = own.launcher.run(command).await.unwrap();
        let said = text(&finished.stdout);
        let lines: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(lines[0], (1000 * factor).to_string(), "{said}");
        assert_eq!(lines[1], (100 * factor).to_string(), "{said}");
        assert_eq!(lines[3], (4096 * factor).to_string(), "{said}");
        assert!(seen.insert(lines[2].to_owned()), "{said}");
        own.waiting().await;
    }
}

#[tokio::test]
async fn one_that_was_killed_while_it_waited_is_replaced() {
    let own = Own::new(Place::new());
    own.output("true").await;
    for which in 0..WAITING {
        let waiting = own.waiting().await;
        kill(waiting[which]);
        let dead = |pid: &i32| matches!(status(*pid, "State").chars().next(), None | Some('Z'));
        until(|| waiting.iter().all(dead)).await;
        assert_eq!(own.output("echo on").await, "on\n", "{which}");
        // The dead one is not left as a zombie either.
        until(|| !Path::new(&format!("/proc/{}", waiting[0])).exists()).await;
    }
}

#[tokio::test]
async fn many_at_once_get_each_their_own() {
    let own = Own::new(Place::new());
    own.output("true").await;
    own.waiting().await;
    for _ in 0..2 {
        let outputs = (0..12).map(|number| {
            let launcher = own.launcher.clone();
            let command = own.sh(&format!(
                "echo {number}; ls /proc | grep -c '^[0-9]'; cat <&0"
            ));
            tokio::spawn(async move { (number, launcher.run(command).await.unwrap()) })
        });
        for one in outputs.collect::<Vec<_>>() {
            let (number, finished) = one.await.unwrap();
            let said = text(&finished.stdout);
            assert!(said.starts_with(&format!("{number}\n")), "{number}: {said}");
            assert_eq!(finished.ending, Ending::Exited(0));
        }
        own.waiting().await;
    }
    let mark = own.mark();
    drop(own.launcher);
    until(|| alive(&mark) == 0).await;
}

#[tokio::test]
async fn it_has_no_descriptor_of_ours_and_no_environment() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let own = Own::new(Place::new());
    let leaked = rustix::fs::open(
        "/etc/hostname",
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    own.output("true").await;
    for pid in own.waiting().await {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .flatten();
        for target in fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()) {
            let target = target.display().to_string();
            let known = [
                "socket:",
                "anon_inode:[signalfd]",
                "/dev/null",
                "/proc/sys/kernel/pid_max",
            ];
            // The file that was opened within its own root may go by a path of that.
            let known =
                known.iter().any(|one| target.starts_with(one)) || target.ends_with("/pid_max");
            assert!(known, "{target}");
        }
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert_eq!(environment, b"");
        assert_eq!(status(pid, "Threads"), "1");
    }
    drop(leaked);
}

/// The first program's launcher is sound; while it runs, another takes its name.
#[tokio::test]
async fn what_fails_ahead_is_told_by_the_program_that_would_have_used_it() {
    let place = Place::new();
    // The second mount: /proc. The number is no other test's.
    let name = format!("{}.1.{}", libc::SYS_mount, libc::ENODEV);
    let path = place.scratch.path().join(&name);
    let faulty = std::env::var_os("MOAT_TEST_FAULTY_LAUNCHER").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_confine-faulty-launcher")),
        PathBuf::from,
    );
    symlink(launcher(), &path).unwrap();
    let launched = Launcher::new(&path);
    let touch = |file: &str| {
        let script = format!("echo > /workspace/{file}");
        place.command("sh", &["-c", &script], WALL)
    };
    let sleep = place.command("sleep", &["1000"], WALL);
    let mut child = launched.spawn(sleep).unwrap();
    let first = child.id().unwrap().cast_signed();
    std::fs::remove_file(&path).unwrap();
    symlink(faulty, &path).unwrap();
    child.level().await.unwrap();
    child.kill().await;
    let mine = |pid: i32| parent(pid) == std::process::id().cast_signed();
    let failed = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| status(*pid, "Name") == name && mine(*pid))
            .any(|pid| pid != first && status(pid, "State").starts_with('Z'))
    };
    until(failed).await;
    // It may have failed before this process knows that it waits.
    tokio::time::sleep(Duration::from_millis(300)).await;
    // What would be started now is sound again: only the one that waited can fail.
    std::fs::remove_file(&path).unwrap();
    symlink(launcher(), &path).unwrap();
    match launched.run(touch("first")).await {
        Err(ConfineError::Setup { step, error, .. }) => {
            assert_eq!(
                (step.as_str(), error.raw_os_error()),
                ("proc", Some(libc::ENODEV))
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(!place.work.path().join("first").exists());
    launched.run(touch("second")).await.unwrap();
    assert!(place.work.path().join("second").exists());
}

/// Runs one test of this file again, in a process of its own.
fn again(name: &str, around: &[&str]) -> Program {
    let tests = std::env::current_exe().unwrap().display().to_string();
    let mut words: Vec<&str> = around.to_vec();
    let name = format!("warm::{name}");
    words.extend([tests.as_str(), "--exact", &name, "--nocapture"]);
    let mut program = Program::new(words[0]);
    program.args(&words[1..]).env("MOAT_TEST_AGAIN", "1");
    program
}

fn is_again() -> bool {
    std::env::var_os("MOAT_TEST_AGAIN").is_some()
}

fn passes(mut program: Program) {
    let output = program.output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert!(said.contains("1 passed"), "it did run: {said}");
}

#[test]
fn nothing_is_left_of_a_launcher_that_is_dropped() {
    if !is_again() {
        return passes(again("nothing_is_left_of_a_launcher_that_is_dropped", &[]));
    }
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let children = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| parent(*pid) == std::process::id().cast_signed())
            .count()
    };
    let mut before = None;
    for _ in 0..3 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let own = Own::new(Place::beside());
        runtime.block_on(async {
            for _ in 0..3 {
                own.output("true").await;
                own.waiting().await;
            }
            let mut child = own.launcher.spawn(own.sh("sleep 1000")).unwrap();
            child.level().await.unwrap();
            own.launcher.spawn(own.sh("sleep 1000")).unwrap();
        });
        // One that waited in this runtime is used in the next.
        runtime.shutdown_background();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        assert_eq!(runtime.block_on(own.output("echo on")), "on\n");
        let mark = own.mark();
        drop(own);
        runtime.block_on(until(|| alive(&mark) == 0 && children() == 0));
        drop(runtime);
        // The first runtime opens two that every later one uses.
        assert_eq!(*before.get_or_insert_with(count), count());
    }
}

#[tokio::test]
async fn it_ends_when_its_owner_is_killed() {
    if is_again() {
        let own = Own::new(Place::beside());
        own.output("true").await;
        own.waiting().await;
        writeln!(std::io::stdout(), "waiting {}", own.mark()).unwrap();
        std::thread::sleep(WALL);
        return;
    }
    let _turn = Turn::Beside;
    let mut owner = again("it_ends_when_its_owner_is_killed", &[]);
    let mut owner = owner.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(owner.stdout.take().unwrap()));
    let mark = lines
        .find_map(|line| Some(line.unwrap().split_once("waiting ")?.1.to_owned()))
        .unwrap();
    assert_eq!(alive(&mark), WAITING);
    owner.kill().unwrap();
    assert_eq!(owner.wait().unwrap().signal(), Some(libc::SIGKILL));
    until(|| alive(&mark) == 0).await;
    let place = Path::new(&mark).parent().unwrap();
    std::fs::remove_dir_all(place).unwrap();
}

/// What the machine's owner mounts while one waits is seen by the next program.
#[tokio::test]
async fn one_that_knows_other_mounts_than_the_machine_is_not_used() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    if !is_again() {
        // In a namespace where mounting concerns nobody else.
        let around = ["unshare", "-m", "--propagation", "private"];
        let name = "one_that_knows_other_mounts_than_the_machine_is_not_used";
        return passes(again(name, &around));
    }
    let own = Own::new(Place::beside());
    let below = own.place.work.path().join("below");
    std::fs::create_dir(&below).unwrap();
    own.output("true").await;
    own.waiting().await;
    let mount = |words: &[&str]| {
        let status = Program::new(words[0])
            .args(&words[1..])
            .arg(&below)
            .status();
        assert!(status.unwrap().success());
    };
    mount(&["mount", "-t", "tmpfs", "none"]);
    std::fs::write(below.join("file"), "new").unwrap();
    assert_eq!(own.output("cat below/file").await, "new");
    own.waiting().await;
    mount(&["umount"]);
    assert_eq!(own.output("ls below").await, "");
}
