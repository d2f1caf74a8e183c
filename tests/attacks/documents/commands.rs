//! Commands that a skill was given, by themselves and with the skill's network: what leaves by the proxy, and what stays behind.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Plan, Yard, fetch, printed, server, snapshot, within};
use crate::house::git;

/// Sends bytes to the proxy as they are, each on a connection of its own.
const RAW: &str = r#"
import socket, sys
def raw(data):
    try:
        with socket.create_connection(("127.0.0.1", 3128), 5) as s:
            s.settimeout(3)
            s.sendall(data)
            got = b""
            try:
                while len(got) < 65536:
                    more = s.recv(4096)
                    if not more: break
                    got += more
            except OSError: pass
            return got
    except OSError as e:
        return repr(e).encode()
"#;

#[test]
fn the_proxy_is_no_way_to_another_origin_path_or_method() {
    let (server, other) = (server(), server());
    let yard = Yard::new(&Plan::running(server.port, true, ""));
    let text = format!(
        r#"{RAW}
P, Q = {}, {}
good = raw(b"GET http://localhost:%d/v1/good HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n\r\n" % (P, P))
print("GOOD" if b"200" in good.split(b"\r\n")[0] else good)
end = b"\r\nConnection: close\r\n\r\n"
for line in [b"GET http://localhost:%d/v1" % Q, b"GET http://127.0.0.1:%d/v1" % Q, b"GET http://localhost:%d@localhost:%d/v1" % (P, Q),
             b"GET http://localhost:%d/../v2" % P, b"GET http://localhost:%d/v1/../v2" % P, b"GET http://localhost:%d/v1/%%2e%%2e/v2" % P,
             b"POST http://localhost:%d/v1" % P, b"get http://localhost:%d/v1" % P, b"GET /v1", b"GET //localhost:%d/v1" % Q, b"GET http:/v1",
             b"GET file:///etc/passwd", b"GET ftp://localhost:%d/v1" % Q, b"GET ws://localhost:%d/v1" % Q, b"OPTIONS *", b"TRACE http://localhost:%d/v1" % P,
             b"GET http://[::1]:%d/v1" % Q, b"GET http://localhost:%d#@localhost:%d/v1" % (P, Q), b"GET http://localhost:%d\\@localhost:%d/v1" % (P, Q)]:
    for host in [b"localhost:%d" % P, b"localhost:%d" % Q, b"127.0.0.1:%d" % Q]:
        raw(line + b" HTTP/1.1\r\nHost: " + host + end)
for hosts in [b"Host: localhost:%d" % Q, b"Host: localhost:%d\r\nHost: localhost:%d" % (P, Q), b"Host: localhost:%d, localhost:%d" % (P, Q),
              b"Host : localhost:%d" % P, b"Host: localhost:%d\r\n  localhost:%d" % (P, Q), b"X: y", b"Host: localhost:%d\r\nX-Forwarded-Host: localhost:%d" % (P, Q)]:
    raw(b"GET http://localhost:%d/v1/host HTTP/1.1\r\n" % P + hosts + end)
inner = b"GET http://localhost:%d/v1/smuggled HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % (Q, Q)
hidden = b"GET /v2/smuggled HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % P
for framing in [b"Content-Length: 0\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 4", b"Transfer-Encoding: xchunked",
                b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding:\x0bchunked", b"Content-Length: 0\r\nContent-Length: 9", b"Content-Length: +0",
                b"Content-Length: 0, 9", b"Content-Length : 0", b"Connection: Host", b"Upgrade: h2c\r\nConnection: upgrade"]:
    for rest in [inner, hidden, b"0\r\n\r\n" + inner, b"0\r\n\r\n" + hidden]:
        raw(b"GET http://localhost:%d/v1/framed HTTP/1.1\r\nHost: localhost:%d\r\n" % (P, P) + framing + b"\r\n\r\n" + rest)
for to in [b"localhost:%d" % Q, b"127.0.0.1:%d" % Q, b"localhost:%d" % P, b"[::1]:%d" % Q, b"localhost:%d@localhost:%d" % (P, Q), b"localhost", b":%d" % Q]:
    for host in [to, b"localhost:%d" % P]:
        raw(b"CONNECT " + to + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n" + hidden)
raw(b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01" + Q.to_bytes(2, "big") + inner)
raw(b"\x04\x01" + Q.to_bytes(2, "big") + b"\x7f\x00\x00\x01\x00" + inner)
raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64))
raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600))
raw(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 %d\r\n" % Q + inner)
raw(b"\x00" * 100000); raw(b"A" * 200000); raw(b"GET http://localhost:%d/v1 HTTP/1.1\r\n" % P + b"a: b\r\n" * 50000)
print("DONE")
"#,
        server.port, other.port
    );
    let told = yard.python(&text);
    assert!(told.contains("GOOD") && told.contains("DONE"), "{told}");
    let strange = other.seen();
    assert!(strange.is_empty(), "{strange:?}");
    for request in server.seen() {
        let host = format!("localhost:{}", server.port);
        assert_eq!(request.header("host"), Some(host.as_str()), "{request:?}");
        let hosts = request
            .headers
            .iter()
            .filter(|(name, _)| name.trim().eq_ignore_ascii_case("host"));
        assert!(
            request.method == "GET" && request.target.starts_with("/v1") && hosts.count() == 1,
            "{request:?}"
        );
        assert!(
            !request.target.contains("smuggled") && !request.target.contains(".."),
            "{request:?}"
        );
        assert!(
            !String::from_utf8_lossy(&request.body).contains("smuggled"),
            "{request:?}"
        );
    }
    yard.verifies();
}

/// Everything that a socket might reach, beside the door.
const REACH: &str = r#"
import socket, os, errno
found = []
def tcp(family, address):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(2)
    try:
        s.connect(address); found.append(("tcp", address))
    except OSError: pass
    finally: s.close()
for host in ["127.0.0.1", "127.0.0.2", "10.0.0.1", "169.254.169.254", "0.0.0.0"]: tcp(socket.AF_INET, (host, P))
for host in ["::1", "::ffff:127.0.0.1", "fe80::1"]:
    try: tcp(socket.AF_INET6, (host, P))
    except OSError: pass
for port in [U]:
    try:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b"hello", ("127.0.0.1", port))
    except OSError: pass
for port in range(1, 65536):
    s = socket.socket(); s.setblocking(False)
    if s.connect_ex(("127.0.0.1", port)) == 0: found.append(("open", port))
    else:
        import select
        if select.select([], [s], [], 0)[1] and s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0: found.append(("open", port))
    # A socket that happened to ask from the very port it asks for has reached itself.
    try:
        if s.getsockname() == s.getpeername(): found.pop()
    except OSError: pass
    s.close()
try: socket.getaddrinfo("example.com", 80); found.append("dns")
except OSError: pass
print(found)
"#;

#[test]
fn a_command_on_the_network_has_its_door_and_no_other() {
    let server = server();
    let (tcp, udp) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    let text = format!(
        "P, U = {}, {}\n{REACH}",
        tcp.local_addr().unwrap().port(),
        udp.local_addr().unwrap().port()
    );
    let yard = Yard::new(&Plan::running(server.port, true, ""));
    assert_eq!(yard.python(&text).trim(), "[('open', 3128)]");
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    assert!(tcp.accept().is_err() && udp.recv(&mut [0; 9]).is_err());
}

#[test]
fn a_command_without_the_network_finds_no_door_not_even_anothers() {
    let server = server();
    let online = Yard::new(&Plan::running(server.port, true, ""));
    let waits = json!({"do": "run", "name": "python", "args": ["import time; time.sleep(300)"]});
    let mut waiting = online
        .command(&waits)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Declared, and not granted; granted, and not declared: neither is online.
    let declared = {
        let mut plan = Plan::running(server.port, true, "");
        plan.grant = plan.grant.replace("online = [\"python\"]\n", "");
        Yard::new(&plan)
    };
    let withheld = {
        let mut plan = Plan::running(server.port, true, "");
        plan.ceiling = plan.ceiling.replace("online = [\"*\"]\n", "");
        Yard::new(&plan)
    };
    let plain = Yard::new(&Plan::running(server.port, false, ""));
    for yard in [&declared, &withheld, &plain] {
        let text = format!("P, U = {}, 9\n{REACH}", server.port);
        let answer = yard.call(&json!({"do": "run", "name": "python", "args": [text]}));
        if answer["error"].is_null() {
            assert_eq!(printed(&answer).trim(), "[]");
        }
    }
    assert!(
        waiting.try_wait().unwrap().is_none(),
        "the other one had its door all the time"
    );
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    assert!(server.seen().is_empty());
}

#[test]
fn a_command_inherits_nothing_that_was_set_for_moat() {
    let server = server();
    let yard = Yard::new(&Plan::running(server.port, true, ""));
    let text = "import os; print(sorted(os.environ.items())); print(open('/proc/self/environ').read()); print(open('/proc/1/environ', errors='replace').read())";
    let plain = yard.python("import os; print(sorted(os.environ))");
    let mut command = yard.command(&json!({"do": "run", "name": "python", "args": [text.replace("; print(open('/proc/1", "\ntry: print(open('/proc/1") + "\nexcept OSError: pass"]}));
    for name in [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "PYTHONSTARTUP",
        "PYTHONPATH",
        "BASH_ENV",
        "ENV",
        "GIT_DIR",
        "SSH_AUTH_SOCK",
        "AWS_SECRET_ACCESS_KEY",
        "NODE_OPTIONS",
        "PERL5LIB",
        "RUSTC_WRAPPER",
        "CARGO_BUILD_RUSTC_WRAPPER",
        "HTTP_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "SSL_CERT_FILE",
        "DBUS_SESSION_BUS_ADDRESS",
        "KRB5CCNAME",
    ] {
        command.env(name, format!("/nowhere/mark-of-moat-{name}"));
    }
    let output = within(command);
    let told = printed(&super::answer(&output));
    assert!(told.contains("PATH"), "{told}");
    assert!(
        !told.contains("mark-of-moat") && !told.contains("MOAT_HOME"),
        "{told}"
    );
    assert!(plain.contains("PATH"));
}

#[test]
fn a_command_sees_neither_moat_nor_its_state_nor_the_repository() {
    let server = server();
    let yard = Yard::new(&Plan::running(server.port, false, ""));
    std::fs::write(yard.house.home().join("token"), "canary").unwrap();
    let text = format!(
        r#"
import os
for path in ["{home}", "{repo}", "{repo}/.git", "{place}", "/proc/1/root{home}", "/proc/self/root{home}", "/proc/1/cwd", "/workspace/.git", "/workspace/../home",
             "/home", "/run/user", "/var/run/docker.sock", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/fuse", "/dev/kvm", "/sys/kernel", "/proc/kcore", "/etc/shadow", "{moat}"]:
    try:
        found = os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)
        if found: print("SEEN", path, found)
    except OSError: pass
print(sorted(os.listdir("/workspace"))[:2], "DONE")
"#,
        home = yard.house.home().display(),
        repo = yard.repo.display(),
        place = yard.house.path("").display(),
        moat = crate::house::MOAT
    );
    let told = yard.python(&text);
    assert!(told.contains("DONE"), "{told}");
    for seen in told.lines().filter(|line| line.starts_with("SEEN")) {
        // Its own first process stands in its own place.
        assert!(seen.starts_with("SEEN /proc/1/cwd"), "{told}");
        assert!(
            !seen.contains("canary") && !seen.contains("policy.toml"),
            "{told}"
        );
    }
}

fn running(mark: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| line.windows(mark.len()).any(|part| part == mark.as_bytes()))
        .count()
}

/// Leaves children that have cut every tie; the mark is an argument of each.
fn leaver(mark: &str, last: &str) -> String {
    format!(
        r#"
import os, signal, subprocess, sys
for n in range(5):
    if os.fork() == 0:
        os.setsid()
        for s in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT): signal.signal(s, signal.SIG_IGN)
        if os.fork() == 0:
            for fd in range(0, 64):
                try: os.close(fd)
                except OSError: pass
            os.execvp("python3", ["python3", "-c", "import time; time.sleep(300)", "{mark}-%d" % n])
        os._exit(0)
import time; time.sleep(0.5)
print("LEFT", flush=True)
{last}
"#
    )
}

#[test]
fn nothing_that_a_command_left_outlives_the_call() {
    let server = server();
    let yard = Yard::new(&Plan::running(server.port, true, "time = \"5s\"\n"));
    let mark = format!("left-behind-{}", std::process::id());
    assert!(yard.python(&leaver(&mark, "")).contains("LEFT"));
    assert_eq!(running(&format!("{mark}-")), 0);
    // It ends at its own bound, long before the call's, and so do they.
    let begun = Instant::now();
    let answer = yard.answered(
        &json!({"do": "run", "name": "python", "args": [leaver(&mark, "time.sleep(300)")]}),
    );
    assert!(
        answer["ending"]
            .as_str()
            .is_some_and(|ending| !ending.contains("Exit")),
        "{answer}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(45),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(running(&format!("{mark}-")), 0);
    // And when moat itself is killed.
    let input = json!({"do": "run", "name": "python", "args": [leaver(&mark, "time.sleep(300)")]});
    let mut moat = yard
        .command(&input)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while running(&format!("{mark}-")) < 5 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(running(&format!("{mark}-")) > 0, "this test can fail");
    moat.kill().unwrap();
    moat.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while running(&format!("{mark}-")) > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(running(&format!("{mark}-")), 0);
}

#[test]
fn a_commands_memory_ends_where_the_manifest_says() {
    let server = server();
    let yard = Yard::new(&Plan::running(server.port, false, "memory = \"256MiB\"\n"));
    let take = |mib: usize| {
        let text = format!(
            "b = bytearray({mib} << 20)\nfor n in range(0, len(b), 4096): b[n] = 1\nprint('HAD', len(b) >> 20)"
        );
        yard.python(&text)
    };
    assert!(take(16).contains("HAD 16"));
    assert!(!take(900).contains("HAD"));
    let mapped = "import mmap\nm = mmap.mmap(-1, 900 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\nfor n in range(0, len(m), 4096): m[n] = 1\nprint('HAD')";
    assert!(!yard.python(mapped).contains("HAD"));
    let lifted = "import resource\nfor what in (resource.RLIMIT_AS, resource.RLIMIT_DATA):\n    try: resource.setrlimit(what, (-1, -1))\n    except (OSError, ValueError): pass\nb = bytearray(900 << 20)\nprint('HAD')";
    assert!(!yard.python(lifted).contains("HAD"));
}

#[test]
fn what_a_command_or_guest_plants_is_nowhere_afterwards() {
    let server = server();
    let yard = Yard::new(&Plan::running(server.port, false, ""));
    yard.python("print(1)");
    let (state, repo) = (snapshot(&yard.house.home()), snapshot(&yard.repo));
    let names = [
        ".git/hooks/post-checkout",
        ".GIT/config",
        ".git /config",
        "git~1/config",
        ".g%it/config",
        ".git",
        "moat.toml",
        "skill.toml",
        "policy.toml",
        "secrets.toml",
        "approvals/asker",
        "refs/heads/main",
        "HEAD",
        "objects/aa",
        "tools/asker/component.wasm",
        "tools/asker/skill.toml",
        ".gitattributes",
        ".gitmodules",
        "journal.sqlite",
        "audit/000001.jsonl",
        "a b",
        "-rf",
        "main",
        "meter/fees.py",
    ];
    let text = format!(
        r#"
import os
made = 0
for name in {names:?}:
    try:
        os.makedirs(os.path.dirname(os.path.join("/workspace", name)), exist_ok=True)
        open(os.path.join("/workspace", name), "w").write("planted"); made += 1
    except OSError as e: pass
for link in ["/etc/passwd", "../../../..", "{repo}/.git"]:
    try: os.symlink(link, "/workspace/link-%d" % len(link)); made += 1
    except OSError: pass
for act in [lambda: os.truncate("/workspace/meter/server.py", 1 << 50), lambda: open("/workspace/sparse", "w").truncate(1 << 42), lambda: os.mkfifo("/workspace/pipe"),
            lambda: os.link("/workspace/meter/fees.py", "/workspace/hard"), lambda: os.setxattr("/workspace/meter/fees.py", "user.x", b"y" * 1000),
            lambda: os.setxattr("/workspace/meter", "trusted.overlay.opaque", b"y"), lambda: os.setxattr("/workspace/meter", "user.overlay.opaque", b"y"),
            lambda: os.setxattr("/workspace/meter/fees.py", "security.capability", b"\x01" * 20), lambda: os.chmod("/workspace/meter/fees.py", 0o6777),
            lambda: os.mknod("/workspace/zero", 0o20666, os.makedev(1, 5)), lambda: os.chmod("/workspace", 0), lambda: os.utime("/workspace", (1 << 40, 1 << 40))]:
    try: act(); made += 1
    except (OSError, OverflowError): pass
print("MADE", made)
"#,
        repo = yard.repo.display()
    );
    let told = yard.python(&text);
    assert!(told.contains("MADE") && !told.contains("MADE 0"), "{told}");
    for name in names {
        yard.call(&json!({"do": "write", "path": name, "text": "planted"}));
        yard.call(&json!({"do": "make", "path": name}));
        yard.call(&json!({"do": "symlink", "path": "/etc", "to": name}));
        yard.call(&json!({"do": "link", "path": "meter/server.py", "to": name}));
    }
    assert_eq!(snapshot(&yard.repo), repo);
    assert_eq!(git(&yard.repo, &["status", "--porcelain"]), "");
    let after = snapshot(&yard.house.home());
    // The trail grows, the repository's copy is what it was; nothing else has come.
    for (path, content) in &after {
        assert!(
            !content.windows(7).any(|part| part == b"planted"),
            "{}",
            path.display()
        );
    }
    let names = |all: &[(std::path::PathBuf, Vec<u8>)]| {
        // What a skill changed was read into moat's own store, without a name, to be shown.
        let named = all
            .iter()
            .map(|(path, _)| path.clone())
            .filter(|path| !path.to_string_lossy().contains(".git/objects/"));
        named.collect::<Vec<_>>()
    };
    assert_eq!(names(&after), names(&state));
    let disk: u64 = after
        .iter()
        .filter_map(|(path, _)| std::fs::symlink_metadata(path).ok())
        .map(|data| data.blocks() * 512)
        .sum();
    assert!(disk < 64 << 20, "{disk}");
    yard.verifies();
}

#[test]
fn an_argument_list_is_the_one_that_was_granted_and_no_other() {
    let server = server();
    let mut plan = Plan::asking(server.port);
    plan.manifest += "\n[[processes]]\nprogram = \"echo\"\nargs = [[\"ok\"], [\"say\", \"*\"]]\nreason = \"test\"\n";
    plan.grant += "programs = [\"echo\"]\n";
    let yard = Yard::new(&plan);
    let run = |program: &str, args: &[&str]| {
        yard.answered(&json!({"do": "run", "program": program, "args": args}))
    };
    assert_eq!(printed(&run("echo", &["ok"])).trim(), "ok");
    assert_eq!(printed(&run("echo", &["say", "x"])).trim(), "say x");
    for args in [
        &["ok", "x"][..],
        &["OK"],
        &[],
        &["ok "],
        &["say"],
        &["say", "-n"],
        &["say", "--help"],
        &["say", "a", "b"],
        &["say", "a\0b"],
        &["ok", ""],
        &["", "ok"],
        &["*"],
        &["say", "*", "*"],
        &["\u{2010}n"],
        &["say\0", "x"],
    ] {
        let answer = run("echo", args);
        assert!(!answer["error"].is_null(), "{args:?}: {answer}");
    }
    for program in [
        "/bin/echo",
        "./echo",
        "ECHO",
        "echo ",
        " echo",
        "echo\0",
        "../bin/echo",
        "env",
        "sh",
        "",
        "echo;id",
        "echo\n",
        "python3",
        "busybox",
    ] {
        let answer = run(program, &["ok"]);
        assert!(!answer["error"].is_null(), "{program:?}: {answer}");
    }
    for name in [
        "TEST",
        "test ",
        "../test",
        "python",
        "",
        "test\0",
        "te\u{455}t",
    ] {
        let answer = yard.answered(&json!({"do": "run", "name": name}));
        assert!(!answer["error"].is_null(), "{name:?}: {answer}");
    }
    // A command that takes no more arguments takes none.
    let answer = yard.answered(&json!({"do": "run", "name": "test", "args": ["--help"]}));
    assert!(!answer["error"].is_null(), "{answer}");
}

#[test]
fn a_command_begins_in_the_view_wherever_it_is_told_to() {
    let server = server();
    let yard = Yard::new(&Plan::running(server.port, false, ""));
    let at = |directory: &str| {
        yard.call(&json!({"do": "run", "name": "python", "args": ["import os; print(os.getcwd())"], "directory": directory}))
    };
    assert_eq!(printed(&at("meter")).trim(), "/workspace/meter");
    for directory in [
        "..",
        "/",
        "../..",
        "meter/../..",
        "/etc",
        "meter/../../../etc",
        "./..",
        "~",
        "meter\0/..",
        "meter/..\\..",
        "tools/link",
        "//",
        "/proc/self/root",
        "meter\n",
        ".git",
        "/workspace/../",
    ] {
        let answer = at(directory);
        if answer.is_null() || !answer["error"].is_null() {
            continue;
        }
        let place = printed(&answer);
        assert!(place.starts_with("/workspace"), "{directory:?}: {place}");
    }
}

#[test]
fn a_call_that_uses_all_that_it_may_holds_up_no_neighbour() {
    let server = server();
    let mut plan = Plan::running(server.port, false, "");
    plan.limits = "memory = \"64MiB\"\ntime = \"20s\"\nfuel = 30000000000\noutput = \"64KiB\"\nhost-calls = 200\nhandles = 50\nrequests = 5\n";
    let yard = Yard::new(&plan);
    let url = format!("http://localhost:{}/v1", server.port);
    for what in [
        json!({"do": "spin"}),
        json!({"do": "grow"}),
        json!({"do": "recurse"}),
        json!({"do": "flood"}),
        json!({"do": "huge"}),
        json!({"do": "storm"}),
        json!({"do": "insist", "count": 100_000}),
        json!({"do": "panic"}),
        json!({"do": "nest", "depth": 200_000}),
        json!({"do": "hold", "count": 1000, "scheme": "http", "authority": format!("localhost:{}", server.port), "path": "/v1/held"}),
    ] {
        let mut bad = yard
            .command(&what)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answer = yard.answered(&fetch(&url));
        assert_eq!(answer["status"], 200, "{what}: {answer}");
        let until = Instant::now() + super::PATIENCE;
        while bad.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "{what} has no end");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(
            bad.wait().unwrap().code().is_some(),
            "{what}: moat itself was ended"
        );
    }
    let held = server
        .seen()
        .iter()
        .filter(|one| one.target == "/v1/held")
        .count();
    assert!(held <= 5, "{held}");
    let opened = yard.call(&json!({"do": "open", "path": "meter/fees.py"}));
    assert!(opened.as_u64().unwrap_or(0) <= 50, "{opened}");
    yard.verifies();
}
