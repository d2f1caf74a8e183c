//! What a hostile test suite tries, from ways out to ways to stay.

use std::time::Duration;

use confine::{Ending, Limits, Mount, Toolchains};
use tempfile::TempDir;

use crate::place::{Place, gone, named, text};

#[tokio::test]
async fn nothing_runs_any_more_when_a_run_returns() {
    for wall in [60, 2] {
        let place = Place::new();
        let name = format!("linger-{wall}");
        // Daemons that hold no pipe of ours: nothing but the process table knows them.
        let script = format!(
            "import os, ctypes, time\nctypes.CDLL(None).prctl(15, b'{name}', 0, 0, 0)\nfor n in range(150):\n\
             \x20if os.fork() == 0:\n  os.setsid(); [os.close(fd) for fd in range(3)]; m = bytearray(4 << 20); time.sleep(1000)\n\
             if {wall} < 10: time.sleep(1000)"
        );
        let command = place.command("python3", &["-c", &script], Duration::from_secs(wall));
        let finished = place.launcher.run(command).await.unwrap();
        assert_eq!(
            named(&name),
            0,
            "left after {:?} {}",
            finished.ending,
            text(&finished.stderr)
        );
    }
}

#[tokio::test]
async fn those_that_spin_stop_themselves_or_hear_nothing_are_gone_too() {
    let scripts = [
        // Every process in a session of its own, busy, deaf to every signal, its output closed.
        "import os, signal, time\nfor s in range(1, 65):\n try: signal.signal(s, signal.SIG_IGN)\n except Exception: pass\n\
         [os.close(fd) for fd in range(3)]\nwhile True:\n try:\n  if os.fork() == 0:\n   os.setsid()\n   while True: pass\n except OSError: time.sleep(0.01)",
        "import os, signal\nfor n in range(20):\n try: os.fork()\n except OSError: pass\nos.kill(0, signal.SIGSTOP)",
        "import os, signal\nos.fork(); os.setpgid(0, 0) if os.getpid() > 2 else None; os.kill(os.getpid(), signal.SIGSTOP)",
    ];
    for (at, script) in scripts.iter().enumerate() {
        let place = Place::alone();
        let mark = format!("# deaf-{at}-{}", std::process::id());
        let script = format!("{script}\n{mark}");
        let command = place.command("python3", &["-c", &script], Duration::from_secs(2));
        let begun = std::time::Instant::now();
        assert_eq!(
            place.launcher.run(command).await.unwrap().ending,
            Ending::Deadline
        );
        // A second on a machine with time for it; tests share two processors with hundreds of busy processes here.
        assert!(
            begun.elapsed() < Duration::from_secs(12),
            "long after its deadline"
        );
        gone(&mark).await;
    }
}

#[tokio::test]
async fn a_home_directory_is_never_shown_for_the_tools_in_it() {
    let home = TempDir::new().unwrap();
    let at = |name: &str| home.path().join(name);
    for directory in [
        "bin",
        ".ssh",
        ".local/bin",
        ".local/lib/python3.11/site-packages",
        ".local/share/keyrings",
        "work/bin",
        "work/lib",
        "work/secrets",
    ] {
        std::fs::create_dir_all(at(directory)).unwrap();
    }
    for program in ["bin/python3", ".local/bin/python3", "work/bin/tool"] {
        std::fs::write(at(program), "#!/bin/sh\nexec /usr/bin/python3 \"$@\"\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(at(program), mode).unwrap();
    }
    let canaries = [
        ".ssh/id_rsa",
        ".local/share/keyrings/k",
        "work/secrets/k",
        "moat.toml",
    ];
    for canary in canaries {
        std::fs::write(at(canary), "CANARY").unwrap();
    }
    let path = std::env::join_paths([
        at("bin"),
        at(".local/bin"),
        at("work/bin"),
        "/usr/bin".into(),
        "/bin".into(),
    ])
    .unwrap();
    for go in [home.path().to_owned(), "/".into()] {
        let host = |name: &str| match name {
            "HOME" => Some(home.path().into()),
            "PATH" => Some(path.clone()),
            "GOROOT" => Some(go.clone().into_os_string()),
            _ => None,
        };
        let mut place = Place::new();
        place.tools = Toolchains::discover(&host);
        let script = canaries.map(|canary| format!("cat {}; ", at(canary).display()));
        let finished = place.sh(&script.concat()).await;
        assert_eq!(text(&finished.stdout), "");
    }
}

#[tokio::test]
async fn a_program_is_the_first_that_the_kernel_takes_when_memory_runs_out() {
    let place = Place::new();
    let finished = place
        .sh("cat /proc/self/oom_score_adj; echo 0 > /proc/self/oom_score_adj; echo 0 > /proc/$$/oom_score_adj; sh -c 'cat /proc/self/oom_score_adj'")
        .await;
    assert_eq!(text(&finished.stdout), "1000\n1000\n");
}

#[tokio::test]
async fn the_machine_cannot_be_set_or_looked_into_through_proc() {
    let place = Place::new();
    let core_pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let finished = place
        .python(
            "import os, stat\nfor name in os.listdir('/proc'):\n p = '/proc/' + name\n\
             \x20if not name.isdigit() and os.path.isfile(p) and not stat.S_IMODE(os.stat(p).st_mode) & 0o044:\n\
             \x20 try:\n   if open(p, 'rb').read(1): print('read', p)\n  except OSError: pass\n\
             for p in ('sys/kernel/core_pattern', 'sys/vm/drop_caches', 'sys/kernel/pid_max', 'sysrq-trigger', 'self/uid_map', '1/oom_score_adj', 'irq/default_smp_affinity'):\n\
             \x20try: open('/proc/' + p, 'w'); print('opened', p)\n except OSError: pass",
        )
        .await;
    assert_eq!(
        (text(&finished.stdout), text(&finished.stderr)),
        (String::new(), String::new())
    );
    assert_eq!(
        std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(),
        core_pattern
    );
}

#[tokio::test]
async fn init_cannot_be_reached() {
    let place = Place::new();
    let script = "import ctypes, os\nl = ctypes.CDLL(None, use_errno=True)\nlimit = (ctypes.c_ulong * 2)(1, 1)\n\
        for call in ((302, 1, 0, limit, None), (144, 1, 5, ctypes.byref(ctypes.c_int(0))), (141, 0, 1, 19), (203, 1, 8, ctypes.byref(ctypes.c_ulong(1))), (62, 1, 9), (62, 1, 19), (467, 0, 0, 0, 0, 0)):\n\
        \x20r = l.syscall(*call); print(r, ctypes.get_errno())\n\
        for name in ('environ', 'mem', 'maps', 'root', 'cwd', 'exe', 'fd/0'):\n\
        \x20try: open('/proc/1/' + name); print('opened', name)\n except OSError: pass";
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    let finished = place.python(script).await;
    assert_eq!(
        text(&finished.stdout),
        "-1 1\n".repeat(7),
        "{}",
        text(&finished.stderr)
    );
}

#[tokio::test]
async fn a_flood_without_a_line_end_is_cut_and_memory_outside_stays_bounded() {
    let place = Place::new();
    let command = place.command("cat", &["/dev/zero"], Duration::from_secs(2));
    let finished = place.launcher.run(command).await.unwrap();
    assert_eq!(finished.ending, Ending::Deadline);
    assert!(finished.truncated && finished.stdout.len() < 70_000);
}

#[tokio::test]
async fn memory_that_looks_like_files_has_its_caps() {
    let place = Place::new();
    let mut command = place.command(
        "sh",
        &["-c", "head -c 200000000 /dev/zero > /dev/shm/f; stat -c %s /dev/shm/f; truncate -s 100G big; stat -c %s big"],
        Duration::from_secs(30),
    );
    command.limits = Limits {
        file_bytes: 1 << 30,
        ..command.limits
    };
    let out = text(&place.launcher.run(command).await.unwrap().stdout);
    let sizes: Vec<u64> = out.lines().map(|line| line.parse().unwrap()).collect();
    assert!(
        sizes[0] <= 64 << 20 && sizes[1..].iter().all(|size| *size <= 1 << 30),
        "{out}"
    );
}

#[tokio::test]
async fn two_programs_know_nothing_of_each_other_and_leave_nothing_in_the_kernel() {
    let segments = || {
        std::fs::read_to_string("/proc/sysvipc/shm")
            .unwrap()
            .lines()
            .count()
    };
    let before = segments();
    let (one, two) = (Place::new(), Place::beside());
    let first = one.sh(
        "echo secret > /tmp/s; echo secret > /dev/shm/s; ipcmk -M 4096 >/dev/null 2>&1; sleep 1.5",
    );
    let second = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        two.sh("cat /tmp/s /dev/shm/s; ls /proc | grep -c '^[0-9]'; kill -9 -1")
            .await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.ending, Ending::Exited(0));
    let seen: u32 = text(&second.stdout).trim().parse().unwrap();
    assert!(seen <= 4, "init, its shell and its own: {seen}");
    assert_eq!(segments(), before);
}

#[tokio::test]
async fn a_poisoned_package_cache_is_gone_with_the_step() {
    let cargo = TempDir::new().unwrap();
    let cached = cargo.path().join("registry/src/crate.rs");
    std::fs::create_dir_all(cached.parent().unwrap()).unwrap();
    std::fs::write(&cached, "clean").unwrap();
    let host = |name: &str| match name {
        "CARGO_HOME" => Some(cargo.path().into()),
        other => std::env::var_os(other),
    };
    let script = format!("cat {0}; echo poison > {0}", cached.display());
    for _ in 0..2 {
        let mut place = Place::new();
        place.tools = Toolchains::discover(&host);
        assert_eq!(text(&place.sh(&script).await.stdout), "clean");
        let again = place.sh(&script).await;
        assert_eq!(
            text(&again.stdout),
            "poison\n",
            "within a step changes stay: {}",
            text(&again.stderr)
        );
    }
    assert_eq!(std::fs::read_to_string(&cached).unwrap(), "clean");
}

#[tokio::test]
async fn devices_and_privileged_bits_have_no_force() {
    let place = Place::new();
    let finished = place
        .sh("mknod disk b 254 0 && cat disk | head -c 1; mknod n c 1 3 && echo x > n && echo wrote; cp /usr/bin/id id && chmod 6755 id && ./id -u; su -c id 2>/dev/null | grep uid=0; true")
        .await;
    assert_eq!(
        text(&finished.stdout),
        "1000\n",
        "{}",
        text(&finished.stderr)
    );
}

#[tokio::test]
async fn a_mount_point_and_what_leads_to_it_cannot_be_moved_or_covered() {
    let place = Place::new();
    let outside = TempDir::new().unwrap();
    std::fs::write(outside.path().join("file"), "before").unwrap();
    let mut command = place.command(
        "sh",
        &[
            "-c",
            "mv /data /elsewhere; rm -rf /data; ln -sfn /tmp /data; echo x > /data/file; chmod 777 /data/file; touch /data/file; ln /data/file hard; cat /data/file",
        ],
        Duration::from_secs(10),
    );
    command.mounts.push(Mount::ReadOnly {
        host: outside.path().into(),
        inside: "/data".into(),
    });
    let finished = place.launcher.run(command).await.unwrap();
    assert_eq!(text(&finished.stdout), "before");
    assert!(!place.work.path().join("hard").exists());
}

#[tokio::test]
async fn a_ctrl_c_at_the_terminal_does_not_reach_the_launcher() {
    let place = Place::new();
    let command = place.command("sleep", &["1000"], Duration::from_secs(60));
    let mut child = place.launcher.spawn(command).unwrap();
    let pid = child.id().unwrap();
    let group = rustix::process::getpgid(rustix::process::Pid::from_raw(pid as i32)).unwrap();
    assert_ne!(group, rustix::process::getpgrp());
    child.kill().await;
    crate::warm::until(|| !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
}

#[tokio::test]
async fn a_socket_in_a_writable_mount_is_the_programs_own() {
    let place = Place::new();
    let script = "import socket\ns = socket.socket(socket.AF_UNIX); s.bind('own'); s.listen()\n\
        c = socket.socket(socket.AF_UNIX); c.connect('own'); print('own')";
    assert_eq!(text(&place.python(script).await.stdout), "own\n");
}
