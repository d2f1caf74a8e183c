//! This process's memory while guests and servers flood the door: it is measured in a process of its own, where nothing else runs.

use std::process::Command;

use egress::{InvalidRequest, RequestError, Visit};

use crate::server::{Server, Then, Wire};
use crate::world::{Granted, World, asking, fetch, get};

/// The most that a round of floods may add to what the first one took. One answer that was kept would be more.
const GROWTH_MAX: u64 = 24 << 20;

/// Bytes of each flood.
const FLOOD: usize = 32 << 20;

/// Runs a test of this file alone, and gives whether it went well and what it said.
fn alone(test: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The most that was resident since the last [`forget_peak`].
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Sends the same piece until so much was sent or the other side has gone.
fn pour(wire: &mut dyn Wire, piece: &[u8]) {
    let mut left = FLOOD;
    while left > 0 && wire.write_all(piece).and_then(|()| wire.flush()).is_ok() {
        left = left.saturating_sub(piece.len());
    }
}

fn flooding(request: &str, wire: &mut dyn Wire) -> Then {
    let lines =
        b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(1000);
    let piece = vec![b'y'; 64 << 10];
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let path = request.split(' ').nth(1).unwrap_or("");
    let begun = match path {
        "/headers" => wire.write_all(b"HTTP/1.1 200 OK\r\n").map(|()| lines),
        "/header" => wire.write_all(b"HTTP/1.1 200 OK\r\nx: ").map(|()| piece),
        "/informational" => wire
            .write_all(b"")
            .map(|()| b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n".repeat(1000)),
        "/trailers" => wire
            .write_all(chunked)
            .and_then(|()| wire.write_all(b"1\r\na\r\n0\r\n"))
            .map(|()| lines),
        "/extension" => wire
            .write_all(chunked)
            .and_then(|()| wire.write_all(b"1;x="))
            .map(|()| piece),
        _ => wire.write_all(b"HTTP/1.1 200 OK\r\n\r\n").map(|()| piece),
    };
    if let Ok(piece) = begun {
        pour(wire, &piece);
    }
    Then::Close
}

/// One of each flood.
async fn flood(visit: &Visit, at: &str) {
    for path in [
        "/headers",
        "/header",
        "/informational",
        "/trailers",
        "/extension",
    ] {
        let ended = fetch(visit, get(&format!("{at}{path}"))).await;
        assert!(
            matches!(
                ended,
                Err(RequestError::TooLarge | RequestError::BrokeOff | RequestError::OutOfBudget)
            ),
            "{path}: {ended:?}"
        );
    }
    // An answer that goes on and on, read to where it is cut off; and as many as may be open that nobody reads.
    let mut read = 0;
    let mut reply = visit.send(get(at)).await.unwrap();
    while let Ok(Some(bytes)) = reply.body.chunk().await {
        read += bytes.len();
    }
    assert!(read >= FLOOD / 2, "{read}");
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(visit.send(get(at)).await.unwrap());
    }
    drop(unread);
    // What the guest itself makes up.
    let mut many = get(at);
    many.headers = (0..10_000)
        .map(|n| (format!("x-{n}"), b"1".to_vec()))
        .collect();
    assert_eq!(visit.send(many).await.unwrap_err(), RequestError::TooLarge);
    let mut held = asking("POST", at);
    held.headers = vec![("authorization".into(), b"x".to_vec())];
    held.body = vec![b'y'; 16 << 20];
    assert_eq!(
        visit.send(held).await.unwrap_err(),
        RequestError::Invalid(InvalidRequest::HeaderForbidden)
    );
}

#[test]
fn memory_stays_flat_under_floods_of_headers_bodies_and_answers() {
    alone("memory::floods");
}

#[tokio::test]
#[ignore = "in a process of its own, by the test above"]
async fn floods() {
    let server = Server::plain("127.0.0.1", flooding);
    let at = format!("http://api.test:{}", server.port);
    let world = World::new(None);
    let granted = Granted::default()
        .at(&at)
        .private(&at)
        .limit("requests = 100\nsent = \"64MiB\"\nreceived = \"1GiB\"");
    flood(&world.visit(&granted), &at).await;
    forget_peak();
    let before = peak_bytes();
    for _ in 0..2 {
        flood(&world.visit(&granted), &at).await;
    }
    let grown = peak_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown}");
    assert!(before < 256 << 20, "{before}");
}
