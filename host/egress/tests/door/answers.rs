//! What comes back: filtered, bounded in bytes and time, and never from another visit's connection.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use egress::{Clamps, RequestError, Timeouts};

use crate::server::{Authority, Server, Then, Wire, ok, saying};
use crate::world::{Granted, World, asking, fetch, get};

/// A plain server, a world, and a grant for it.
fn plain(
    answer: impl Fn(&str, &mut dyn Wire) -> Then + Send + Sync + 'static,
    clamps: Clamps,
) -> (Server, World, Granted, String) {
    let server = Server::plain("127.0.0.1", answer);
    let at = format!("http://api.test:{}", server.port);
    let granted = Granted::default().at(&at).private(&at);
    (server, World::with(None, clamps), granted, at)
}

/// Writes, and then waits until the other side has gone.
fn stalling(head: &'static [u8]) -> impl Fn(&str, &mut dyn Wire) -> Then + Send + Sync {
    move |_, wire| {
        let _ = wire.write_all(head).and_then(|()| wire.flush());
        let _ = wire.read(&mut [0]);
        Then::Close
    }
}

/// Writes the same again and again until the other side has gone.
fn endless(head: &'static [u8], piece: &'static [u8]) -> impl Fn(&str, &mut dyn Wire) -> Then {
    move |_, wire| {
        let mut result = wire.write_all(head);
        while result.is_ok() {
            result = wire.write_all(piece).and_then(|()| wire.flush());
            if piece.len() < 100 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Then::Close
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_nothing_follows_it() {
    for (status, location, given) in [
        (301, "http://other.test/x", "http://other.test/x"),
        (
            302,
            "http://169.254.169.254/latest",
            "http://169.254.169.254/latest",
        ),
        (303, "/loop", "/loop"),
        (307, "https://user:pw@other.test/x", "https://other.test/x"),
        (308, "//user@other.test/x", "http://other.test/x"),
        (302, "/@name/x", "/@name/x"),
    ] {
        let answer =
            format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let (server, world, granted, at) = plain(saying(answer.into_bytes()), Clamps::default());
        let visit = world.visit(&granted);
        let reply = visit.send(get(&at)).await.unwrap();
        let seen = reply.headers.iter().find(|(name, _)| name == "location");
        assert_eq!(
            (reply.status, seen.unwrap().1.as_slice()),
            (status, given.as_bytes())
        );
        assert_eq!(world.names.asked(), ["api.test"]);
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn headers_of_the_connection_and_the_hosts_session_do_not_reach_the_guest() {
    let answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie2: a=b\r\nWWW-Authenticate: Basic\r\nProxy-Authenticate: Basic\r\nAuthorization: x\r\nAuthentication-Info: x\r\nAlt-Svc: h3=\":443\"\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive, X-Listed\r\nX-Listed: 1\r\nUpgrade: h2c\r\nTrailer: x-t\r\nTransfer-Encoding: chunked\r\nX-Fine: 1\r\nX-Fine: 2\r\n\r\n2\r\nok\r\n0\r\nx-t: t\r\nSet-Cookie: c=d\r\nAuthorization: x\r\nLocation: http://x/\r\nContent-Type: x\r\n\r\n";
    let (_server, world, granted, at) = plain(saying(answer.to_vec()), Clamps::default());
    let visit = world.visit(&granted);
    let mut reply = visit.send(get(&at)).await.unwrap();
    let fine = |n: &str| ("x-fine".to_owned(), n.as_bytes().to_vec());
    assert_eq!(reply.headers, [fine("1"), fine("2")]);
    assert!(reply.body.trailers().is_empty());
    assert_eq!(&reply.body.chunk().await.unwrap().unwrap()[..], b"ok");
    assert_eq!(reply.body.chunk().await.unwrap(), None);
    assert_eq!(reply.body.trailers(), [("x-t".to_owned(), b"t".to_vec())]);
}

#[tokio::test]
async fn an_answer_that_is_none_is_told_by_its_kind() {
    for answer in [
        &b""[..],
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nx: 1\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na b: 1\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
    ] {
        let then_close = move |_: &str, wire: &mut dyn Wire| {
            let _ = wire.write_all(answer).and_then(|()| wire.flush());
            Then::Close
        };
        let (_server, world, granted, at) = plain(then_close, Clamps::default());
        assert_eq!(
            fetch(&world.visit(&granted), get(&at)).await,
            Err(RequestError::BrokeOff),
            "{}",
            String::from_utf8_lossy(answer)
        );
    }
}

#[tokio::test]
async fn header_floods_are_ended() {
    let many = "x: 1\r\n".repeat(10_000);
    let long = format!("x: {}\r\n", "a".repeat(1 << 20));
    for flood in [many, long] {
        let answer = format!("HTTP/1.1 200 OK\r\n{flood}\r\n");
        let (_server, world, granted, at) = plain(saying(answer.into_bytes()), Clamps::default());
        let error = fetch(&world.visit(&granted), get(&at)).await;
        assert!(
            matches!(error, Err(RequestError::TooLarge | RequestError::BrokeOff)),
            "{error:?}"
        );
    }
    let flood = endless(b"HTTP/1.1 200 OK\r\n", &[b'a'; 1000]);
    let (_server, world, granted, at) = plain(flood, Clamps::default());
    let error = fetch(&world.visit(&granted), get(&at)).await;
    assert!(matches!(
        error,
        Err(RequestError::TooLarge | RequestError::BrokeOff)
    ));
    let trailers = "x: 1\r\n".repeat(1000);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{trailers}\r\n"
    );
    let (_server, world, granted, at) = plain(saying(answer.into_bytes()), Clamps::default());
    let error = fetch(&world.visit(&granted), get(&at)).await;
    assert!(matches!(
        error,
        Err(RequestError::TooLarge | RequestError::BrokeOff)
    ));
}

#[tokio::test]
async fn a_server_that_stalls_in_any_phase_is_given_up_by_our_clock_or_the_guests() {
    const SHORT: Duration = Duration::from_millis(100);
    let long = Clamps::default();
    let guests = |timeouts: Timeouts| (long, timeouts);
    let ours = |clamps: Clamps| (clamps, Timeouts::default());
    let whole = ours(Clamps {
        whole: SHORT,
        ..long
    });
    let first = [
        whole,
        ours(Clamps {
            first_byte: SHORT,
            ..long
        }),
        guests(Timeouts {
            first_byte: Some(SHORT),
            ..Timeouts::default()
        }),
        guests(Timeouts {
            first_byte: Some(Duration::ZERO),
            ..Timeouts::default()
        }),
    ];
    let between = [
        whole,
        ours(Clamps {
            between_bytes: SHORT,
            ..long
        }),
        guests(Timeouts {
            between_bytes: Some(SHORT),
            ..Timeouts::default()
        }),
        // A guest's own patience does not lengthen ours.
        (
            Clamps {
                between_bytes: SHORT,
                ..long
            },
            Timeouts {
                between_bytes: Some(Duration::MAX),
                connect: Some(Duration::MAX),
                first_byte: Some(Duration::MAX),
            },
        ),
    ];
    for (head, cases) in [
        (&b""[..], &first),
        (b"HTTP/1.1 200 OK\r\nx: ", &first),
        (b"HTTP/1.1 100 Continue\r\n\r\n", &first),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", &between),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ",
            &between,
        ),
    ] {
        for (clamps, timeouts) in cases {
            let (_server, world, granted, at) = plain(stalling(head), *clamps);
            let mut request = get(&at);
            request.timeouts = *timeouts;
            assert_eq!(
                fetch(&world.visit(&granted), request).await,
                Err(RequestError::TimedOut),
                "{} {clamps:?} {timeouts:?}",
                String::from_utf8_lossy(head)
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_hangs_in_its_handshake_is_given_up() {
    let server = Server::plain("127.0.0.1", |_, _| Then::Close);
    let at = format!("https://api.test:{}", server.port);
    let clamps = Clamps {
        connect: Duration::from_millis(100),
        ..Clamps::default()
    };
    let world = World::with(None, clamps);
    let visit = world.visit(&Granted::default().at(&at).private(&at));
    assert_eq!(
        visit.send(get(&at)).await.unwrap_err(),
        RequestError::TimedOut
    );
}

#[tokio::test]
async fn an_answer_that_drips_for_ever_ends() {
    let drip = endless(b"HTTP/1.1 200 OK\r\n\r\n", b":");
    let clamps = Clamps {
        whole: Duration::from_millis(300),
        ..Clamps::default()
    };
    let (_server, world, granted, at) = plain(drip, clamps);
    let visit = world.visit(&granted);
    assert_eq!(fetch(&visit, get(&at)).await, Err(RequestError::TimedOut));
}

#[tokio::test]
async fn bytes_and_requests_end_with_the_budget_and_all_is_accounted_for() {
    let limit = "requests = 3\nsent = \"1KiB\"\nreceived = \"4KiB\"";
    let endless_body = endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 512]);
    let (_server, world, granted, at) = plain(endless_body, Clamps::default());
    let visit = world.visit(&granted.clone().limit(limit));
    assert_eq!(
        fetch(&visit, get(&at)).await,
        Err(RequestError::OutOfBudget)
    );
    assert_eq!(
        visit.send(get(&at)).await.unwrap_err(),
        RequestError::OutOfBudget
    );
    assert_eq!(visit.used()[0].requests, 1);
    assert!(visit.used()[0].received > 4096);

    let (server, world, granted, at) = plain(saying(ok("ok")), Clamps::default());
    let visit = world.visit(&granted.clone().limit(limit));
    let mut large = asking("POST", &at);
    large.body = vec![b'x'; 1025];
    assert_eq!(
        visit.send(large).await.unwrap_err(),
        RequestError::OutOfBudget
    );
    assert!(server.requests().is_empty());
    for _ in 0..3 {
        assert_eq!(fetch(&visit, get(&at)).await.unwrap().1, "ok");
    }
    assert_eq!(
        visit.send(get(&at)).await.unwrap_err(),
        RequestError::OutOfBudget
    );
    assert_eq!((server.requests().len(), visit.used()[0].requests), (3, 3));

    // A length that is too much is refused before a byte of it comes.
    let announced = stalling(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
    let (_server, world, granted, at) = plain(announced, Clamps::default());
    let visit = world.visit(&granted.limit(limit));
    assert_eq!(
        visit.send(get(&at)).await.unwrap_err(),
        RequestError::OutOfBudget
    );
}

#[tokio::test]
async fn many_answers_at_one_time_wait_for_each_other() {
    let (server, world, granted, at) =
        plain(stalling(b"HTTP/1.1 200 OK\r\n\r\n"), Clamps::default());
    let visit = world.visit(&granted);
    let mut replies = Vec::new();
    for _ in 0..8 {
        replies.push(visit.send(get(&at)).await.unwrap());
    }
    let ninth = tokio::time::timeout(Duration::from_millis(100), visit.send(get(&at)));
    assert!(ninth.await.is_err());
    assert_eq!(server.connections(), 8);
    replies.pop();
    visit.send(get(&at)).await.unwrap();
    assert_eq!(server.connections(), 9);
}

#[tokio::test]
async fn a_connection_is_used_again_within_a_visit_and_by_nobody_else() {
    let (server, world, granted, at) = plain(saying(ok("ok")), Clamps::default());
    let visit = world.visit(&granted);
    for _ in 0..3 {
        fetch(&visit, get(&at)).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    fetch(&world.visit(&granted), get(&at)).await.unwrap();
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_private_connection_is_not_used_for_what_may_reach_public_hosts_only() {
    let server = Server::plain("127.0.0.1", saying(ok("ok")));
    let at = format!("http://api.test:{}", server.port);
    let world = World::new(None);
    let granted = Granted::default()
        .at(&at)
        .private(&format!("GET {at}/inside"));
    let visit = world.visit(&granted);
    fetch(&visit, get(&format!("{at}/inside"))).await.unwrap();
    assert_eq!(
        visit.send(get(&format!("{at}/outside"))).await.unwrap_err(),
        RequestError::AddressRefused
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_made_anew() {
    let closing = |_: &str, wire: &mut dyn Wire| {
        let _ = wire.write_all(&ok("ok")).and_then(|()| wire.flush());
        Then::Close
    };
    let (server, world, granted, at) = plain(closing, Clamps::default());
    let visit = world.visit(&granted);
    fetch(&visit, get(&at)).await.unwrap();
    let begun = Instant::now();
    // The close arrives when it arrives; a request that may have been seen is never sent twice.
    while fetch(&visit, get(&at)).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert!(server.connections() >= 2);
}

fn read_to(stream: &mut std::net::TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
    text
}

/// A POST with a body, as something that must not be done twice.
fn posting(at: &str) -> egress::Request {
    let mut request = asking("POST", at);
    request.body = b"once".to_vec();
    request
}

#[tokio::test]
async fn what_a_closed_connection_never_took_is_sent_once_on_a_new_one() {
    // It is closed at a moment when nobody here can notice: this runtime has one thread, which waits until it is done. When it goes on, the
    // close and the end of the pause are found at once; the test is woken first, and asks over a connection that only looks open.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://api.test:{}", listener.local_addr().unwrap().port());
    let (close, asked_to) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut kept, _) = listener.accept().unwrap();
        read_to(&mut kept, "\r\n\r\n");
        kept.write_all(&ok("ok")).unwrap();
        asked_to.recv().unwrap();
        drop(kept);
        tell.send(String::new()).unwrap();
        let (mut anew, _) = listener.accept().unwrap();
        tell.send(read_to(&mut anew, "once")).unwrap();
        anew.write_all(&ok("done")).unwrap();
    });
    let world = World::new(None);
    let visit = world.visit(&Granted::default().at(&at).private(&at));
    fetch(&visit, get(&at)).await.unwrap();
    let mut pause = std::pin::pin!(tokio::time::sleep(Duration::from_millis(1)));
    tokio::select! {
        biased;
        () = &mut pause => {}
        () = std::future::ready(()) => {}
    }
    close.send(()).unwrap();
    told.recv().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    pause.await;
    assert_eq!(fetch(&visit, posting(&at)).await.unwrap().1, "done");
    assert!(told.recv().unwrap().starts_with("POST / "));
}

#[tokio::test]
async fn what_may_have_been_seen_is_not_sent_again() {
    for begins_an_answer in [false, true] {
        let (server, world, granted, at) = plain(
            move |request, wire| {
                if request.starts_with("POST") {
                    if begins_an_answer {
                        let _ = wire.write_all(b"HTTP/1.1 2").and_then(|()| wire.flush());
                    }
                    return Then::Close;
                }
                let _ = wire.write_all(&ok("ok")).and_then(|()| wire.flush());
                Then::KeepOn
            },
            Clamps::default(),
        );
        let visit = world.visit(&granted);
        fetch(&visit, get(&at)).await.unwrap();
        let error = fetch(&visit, posting(&at)).await.unwrap_err();
        assert_eq!(error, RequestError::BrokeOff);
        // On the connection that was kept, and on no other.
        assert_eq!(server.connections(), 1);
        let seen = server.requests();
        assert_eq!(seen.iter().filter(|one| one.starts_with("POST")).count(), 1);
    }
}

#[tokio::test]
async fn connections_of_different_credentials_are_different() {
    let authority = Authority::new();
    let server = Server::tls(&authority, "api.test", saying(ok("ok")));
    let at = format!("https://api.test:{}", server.port);
    let world = World::new(Some(authority.pem()));
    world.secrets.put("one", "secret-of-one", &[&at]);
    world.secrets.put("two", "secret-of-two", &[&at]);
    for name in ["one", "two"] {
        let granted = Granted::default().at(&at).private(&at).credential(
            name,
            "api.test",
            server.port,
            "Authorization",
        );
        fetch(&world.visit(&granted), get(&at)).await.unwrap();
    }
    assert_eq!(server.connections(), 2);
    let requests = server.requests();
    assert!(requests[0].contains("secret-of-one") && !requests[0].contains("secret-of-two"));
    assert!(requests[1].contains("secret-of-two") && !requests[1].contains("secret-of-one"));
}
