//! Layers that are missing, and set-ups that fail half-way: what is executed is as confined as ever, or nothing is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use confine::{ConfineError, Ending, Finished, Launcher, Level};
use tempfile::TempDir;

use crate::place::{Place, Turn, text};

/// What holds the shell that writes this, as far as it can be read from inside. The first thing it does is to make the file.
pub const PORTRAIT: &str = "{ \
    grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status; \
    cat /proc/self/uid_map /proc/self/setgroups /proc/self/limits /proc/sys/kernel/hostname /proc/sys/kernel/pid_max; \
    cut -d' ' -f4- /proc/self/mountinfo | sed 's/,uuid=on//; s#/proc/self/fd/[0-9]*#fd#g'; ls /proc/sys/net/ipv4/conf /proc/self/fd; \
    printf '' 2>/dev/null > /proc/self/oom_score_adj && echo landlock is not there; \
    } > /workspace/portrait 2>&1; true";

/// A launcher of which this fails.
fn faulty(place: &Place, fault: &str, least: Level) -> (TempDir, Launcher) {
    let directory = TempDir::new_in(place.scratch.path()).unwrap();
    let program = directory.path().join(fault);
    let target = std::env::var_os("MOAT_TEST_FAULTY_LAUNCHER").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_confine-faulty-launcher")),
        PathBuf::from,
    );
    std::os::unix::fs::symlink(target, &program).unwrap();
    (directory, Launcher::new(program).accepting(least))
}

struct Tried {
    result: Result<Finished, ConfineError>,
    portrait: Option<String>,
    /// How often which system call was made until the program was executed.
    calls: BTreeMap<i64, usize>,
}

async fn attempt(place: &Place, fault: &str, least: Level) -> Tried {
    let path = place.work.path().join("portrait");
    let _ = std::fs::remove_file(&path);
    let (directory, launcher) = faulty(place, fault, least);
    let command = place.command("sh", &["-c", PORTRAIT], Duration::from_secs(60));
    let result = launcher.run(command).await;
    let noted = std::fs::read_to_string(directory.path().join("calls")).unwrap_or_default();
    let mut calls = BTreeMap::new();
    for number in noted.lines() {
        *calls.entry(number.parse().unwrap()).or_default() += 1;
    }
    Tried {
        result,
        portrait: std::fs::read_to_string(&path).ok(),
        calls,
    }
}

fn step(tried: &Tried) -> String {
    match &tried.result {
        Err(ConfineError::Setup { step, .. }) => step.clone(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_layer_that_is_missing_is_named_and_nothing_is_executed() {
    let place = Place::new();
    let cases = [
        (libc::SYS_unshare, "every", "user namespace"),
        (libc::SYS_unshare, "1", "namespaces"),
        (libc::SYS_openat, "every", "user namespace"),
        (libc::SYS_clone, "every", "fork"),
        (libc::SYS_socket, "every", "loopback"),
        (libc::SYS_sethostname, "every", "host name"),
        (libc::SYS_mount, "0", "root"),
        (libc::SYS_mount, "1", "proc"),
        (libc::SYS_mount, "4", "private mounts"),
        (libc::SYS_open_tree, "every", "mount of"),
        (libc::SYS_mount_setattr, "every", "mount attributes"),
        (libc::SYS_move_mount, "0", "root"),
        (libc::SYS_move_mount, "1", "mount"),
        (libc::SYS_pivot_root, "every", "pivot root"),
        (libc::SYS_umount2, "every", "pivot root"),
        (libc::SYS_setsid, "every", "session"),
        (libc::SYS_prlimit64, "every", "limits"),
        (libc::SYS_capset, "every", "capabilities"),
        (libc::SYS_landlock_add_rule, "every", "landlock"),
        (libc::SYS_landlock_restrict_self, "every", "landlock"),
        (libc::SYS_seccomp, "every", "seccomp"),
    ];
    for (number, which, expected) in cases {
        for errno in [libc::EPERM, libc::ENOSYS] {
            for least in [Level::Full, Level::Namespaces] {
                let tried = attempt(&place, &format!("{number}.{which}.{errno}"), least).await;
                let said = step(&tried);
                assert!(
                    said.starts_with(expected),
                    "{number} {errno} {least:?}: {said}"
                );
                assert_eq!(tried.portrait, None, "{number} {errno}: it was executed");
            }
        }
    }
}

/// No cgroup bounds a command: its namespace of them, the number of processes that its pid namespace takes, and limits a process do. A machine
/// on which one of these cannot be had runs nothing; whether it has cgroups is all the same.
#[tokio::test]
async fn without_what_stands_in_for_cgroups_nothing_is_executed() {
    let place = Place::new();
    // A kernel without such namespaces, and one whose owner allows no more of them.
    for errno in [libc::EINVAL, libc::ENOSPC] {
        let tried = attempt(
            &place,
            &format!("{}.1.{errno}", libc::SYS_unshare),
            Level::Namespaces,
        )
        .await;
        assert_eq!(
            (step(&tried).as_str(), &tried.portrait),
            ("namespaces", &None)
        );
    }
    let whole = attempt(&place, "none", Level::Namespaces).await;
    assert!(whole.portrait.is_some());
    let mut refused = BTreeMap::<String, BTreeSet<i64>>::new();
    for number in [libc::SYS_prlimit64, libc::SYS_openat, libc::SYS_write] {
        for nth in 0..whole.calls[&number] {
            let fault = format!("{number}.{nth}.{}", libc::EACCES);
            let tried = attempt(&place, &fault, Level::Namespaces).await;
            match &tried.result {
                Ok(_) => assert_eq!(tried.portrait, whole.portrait, "call {number}, the {nth}th"),
                Err(_) => {
                    assert_eq!(tried.portrait, None, "call {number}, the {nth}th");
                    refused.entry(step(&tried)).or_default().insert(number);
                }
            }
        }
    }
    let by = |step: &str| refused.get(step).cloned().unwrap_or_default();
    assert!(by("limits").contains(&libc::SYS_prlimit64), "{refused:?}");
    // Before Linux 6.14 root is refused altogether, and for others the limit of their own processes stands in its place.
    let pid_max = "/proc/sys/kernel/pid_max";
    let is_bounded = place
        .sh(&format!("test \"$(cat {pid_max})\" -lt 10000"))
        .await;
    if is_bounded.ending == Ending::Exited(0) {
        assert_eq!(
            by("process limit"),
            BTreeSet::from([libc::SYS_openat, libc::SYS_write]),
            "{refused:?}"
        );
    }
    // Nothing of a cgroup is inside, to join or to widen.
    let inside = place
        .sh("cat /proc/self/cgroup | cut -d: -f3 | grep -v '^/$'; ls -A /sys/fs/cgroup /sys 2>/dev/null; grep -E ' - cgroup2? ' /proc/self/mountinfo; true")
        .await;
    assert_eq!(text(&inside.stdout), "");
}

#[tokio::test]
async fn without_landlock_nothing_is_executed_unless_the_owner_says_so() {
    let place = Place::new();
    let with = attempt(&place, "none", Level::Namespaces).await;
    assert_eq!(
        with.result.as_ref().unwrap().level,
        Level::Full,
        "what is there is used"
    );
    for errno in [libc::ENOSYS, libc::EOPNOTSUPP, libc::EPERM] {
        let fault = format!("{}.every.{errno}", libc::SYS_landlock_create_ruleset);
        let refused = attempt(&place, &fault, Level::Full).await;
        assert_eq!(
            (step(&refused).as_str(), &refused.portrait),
            ("landlock", &None)
        );
        let lower = attempt(&place, &fault, Level::Namespaces).await;
        assert_eq!(lower.result.as_ref().unwrap().level, Level::Namespaces);
        // In everything else it is held as ever.
        let portrait = lower.portrait.unwrap();
        let (missing, rest): (Vec<&str>, Vec<&str>) =
            portrait.lines().partition(|line| line.contains("landlock"));
        let full = with.portrait.as_ref().unwrap().lines().collect::<Vec<_>>();
        assert_eq!(missing, ["landlock is not there"]);
        assert!(rest == full, "{rest:#?}\n{full:#?}");
    }
    // One that is there and fails is not one that is missing.
    let fault = format!("{}.1.{}", libc::SYS_landlock_create_ruleset, libc::EPERM);
    let broken = attempt(&place, &fault, Level::Full).await;
    assert_eq!(
        (step(&broken).as_str(), broken.portrait),
        ("landlock", None)
    );
}

#[tokio::test]
async fn at_the_lower_level_nothing_outside_is_read_or_written_either() {
    let place = Place::new();
    let outside = TempDir::new().unwrap();
    std::fs::write(outside.path().join("file"), "CANARY").unwrap();
    let fault = format!(
        "{}.every.{}",
        libc::SYS_landlock_create_ruleset,
        libc::ENOSYS
    );
    let (_name, launcher) = faulty(&place, &fault, Level::Namespaces);
    let script = format!(
        "cat {0}/file; echo x > {0}/file; echo x > /usr/bin/evil; echo x > /etc/passwd; echo x > /evil; echo x > /dev/evil; ln -s {0} link; cat link/file; \
         echo x > link/file; find / -name file -path '*tmp*' 2>/dev/null; for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/kcore; do echo h > $f; head -c 1 $f; done; \
         unshare -U id -u; true",
        outside.path().display()
    );
    let finished = launcher
        .run(place.command("sh", &["-c", &script], Duration::from_secs(60)))
        .await
        .unwrap();
    let core_pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let seen = text(&finished.stdout).replace(&core_pattern[..1], "");
    assert_eq!(
        (finished.level, finished.ending, seen.as_str()),
        (Level::Namespaces, Ending::Exited(0), "")
    );
    assert_eq!(
        std::fs::read(outside.path().join("file")).unwrap(),
        b"CANARY"
    );
    assert_ne!(core_pattern, "h\n");
    assert!(!std::path::Path::new("/usr/bin/evil").exists());
}

/// Of the calls of one kind the first and the last few: in between stand the same calls on one mount or capability after the other.
fn some(count: usize) -> BTreeSet<usize> {
    (0..count.min(6))
        .chain(count.saturating_sub(3)..count)
        .collect()
}

#[tokio::test]
async fn whatever_fails_on_the_way_what_is_executed_is_held_as_ever() {
    let place = Place {
        _turn: Turn::alone(),
        ..Place::beside()
    };
    let whole = attempt(&place, "none", Level::Full).await;
    let expected = whole.portrait.unwrap();
    assert!(
        expected.contains("NoNewPrivs:\t1") && !expected.contains("landlock"),
        "{expected}"
    );
    assert!(whole.calls.len() > 30, "{:?}", whole.calls);
    let (mut refused, mut harmless) = (0, BTreeSet::new());
    for (number, count) in whole.calls {
        for nth in some(count) {
            let tried = attempt(
                &place,
                &format!("{number}.{nth}.{}", libc::EPERM),
                Level::Full,
            )
            .await;
            match tried.result {
                Ok(finished) => {
                    assert_eq!(finished.level, Level::Full);
                    assert_eq!(finished.ending, Ending::Exited(0), "{number} {nth}");
                    assert_eq!(
                        tried.portrait.as_ref(),
                        Some(&expected),
                        "call {number}, the {nth}th"
                    );
                    harmless.insert(number);
                }
                Err(error) => {
                    assert_eq!(tried.portrait, None, "call {number}, the {nth}th: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 80, "{refused} refused; harmless: {harmless:?}");
}
