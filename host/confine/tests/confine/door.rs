//! A command with a door reaches the door, and nothing else.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use confine::{ConfineError, DOOR_PORT, Ending, Launcher, Network};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::place::{Place, text};

const SECONDS: Duration = Duration::from_secs(60);

/// Answers whoever connects with what it said, turned to capitals.
async fn shout(listener: tokio::net::TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut said = vec![0; 64];
        let length = stream.read(&mut said).await.unwrap();
        stream
            .write_all(&said[..length].to_ascii_uppercase())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_command_reaches_its_door_and_nothing_else() {
    let place = Place::new();
    let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    let (port, udp_port) = (
        tcp.local_addr().unwrap().port(),
        udp.local_addr().unwrap().port(),
    );
    // An address of this machine, or one that no route leads to: both are the same in there.
    let script = format!(
        "import errno, socket\n\
         c = socket.create_connection(('127.0.0.1', {DOOR_PORT}), 5); c.sendall(b'hello'); print(c.recv(64).decode())\n\
         def tried(what):\n\
         \x20try: what(); print('reached')\n except OSError as e: print(errno.errorcode.get(e.errno, e.errno))\n\
         def udp(to, family=socket.AF_INET): socket.socket(family, socket.SOCK_DGRAM).sendto(b'x', to)\n\
         tried(lambda: socket.create_connection(('127.0.0.1', {port}), 2))\n\
         tried(lambda: socket.create_connection(('192.0.2.1', 443), 2))\n\
         tried(lambda: socket.create_connection(('169.254.169.254', 80), 2))\n\
         tried(lambda: socket.create_connection(('2001:db8::1', 443), 2))\n\
         tried(lambda: udp(('192.0.2.1', 53)))\n\
         tried(lambda: udp(('2001:db8::1', 53), socket.AF_INET6))\n\
         udp(('127.0.0.1', {udp_port}))\n\
         tried(lambda: socket.getaddrinfo('moat-test.example.com', 443))\n\
         s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
         tried(lambda: (s.bind(('127.0.0.1', {DOOR_PORT})), s.listen()))\n\
         import os; print(sorted(os.listdir('/proc/sys/net/ipv4/conf')))\n"
    );
    let command = place.command("python3", &["-c", &script], SECONDS);
    let finished = place.launcher.run_with_door(command, shout).await.unwrap();
    let out = text(&finished.stdout);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 10, "{out}{}", text(&finished.stderr));
    assert_eq!(
        lines[..7],
        [
            "HELLO",
            "ECONNREFUSED",
            "ENETUNREACH",
            "ENETUNREACH",
            "ENETUNREACH",
            "ENETUNREACH",
            "ENETUNREACH"
        ]
    );
    assert_ne!(lines[7], "reached", "a name was looked up");
    assert_eq!(lines[8..], ["EADDRINUSE", "['all', 'default', 'lo']"]);
    assert!(
        tcp.accept().is_err() && udp.recv(&mut [0; 8]).is_err(),
        "something arrived outside"
    );
}

#[tokio::test]
async fn what_a_command_listens_at_is_out_of_reach_for_everybody_else() {
    let (place, other) = (Place::new(), Place::beside());
    let listening = "import socket, time\ns = socket.socket(); s.bind(('0.0.0.0', 45123)); s.listen()\n\
        c = socket.create_connection(('127.0.0.1', 3128)); c.sendall(b'up'); s.settimeout(3)\n\
        try: s.accept(); print('reached')\nexcept TimeoutError: print('nobody')";
    let (up, is_up) = tokio::sync::oneshot::channel();
    let first = place.launcher.run_with_door(
        place.command("python3", &["-c", listening], SECONDS),
        |listener| async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 2]).await.unwrap();
            up.send(()).unwrap();
            std::future::pending().await
        },
    );
    let second = async {
        is_up.await.unwrap();
        assert!(
            std::net::TcpStream::connect("127.0.0.1:45123").is_err(),
            "from the host"
        );
        let probe = "import socket\nfor p in (45123, 3128):\n try: socket.create_connection(('127.0.0.1', p), 2); print('reached')\n except OSError: print('no')";
        let command = other.command("python3", &["-c", probe], SECONDS);
        other.launcher.run(command).await.unwrap()
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(text(&first.unwrap().stdout), "nobody\n");
    assert_eq!(
        text(&second.stdout),
        "no\nno\n",
        "without a door there is none"
    );
}

#[tokio::test]
async fn a_door_that_nobody_serves_is_shut_and_one_without_a_namespace_never_was() {
    let place = Place::new();
    let script = "import socket\ntry: socket.create_connection(('127.0.0.1', 3128), 5); print('reached')\nexcept ConnectionRefusedError: print('shut')";
    let mut command = place.command("python3", &["-c", script], SECONDS);
    command.network = Network::Door;
    let finished = place.launcher.run(command).await.unwrap();
    assert_eq!(text(&finished.stdout), "shut\n");

    let mut command = place.command("sh", &["-c", "true"], SECONDS);
    command.directory = "/nowhere".into();
    let refused = place.launcher.run_with_door(command, shout).await;
    assert!(
        matches!(&refused, Err(ConfineError::Setup { step, .. }) if step == "working directory"),
        "{refused:?}"
    );
    let command = place.command("sh", &["-c", "true"], SECONDS);
    let refused = Launcher::new("/bin/false")
        .run_with_door(command, shout)
        .await;
    assert!(
        matches!(refused, Err(ConfineError::Lost { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_door_goes_with_its_command_and_a_child_gives_it_once() {
    let place = Place::new();
    let mut command = place.command("sleep", &["1000"], SECONDS);
    command.network = Network::Door;
    let mut child = place.launcher.spawn(command).unwrap();
    let listener = child.door().await.unwrap();
    assert_eq!(listener.local_addr().unwrap().port(), DOOR_PORT);
    assert_eq!(child.level().await.unwrap(), confine::Level::Full);
    assert!(child.door().await.is_err());
    child.kill().await;
    let none = tokio::time::timeout(Duration::from_millis(100), listener.accept());
    assert!(none.await.is_err(), "nobody is left who could connect");
    let finished = place.sh("exit 0").await;
    assert_eq!(finished.ending, Ending::Exited(0));
}
