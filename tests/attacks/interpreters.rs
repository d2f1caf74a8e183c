//! Commands in other languages that try all that their interpreter can: files, /proc, system calls, sockets, processes that stay.

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::documents::{Plan, Yard, printed, server, snapshot};
use crate::house::git;

/// What they are after: a user's files and process, and listeners of the machine.
struct World {
    user: PathBuf,
    canary: String,
    mark: String,
    victim: Child,
    tcp: TcpListener,
    udp: UdpSocket,
    unix: [UnixListener; 2],
}

impl World {
    fn around(yard: &Yard, language: &str) -> World {
        let user = yard.house.path("user");
        // A process's name has 15 characters.
        let mark = format!("m-{language}-{}", std::process::id());
        let canary = format!("canary of {mark}");
        std::fs::create_dir_all(user.join(".ssh")).unwrap();
        std::fs::write(user.join(".ssh/id_rsa"), &canary).unwrap();
        let module = format!("module.exports = {canary:?};\n");
        std::fs::write(user.join("module.js"), module).unwrap();
        let victim = Command::new("sleep")
            .arg("600")
            .env("CANARY", &canary)
            .current_dir(&user)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let address = SocketAddr::from_abstract_name(mark.as_bytes()).unwrap();
        World {
            victim,
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            unix: [
                UnixListener::bind_addr(&address).unwrap(),
                UnixListener::bind(user.join("socket")).unwrap(),
            ],
            user,
            canary,
            mark,
        }
    }

    fn filled(&self, text: &str) -> String {
        let port = |address: std::io::Result<std::net::SocketAddr>| address.unwrap().port();
        text.replace("@OUTSIDE@", self.user.to_str().unwrap())
            .replace("@MARK@", &self.mark)
            .replace("@VICTIM@", &self.victim.id().to_string())
            .replace("@PORT@", &port(self.tcp.local_addr()).to_string())
            .replace("@UDP@", &port(self.udp.local_addr()).to_string())
    }

    /// Nothing of it was read, changed, stopped or spoken to, and nothing is left of whoever tried.
    fn is_as_it_was(&mut self, before: &[(PathBuf, Vec<u8>)], told: &str) {
        assert_eq!(running(&self.mark), Vec::<String>::new(), "left behind");
        let seen = told.lines().filter(|line| line.starts_with("SEEN"));
        let (controls, others): (Vec<&str>, Vec<&str>) =
            seen.partition(|line| line.starts_with("SEEN control"));
        assert_eq!((controls.len(), others), (2, vec![]), "{told}");
        assert!(!told.contains(&self.canary), "{told}");
        assert_eq!(snapshot(&self.user), before);
        assert!(self.victim.try_wait().unwrap().is_none(), "it was killed");
        let status = format!("/proc/{}/status", self.victim.id());
        let status = std::fs::read_to_string(status).unwrap();
        assert!(
            status.contains("State:\tS") && status.contains("TracerPid:\t0"),
            "{status}"
        );
        self.tcp.set_nonblocking(true).unwrap();
        assert_eq!(self.tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        self.udp.set_nonblocking(true).unwrap();
        let heard = self.udp.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(heard.kind(), ErrorKind::WouldBlock);
        for listener in &self.unix {
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        for place in ["/usr/bin", "/etc", "/", "/dev"] {
            let planted = Path::new(place).join(format!("planted-{}", self.mark));
            assert!(!planted.exists(), "{}", planted.display());
        }
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        assert_ne!(pattern.trim(), "planted");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

/// Processes anywhere on the machine that go by this name or have it as an argument.
fn running(mark: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let named = processes.filter_map(|entry| {
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let first = String::from_utf8_lossy(line.split(|byte| *byte == 0).next()?).into_owned();
        (name.trim() == mark || first == mark).then(|| format!("{:?} {first}", entry.path()))
    });
    named.collect()
}

fn tries_everything(language: &str, line: &'static str, text: &str, least: usize) {
    let server = server();
    let plan = Plan::interpreting(server.port, (language, line), false, "");
    let yard = Yard::new(&plan);
    let mut world = World::around(&yard, language);
    let (before, tip) = (
        snapshot(&world.user),
        git(&yard.repo, &["rev-parse", "HEAD"]),
    );
    let told = yard.interpreted(language, &world.filled(text));
    assert!(told.contains("DONE"), "it was ended on the way: {told}");
    let tries = told.lines().filter(|line| line.starts_with("TRY")).count();
    assert!(tries >= least, "{tries} of {least}: {told}");
    world.is_as_it_was(&before, &told);
    assert_eq!(git(&yard.repo, &["rev-parse", "HEAD"]), tip);
    assert_eq!(git(&yard.repo, &["status", "--porcelain"]), "");
    assert!(server.seen().is_empty());
    yard.verifies();
}

#[test]
fn python_with_every_system_call_at_hand_reaches_nothing_and_leaves_nothing() {
    tries_everything(
        "python",
        "python = [\"python3\", \"-c\"]\n",
        include_str!("interpreters.py"),
        90,
    );
}

#[test]
#[allow(clippy::print_stderr, reason = "it says that it is left out")]
fn javascript_with_all_of_its_runtime_reaches_nothing_and_leaves_nothing() {
    let is_there = Command::new("node")
        .args([
            "-e",
            "process.exit(Number(process.versions.node.split('.')[0]) < 18 ? 1 : 0)",
        ])
        .status()
        .is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("left out: there is no node here");
        return;
    }
    tries_everything(
        "node",
        "node = [\"node\", \"-e\"]\n",
        include_str!("interpreters.js"),
        60,
    );
}

/// Which of two variables of the project the component, a program of its choice and the project's own command see.
fn variables(granted: &str, ceiling: &str) -> [Vec<&'static str>; 3] {
    let server = server();
    let mut plan = Plan::running(server.port, false, "");
    plan.manifest += "\n[[processes]]\nprogram = \"printenv\"\nargs = [[]]\nreason = \"test\"\n[[env]]\nname = \"SHOWN\"\nreason = \"test\"\n";
    plan.grant += &format!("programs = [\"printenv\"]\n{granted}");
    plan.ceiling += ceiling;
    let yard = Yard::new(&plan);
    let path = yard.repo.join("moat.toml");
    let file = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        path,
        file + "\n[env]\nSHOWN = \"value-of-shown\"\nKEPT = \"value-of-kept\"\n",
    )
    .unwrap();
    yard.commit("two variables");
    let seen = |text: String| {
        let mut seen = vec!["value-of-shown", "value-of-kept"];
        seen.retain(|value| text.contains(value));
        seen
    };
    let program = json!({"do": "run", "program": "printenv", "args": []});
    [
        seen(yard.answered(&json!({"do": "env"})).to_string()),
        seen(printed(&yard.answered(&program))),
        seen(yard.python("import os; print(os.environ)")),
    ]
}

#[test]
fn a_program_sees_the_variables_that_the_grant_names_and_the_projects_command_its_own() {
    let both = vec!["value-of-shown", "value-of-kept"];
    let one = vec!["value-of-shown"];
    assert_eq!(
        variables("env = [\"SHOWN\"]\n", ""),
        [one.clone(), one, both.clone()]
    );
    assert_eq!(variables("", ""), [vec![], vec![], both]);
}
