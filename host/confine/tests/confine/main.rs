//! Confined programs, tried by what they can and cannot do to the world outside.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod attacks;
mod disk;
mod door;
mod faults;
mod idle;
mod ordinary;
mod owner;
mod place;
mod proxied;
mod trees;
// The stand-ins that the proxy's own tests use.
mod probe;
#[path = "../../../egress/tests/door/server.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod server;
mod warm;
#[path = "../../../egress/tests/door/world.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod world;

use std::path::Path;
use std::time::{Duration, Instant};

use confine::{ConfineError, Ending, Mount, Network};
use tempfile::TempDir;

use crate::place::{Place, alive, gone, text};

#[tokio::test]
async fn programs_run_and_their_ending_and_output_are_known() {
    let place = Place::new();
    let finished = place.sh("echo out; echo err >&2; exit 3").await;
    assert_eq!(
        (
            finished.ending,
            text(&finished.stdout),
            text(&finished.stderr)
        ),
        (Ending::Exited(3), "out\n".into(), "err\n".into())
    );
    assert_eq!(place.sh("kill -9 $$").await.ending, Ending::Signalled(9));
    let mut command = place.command("cat", &[], Duration::from_secs(10));
    command.stdin = b"given".to_vec();
    assert_eq!(place.launcher.run(command).await.unwrap().stdout, b"given");
}

#[tokio::test]
async fn the_toolchains_of_the_machine_run_inside() {
    let place = Place::new();
    for (program, args) in [
        ("python3", vec!["--version"]),
        ("cargo", vec!["--version"]),
        ("rustc", vec!["-vV"]),
    ] {
        let Ok(_) = place.tools.resolve(program) else {
            continue;
        };
        let finished = place
            .launcher
            .run(place.command(program, &args, Duration::from_secs(60)))
            .await
            .unwrap();
        assert_eq!(
            finished.ending,
            Ending::Exited(0),
            "{program}: {}",
            text(&finished.stderr)
        );
    }
    if place.tools.resolve("cargo").is_err() {
        return;
    }
    let finished = place
        .sh("cargo init --quiet --vcs none --name x . && cargo test --quiet --offline")
        .await;
    assert_eq!(
        finished.ending,
        Ending::Exited(0),
        "{}{}",
        text(&finished.stdout),
        text(&finished.stderr)
    );
}

#[tokio::test]
async fn only_the_mounts_are_there() {
    let place = Place::new();
    let outside = TempDir::new().unwrap();
    let canary = outside.path().join("id_rsa");
    std::fs::write(&canary, "CANARY").unwrap();
    let home = std::env::var("HOME").unwrap();
    let script = format!(
        "cat {0}; ls {home}/.ssh; ls {home}/.cargo/credentials.toml; cat /etc/shadow; ls /home /var /srv; cat /proc/1/environ; find / -name id_rsa 2>/dev/null; true",
        canary.display()
    );
    let finished = place.sh(&script).await;
    assert!(!text(&finished.stdout).contains("CANARY"));
    assert_eq!(
        text(&finished.stdout).trim(),
        "",
        "{}",
        text(&finished.stderr)
    );
}

#[tokio::test]
async fn nothing_outside_can_be_written() {
    let place = Place::new();
    let outside = TempDir::new().unwrap();
    std::fs::write(outside.path().join("file"), "before").unwrap();
    let script = format!(
        "echo x > {0}/file; echo x > /usr/bin/evil; echo x > /etc/passwd; echo x > /evil; echo x > /dev/evil; ln -s {0} link; echo x > link/file; mv /workspace /elsewhere; echo $(id -u)",
        outside.path().display()
    );
    let finished = place.sh(&script).await;
    assert_eq!(
        std::fs::read_to_string(outside.path().join("file")).unwrap(),
        "before"
    );
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert!(!Path::new("/usr/bin/evil").exists() && !Path::new("/evil").exists());
    assert_eq!(
        text(&finished.stdout).trim(),
        "1000",
        "nobody in particular"
    );
}

#[tokio::test]
async fn environment_and_descriptors_are_clean() {
    let place = Place::new();
    let _inherited = std::fs::File::open("/etc/hostname").unwrap();
    let finished = place.sh("env; ls /proc/self/fd").await;
    let out = text(&finished.stdout);
    for (name, _) in std::env::vars() {
        let given = place.tools.env().contains_key(&name)
            || matches!(name.as_str(), "PWD" | "OLDPWD" | "SHLVL" | "_");
        assert!(
            given
                || !out
                    .lines()
                    .any(|line| line.starts_with(&format!("{name}="))),
            "{name}"
        );
    }
    let descriptors: Vec<&str> = out
        .lines()
        .filter(|line| line.parse::<u32>().is_ok())
        .collect();
    assert_eq!(descriptors, ["0", "1", "2", "3"], "3 is ls's own");
}

#[tokio::test]
async fn descriptors_that_are_passed_arrive_as_three_and_on() {
    let place = Place::new();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut command = place.command("sh", &["-c", "echo hello >&3"], Duration::from_secs(10));
    command.pass = vec![writer];
    assert_eq!(
        place.launcher.run(command).await.unwrap().ending,
        Ending::Exited(0)
    );
    let mut buffer = [0; 16];
    let read = rustix::io::read(&reader, &mut buffer).unwrap();
    assert_eq!(&buffer[..read], b"hello\n");
}

#[tokio::test]
async fn the_hosts_listeners_are_out_of_reach_and_loopback_works_inside() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "import socket\ntry:\n socket.create_connection(('127.0.0.1', {port}), 2); print('reached')\nexcept OSError as e: print('no')\n\
         s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n\
         c = socket.create_connection(s.getsockname(), 2); print('own loopback')\n\
         for family, kind in ((socket.AF_NETLINK, socket.SOCK_RAW), (socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_VSOCK, socket.SOCK_STREAM), (38, 5), (socket.AF_INET, socket.SOCK_RAW)):\n\
         \x20 try: socket.socket(family, kind); print('opened', family)\n  except OSError: pass\n"
    );
    let finished = place.python(&script).await;
    assert_eq!(
        text(&finished.stdout),
        "no\nown loopback\n",
        "{}",
        text(&finished.stderr)
    );
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "no connection arrived"
    );
}

#[tokio::test]
async fn abstract_and_path_sockets_of_the_host_are_out_of_reach() {
    use std::os::linux::net::SocketAddrExt as _;
    let place = Place::new();
    let name = format!("moat-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_UNIX)\ntry:\n s.connect('\\0{name}'); print('reached')\nexcept OSError: print('no')"
    );
    assert_eq!(text(&place.python(&script).await.stdout), "no\n");
    assert!(listener.accept().is_err());
}

#[tokio::test]
async fn dangerous_system_calls_are_refused() {
    let place = Place::new();
    let script = "import ctypes\nl = ctypes.CDLL(None, use_errno=True)\n\
        for name, call in (('ptrace', (101, 16, 1, 0, 0)), ('unshare user', (272, 0x10000000)), ('unshare mount', (272, 0x20000)), ('setns', (308, 0, 0)), \
        ('mount', (165, 0, 0, 0, 0, 0)), ('io_uring', (425, 1, 0)), ('bpf', (321, 0, 0, 0)), ('keyctl', (250, 0, 0)), ('process_vm_readv', (310, 1, 0, 0, 0, 0, 0)), \
        ('open_by_handle_at', (304, 0, 0, 0)), ('chroot', (161, b'/')), ('perf', (298, 0, 0, 0, 0, 0)), ('userfaultfd', (323, 0)), ('clone newuser', (56, 0x10000011, 0, 0, 0, 0)), ('tiocsti', (16, 0, 0x5412, b'x'))):\n\
        \x20 ctypes.set_errno(0); r = l.syscall(*call); e = ctypes.get_errno()\n\
        \x20 print(name, 'refused' if r == -1 and e == 1 else f'{r} {e}')\n";
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    let finished = place.python(script).await;
    let out = text(&finished.stdout);
    assert_eq!(out.lines().count(), 15, "{}", text(&finished.stderr));
    for line in out.lines() {
        assert!(line.ends_with(" refused"), "{line}");
    }
    let x32 = place
        .python("import ctypes; ctypes.CDLL(None).syscall(0x40000000 + 39)")
        .await;
    assert_eq!(x32.ending, Ending::Signalled(31), "an x32 call kills");
}

#[tokio::test]
async fn a_deadline_takes_the_whole_tree() {
    let place = Place::new();
    let mark = format!("deadline-{}", std::process::id());
    let script = format!(
        "trap '' TERM; (setsid sh -c 'sleep 1000 # {mark}' &) ; (setsid sleep 1000.{mark} &); sh -c 'sleep 1000 # {mark}'; true"
    );
    let begun = Instant::now();
    let finished = place
        .launcher
        .run(place.command("sh", &["-c", &script], Duration::from_millis(700)))
        .await
        .unwrap();
    assert_eq!(finished.ending, Ending::Deadline);
    assert!(begun.elapsed() < Duration::from_secs(20));
    gone(&mark).await;
}

#[tokio::test]
async fn daemons_end_with_the_program() {
    let place = Place::new();
    let mark = format!("daemon-{}", std::process::id());
    let finished = place
        .sh(&format!(
            "(setsid sh -c 'sleep 1000; : {mark}' </dev/null &) ; sleep 0.1; echo done"
        ))
        .await;
    assert_eq!(
        (finished.ending, text(&finished.stdout)),
        (Ending::Exited(0), "done\n".into())
    );
    gone(&mark).await;
}

#[tokio::test]
async fn when_a_kill_has_returned_nothing_is_left_that_could_write() {
    let place = Place::new();
    let mark = format!("writer-{}", std::process::id());
    let script =
        format!("for n in $(seq 20); do (while :; do echo >> log; done) & done; wait; : {mark}");
    for _ in 0..5 {
        let command = place.command("sh", &["-c", &script], Duration::from_secs(100));
        let mut child = place.launcher.spawn(command).unwrap();
        while alive(&mark) < 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        child.kill().await;
        assert_eq!(alive(&mark), 0);
    }
}

#[tokio::test]
async fn a_dropped_run_takes_its_tree_along() {
    let place = Place::new();
    let mark = format!("dropped-{}", std::process::id());
    let script = format!("sleep 1000; : {mark}");
    let run = place
        .launcher
        .run(place.command("sh", &["-c", &script], Duration::from_secs(100)));
    assert!(
        tokio::time::timeout(Duration::from_millis(500), run)
            .await
            .is_err()
    );
    gone(&mark).await;
}

#[tokio::test]
async fn a_fork_bomb_stays_small_and_goes() {
    let place = Place::alone();
    let mark = format!("bomb-{}", std::process::id());
    let script = format!("bomb() {{ : {mark}; bomb & bomb & wait; }}; bomb 2>/dev/null; sleep 100");
    let finished = place
        .launcher
        .run(place.command("sh", &["-c", &script], Duration::from_secs(2)))
        .await
        .unwrap();
    assert!(
        matches!(finished.ending, Ending::Deadline | Ending::Exited(_)),
        "{:?}",
        finished.ending
    );
    gone(&mark).await;
}

#[tokio::test]
async fn floods_and_hogs_reach_their_caps() {
    let place = Place::new();
    let finished = place
        .launcher
        .run(place.command(
            "sh",
            &["-c", "yes | head -c 200000000"],
            Duration::from_secs(60),
        ))
        .await
        .unwrap();
    assert!(finished.truncated && finished.stdout.len() < 70_000);
    let mut command = place.command(
        "sh",
        &["-c", "head -c 50000000 /dev/zero > big; ls -l big"],
        Duration::from_secs(60),
    );
    command.limits.file_bytes = 1_000_000;
    place.launcher.run(command).await.unwrap();
    assert_eq!(
        std::fs::metadata(place.work.path().join("big"))
            .unwrap()
            .len(),
        1_000_000
    );
    let mut command = place.command(
        "sh",
        &["-c", "head -c 50000000 /dev/zero > /tmp/big; true"],
        Duration::from_secs(60),
    );
    command.limits.tmp_bytes = 1 << 20;
    assert_eq!(
        place.launcher.run(command).await.unwrap().ending,
        Ending::Exited(0)
    );
    let mut command = place.command(
        "python3",
        &["-c", "x = bytearray(1 << 30)"],
        Duration::from_secs(60),
    );
    command.limits.memory_bytes = Some(256 << 20);
    assert_eq!(
        place.launcher.run(command).await.unwrap().ending,
        Ending::Exited(1)
    );
}

#[tokio::test]
async fn a_disk_filler_is_stopped() {
    let place = Place::new();
    let script = "i=0; while :; do head -c 20000000 /dev/zero > f$i; i=$((i+1)); done";
    let mut command = place.command("sh", &["-c", script], Duration::from_secs(60));
    command.limits.disk_bytes = 100_000_000;
    assert_eq!(
        place.launcher.run(command).await.unwrap().ending,
        Ending::DiskFull
    );
}

#[tokio::test]
async fn an_overlay_takes_changes_and_leaves_the_lower_directory() {
    let place = Place::new();
    let lower = TempDir::new().unwrap();
    std::fs::write(lower.path().join("cached"), "clean").unwrap();
    let mut command = place.command(
        "sh",
        &["-c", "echo poison > /cache/cached; cat /cache/cached"],
        Duration::from_secs(10),
    );
    let part = |name: &str| {
        let path = place.scratch.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    command.mounts.push(Mount::Overlay {
        lower: vec![lower.path().into()],
        upper: part("u"),
        work: part("w"),
        inside: "/cache".into(),
    });
    let finished = place.launcher.run(command).await.unwrap();
    assert_eq!(
        text(&finished.stdout),
        "poison\n",
        "{}",
        text(&finished.stderr)
    );
    assert_eq!(
        std::fs::read_to_string(lower.path().join("cached")).unwrap(),
        "clean"
    );
}

#[tokio::test]
async fn what_cannot_be_executed_or_mounted_is_a_typed_error() {
    let place = Place::new();
    let mut command = place.command("sh", &[], Duration::from_secs(10));
    command.program = "/usr/bin/no-such-program".into();
    assert!(matches!(
        place.launcher.run(command).await,
        Err(ConfineError::Exec { .. })
    ));
    let mut command = place.command("sh", &[], Duration::from_secs(10));
    command.mounts.push(Mount::ReadOnly {
        host: "/no/such/place".into(),
        inside: "/x".into(),
    });
    assert!(
        matches!(place.launcher.run(command).await, Err(ConfineError::Setup { step, .. }) if step.starts_with("mount"))
    );
    for name in ["../sh", "/bin/sh", "", ".", "sh ", "no-such-program"] {
        assert!(
            matches!(
                place.tools.resolve(name),
                Err(ConfineError::NotFound { .. })
            ),
            "{name}"
        );
    }
}

/// A starter that is killed before it has noted the service leaves nothing that nobody knows of.
#[tokio::test]
async fn a_service_that_is_not_released_ends_with_its_starter() {
    let place = Place::new();
    let mark = format!("unreleased-{}", std::process::id());
    let log = std::fs::File::create(place.scratch.path().join("log")).unwrap();
    let mut command = place.command(
        "sh",
        &["-c", &format!("sleep 1000; : {mark}")],
        Duration::from_secs(1),
    );
    command.network = Network::Host;
    let started = place.launcher.start_service(command, log).await.unwrap();
    let handle = started.handle().clone();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(handle.alive() && alive(&mark) > 0);
    // As when this process dies: the kernel closes what it held.
    drop(started);
    gone(&mark).await;
}

#[tokio::test]
async fn a_service_outlives_its_starter_and_ends_when_stopped() {
    let place = Place::new();
    let mark = format!("service-{}", std::process::id());
    let log = std::fs::File::create(place.scratch.path().join("log")).unwrap();
    let mut command = place.command(
        "sh",
        &["-c", &format!("echo up; sleep 1000; : {mark}")],
        Duration::from_secs(1),
    );
    command.network = Network::Host;
    let started = place.launcher.start_service(command, log).await.unwrap();
    let handle = started.handle().clone();
    started.release().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(handle.alive() && alive(&mark) > 0);
    assert_eq!(
        std::fs::read_to_string(place.scratch.path().join("log")).unwrap(),
        "up\n"
    );
    handle.stop().await;
    assert!(!handle.alive());
    gone(&mark).await;
}
