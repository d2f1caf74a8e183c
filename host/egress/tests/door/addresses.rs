//! Only a judged address is dialled, whatever the resolver says and however often it changes its mind.

use egress::RequestError;

use crate::server::{Server, Then, ok, saying};
use crate::world::{Granted, World, fetch, get};

#[tokio::test]
async fn a_name_at_a_private_address_is_refused_unless_the_owner_says_so() {
    let server = Server::plain("127.0.0.1", saying(ok("inside")));
    let at = format!("http://api.test:{}", server.port);
    let world = World::new(None);
    let visit = world.visit(&Granted::default().at(&at));
    for answer in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "0.0.0.0",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "fd00:ec2::254",
    ] {
        world.names.answer("api.test", &[&[answer]]);
        assert_eq!(
            visit.send(get(&at)).await.unwrap_err(),
            RequestError::AddressRefused,
            "{answer}"
        );
    }
    assert_eq!(server.connections(), 0);
    world.names.answer("api.test", &[&["::ffff:127.0.0.1"]]);
    let visit = world.visit(&Granted::default().at(&at).private(&at));
    assert_eq!(fetch(&visit, get(&at)).await.unwrap().1, "inside");
}

#[tokio::test]
async fn a_granted_literal_is_judged_like_any_other_address() {
    let server = Server::plain("127.0.0.1", saying(ok("inside")));
    let at = format!("http://127.0.0.1:{}", server.port);
    let world = World::new(None);
    let visit = world.visit(&Granted::default().at(&at));
    let error = visit.send(get(&at)).await.unwrap_err();
    assert_eq!(error, RequestError::AddressRefused);
    let metadata = "http://169.254.169.254:80";
    let granted = Granted::default().at(metadata).private(metadata);
    let error = world.visit(&granted).send(get(metadata)).await.unwrap_err();
    assert_eq!(error, RequestError::AddressRefused);
    assert_eq!(server.connections(), 0);
    let visit = world.visit(&Granted::default().at(&at).private(&at));
    assert_eq!(fetch(&visit, get(&at)).await.unwrap().1, "inside");
    assert!(world.names.asked().is_empty());
}

#[tokio::test]
async fn a_name_is_asked_once_a_connection_and_what_was_judged_is_dialled() {
    let right = Server::plain("127.0.0.1", |_, wire| {
        wire.write_all(&ok("right")).unwrap();
        Then::Close
    });
    let wrong = Server::plain_at("127.0.0.2", right.port, saying(ok("wrong")));
    let at = format!("http://api.test:{}", right.port);
    let world = World::new(None);
    // First an address that is fine, then one that is not: a second question would find it.
    world
        .names
        .answer("api.test", &[&["127.0.0.1"], &["169.254.169.254"]]);
    let visit = world.visit(&Granted::default().at(&at).private(&at));
    assert_eq!(fetch(&visit, get(&at)).await.unwrap().1, "right");
    assert_eq!(world.names.asked(), ["api.test"]);
    let mut next = fetch(&visit, get(&at)).await;
    if next == Err(RequestError::BrokeOff) {
        // The server's end of the connection was not seen yet.
        next = fetch(&visit, get(&at)).await;
    }
    assert_eq!(next, Err(RequestError::AddressRefused));
    assert_eq!((right.connections(), wrong.connections()), (1, 0));
}

#[tokio::test]
async fn of_a_mixed_answer_the_refused_addresses_are_never_dialled() {
    let right = Server::plain("127.0.0.1", saying(ok("right")));
    let at = format!("http://api.test:{}", right.port);
    let world = World::new(None);
    world.names.answer(
        "api.test",
        &[&["169.254.169.254", "0.0.0.0", "::", "ff02::1", "127.0.0.1"]],
    );
    let visit = world.visit(&Granted::default().at(&at).private(&at));
    assert_eq!(fetch(&visit, get(&at)).await.unwrap().1, "right");
}

#[tokio::test]
async fn a_host_that_is_not_there_is_told_by_its_kind() {
    let world = World::new(None);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://api.test:{}", nobody.local_addr().unwrap().port());
    drop(nobody);
    let visit = world.visit(&Granted::default().at(&at).private(&at));
    assert_eq!(
        visit.send(get(&at)).await.unwrap_err(),
        RequestError::Unreachable
    );
    world.names.answer("api.test", &[&[]]);
    assert_eq!(
        visit.send(get(&at)).await.unwrap_err(),
        RequestError::NoSuchName
    );
}
