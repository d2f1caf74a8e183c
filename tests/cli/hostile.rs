//! A test suite that steals, plants, multiplies and stays: the world outside is as it was, and nothing of it is left.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use crate::house::{House, git, told};

/// Processes anywhere on the machine that go by this name, the dying among them.
fn named(name: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok())
        .filter(|comm| comm.trim() == name)
        .count()
}

fn below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
            found.push(entry.path().display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn nothing_outside_is_read_changed_or_reached_and_nothing_stays() {
    let house = House::new();
    let repo = house.meter();
    let user = house.path("user");
    let mark = format!("hostile-{}", std::process::id());
    // No word that could stand in some library.
    let canary = format!("canary of {mark}");
    for name in [".ssh/id_rsa", ".cargo/credentials.toml", ".bashrc"] {
        let path = user.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &canary).unwrap();
    }
    std::fs::create_dir_all(house.home()).unwrap();
    std::fs::write(house.home().join("token"), &canary).unwrap();
    std::fs::write(repo.join("untracked.env"), &canary).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = SocketAddr::from_abstract_name(mark.as_bytes()).unwrap();
    let listeners = [
        UnixListener::bind_addr(&address).unwrap(),
        UnixListener::bind(user.join("socket")).unwrap(),
    ];
    let suite = include_str!("hostile.py")
        .replace("@HOME@", user.to_str().unwrap())
        .replace("@STATE@", house.home().to_str().unwrap())
        .replace("@REPOSITORY@", repo.to_str().unwrap())
        .replace("@PORT@", &tcp.local_addr().unwrap().port().to_string())
        .replace("@MARK@", &mark)
        .replace("@CANARY@", &canary);
    std::fs::write(repo.join("tests/test_fees.py"), suite).unwrap();
    let project = std::fs::read_to_string(repo.join("moat.toml")).unwrap();
    let project = project.replace("timeout = \"10m\"", "timeout = \"12s\"");
    std::fs::write(repo.join("moat.toml"), project).unwrap();
    git(&repo, &["commit", "-qam", "a hostile suite"]);
    let (tip, before) = (git(&repo, &["rev-parse", "HEAD"]), below(&user));

    let output = house
        .command(&["gate", "run", "tests", "--repo", "meter", "--json"])
        .env("HOME", &user)
        .env_remove("CARGO_HOME")
        .env_remove("RUSTUP_HOME")
        .output()
        .unwrap();
    let text = told(&output);
    assert_eq!(named(&mark), 0, "left behind");
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("done with everything") && text.contains("deadline"),
        "it did all it wanted, and was ended: {text}"
    );
    for word in [canary.as_str(), "stolen", "reached"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    tcp.set_nonblocking(true).unwrap();
    assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    for listener in listeners {
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(below(&user), before);
    assert_eq!(
        std::fs::read_to_string(user.join(".bashrc")).unwrap(),
        canary
    );
    assert_eq!(git(&repo, &["rev-parse", "HEAD"]), tip);
    assert_eq!(git(&repo, &["status", "--porcelain"]), "?? untracked.env");
    assert!(!repo.join(".git/hooks/post-checkout").exists());
    for planted in ["/planted", "/usr/bin/planted", "/etc/planted"] {
        assert!(!Path::new(planted).exists(), "{planted}");
    }
    let litter = below(&house.home());
    assert!(
        !litter
            .iter()
            .any(|path| path.contains("litter") || path.contains("planted")),
        "no view is left: {litter:?}"
    );
}
