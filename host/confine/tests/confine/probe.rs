//! A program in C beneath every library: system calls by number, sockets of every family, descriptors, terminals.

use std::net::{TcpListener, UdpSocket};
use std::process::Command as Program;
use std::time::Duration;

use confine::{Ending, Finished, Mount};
use tempfile::TempDir;

use crate::place::{Place, text};

/// Compiles the probe into what the program may write.
fn build(place: &Place) {
    let source = place.work.path().join("probe.c");
    std::fs::write(&source, include_str!("probe.c")).unwrap();
    let built = Program::new("cc")
        .arg("-w")
        .arg("-o")
        .arg(place.work.path().join("probe"))
        .arg(&source)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", text(&built.stderr));
}

async fn probe(place: &Place, words: &[&str], mounts: Vec<Mount>) -> Finished {
    let mut command = place.command("sh", &[], Duration::from_secs(60));
    command.program = "/workspace/probe".into();
    command.args = words.iter().map(|word| (*word).to_owned()).collect();
    command.mounts.extend(mounts);
    place.launcher.run(command).await.unwrap()
}

#[tokio::test]
async fn every_call_that_leads_out_is_refused_by_number() {
    let place = Place::new();
    build(&place);
    let finished = probe(&place, &["calls"], vec![]).await;
    assert_eq!(text(&finished.stdout), "end\n", "{:?}", finished.ending);
    if cfg!(target_arch = "x86_64") {
        for numbers in ["int80", "x32"] {
            let finished = probe(&place, &[numbers], vec![]).await;
            assert_eq!(finished.ending, Ending::Signalled(31), "{numbers}");
            assert_eq!(text(&finished.stdout), "", "{numbers}");
        }
    }
}

#[tokio::test]
async fn no_descriptor_is_open_but_the_three() {
    let place = Place::new();
    build(&place);
    // Some that are not marked to be closed, as a careless library leaves them.
    let leaked: Vec<_> = (0..20)
        .map(|_| {
            rustix::fs::open(
                "/etc/hostname",
                rustix::fs::OFlags::RDONLY,
                rustix::fs::Mode::empty(),
            )
            .unwrap()
        })
        .collect();
    let finished = probe(&place, &["descriptors"], vec![]).await;
    assert_eq!(text(&finished.stdout), "end\n");
    assert_eq!(leaked.len(), 20);
}

#[tokio::test]
async fn no_family_of_sockets_reaches_anything_outside() {
    let place = Place::new();
    build(&place);
    let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let udp = UdpSocket::bind(("0.0.0.0", port)).unwrap();
    let six = (
        TcpListener::bind(("::1", port)).ok(),
        UdpSocket::bind(("::1", port)).ok(),
    );
    let finished = probe(&place, &["sockets", &port.to_string()], vec![]).await;
    assert_eq!(
        text(&finished.stdout),
        "end\n",
        "{}",
        text(&finished.stderr)
    );
    // What the listeners got counts, not what the program was told.
    let mut buffer = [0; 16];
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    assert!(tcp.accept().is_err() && udp.recv_from(&mut buffer).is_err());
    if let Some(tcp) = six.0 {
        tcp.set_nonblocking(true).unwrap();
        assert!(tcp.accept().is_err());
    }
    if let Some(udp) = six.1 {
        udp.set_nonblocking(true).unwrap();
        assert!(udp.recv_from(&mut buffer).is_err());
    }
}

#[tokio::test]
async fn nothing_of_a_file_outside_can_be_changed_not_even_its_attributes() {
    use std::os::unix::fs::MetadataExt as _;
    let (place, outside) = (Place::new(), TempDir::new().unwrap());
    build(&place);
    let file = outside.path().join("file");
    std::fs::write(&file, "before").unwrap();
    let state = || {
        let data = std::fs::metadata(&file).unwrap();
        (
            data.mode(),
            data.uid(),
            data.mtime_nsec(),
            data.ctime_nsec(),
            data.nlink(),
            data.len(),
        )
    };
    let before = state();
    let mount = Mount::ReadOnly {
        host: outside.path().into(),
        inside: "/data".into(),
    };
    let finished = probe(&place, &["outside", "/data/file"], vec![mount]).await;
    assert_eq!(text(&finished.stdout), "end\n");
    assert_eq!(state(), before);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn there_is_no_terminal_to_type_into() {
    let place = Place::new();
    build(&place);
    let finished = probe(&place, &["terminal"], vec![]).await;
    assert_eq!(text(&finished.stdout), "end\n");
}

/// The same where the launcher's own process has a controlling terminal.
#[test]
fn not_even_where_moat_itself_has_one() {
    if std::env::var_os("MOAT_TEST_AT_TERMINAL").is_some() {
        return;
    }
    let script =
        "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let output = Program::new("python3")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "probe::there_is_no_terminal_to_type_into"])
        .env("MOAT_TEST_AT_TERMINAL", "1")
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert!(said.contains("1 passed"), "it did run: {said}");
}
