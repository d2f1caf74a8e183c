//! Secrets with a canary in them, through every error: no text, no debug text and no trace of any library holds them in any spelling.

use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;

use support::canary::assert_free;
use support::vault::Mood;

use super::vault::{GOSSIP, Place, TOKEN, VALUE, server};
use super::*;
use crate::door::{Credential, Door};
use crate::endpoint::{Endpoint, PlainHttp};

/// Everything that is traced, at every level, by whatever library.
#[derive(Clone, Default)]
struct Traced(Arc<Mutex<Vec<u8>>>);

impl Write for Traced {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn told(error: &SecretError) -> Vec<u8> {
    let mut told = format!("{error} {error:?} {error:#?}").into_bytes();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = cause {
        told.extend(format!("{inner} {inner:?}").into_bytes());
        cause = inner.source();
    }
    told
}

fn assert_clean(what: &str, bytes: &[u8]) {
    for canary in [VALUE, TOKEN, GOSSIP, "canary-bad"] {
        assert_free(what, bytes, canary);
    }
}

#[tokio::test]
async fn no_error_and_no_trace_holds_a_secret() {
    let traced = Traced::default();
    let writer = traced.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing_subscriber::util::SubscriberInitExt::set_default(subscriber);
    let (server, place) = (server(), Place::new());
    let stores = place.stores(
        &server.address(),
        "",
        "path = \"secret/data/a\", field = \"token\"",
    );
    let bound = stores.get("a").await.unwrap();
    assert_clean("a bound secret", format!("{bound:?} {bound:#?}").as_bytes());
    assert_clean("the stores", format!("{stores:?} {stores:#?}").as_bytes());
    stores.refused("a");
    let mut stores = stores;
    (stores.freshness.refused, stores.freshness.taken) = (Duration::ZERO, Duration::ZERO);
    for mood in [
        Mood::Sealed,
        Mood::Status(400),
        Mood::Status(403),
        Mood::Status(404),
        Mood::Status(429),
        Mood::Status(500),
        Mood::Standby(format!("http://127.0.0.1:1/{VALUE}")),
        Mood::Says(format!("{{\"data\": \"{VALUE}\"")),
        Mood::Says(format!(
            "{{\"data\":{{\"data\":{{\"token\":[\"{VALUE}\"]}}}}}}"
        )),
        Mood::Says(format!(
            "{{\"data\":{{\"data\":{{\"token\":\"{VALUE} \\n x\"}}}}}}"
        )),
        Mood::Says(VALUE.repeat(30_000)),
    ] {
        server.change(|state| state.mood = mood.clone());
        let error = stores.get("a").await.unwrap_err();
        assert_clean(&format!("{error}"), &told(&error));
    }
    assert_clean("the stores", format!("{stores:?}").as_bytes());

    let file = place.stores("http://127.0.0.1:1", "", "path = \"a/b\", field = \"c\"");
    assert_clean("nobody there", &told(&file.get("a").await.unwrap_err()));
    for text in [
        "canary-bad value",
        "canary-bad\r\nX: y",
        "canary-bad\u{fe}",
        "c\0anary-bad",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, text).unwrap();
        let config = format!("[secrets.a]\nhosts = [\"https://a.example\"]\nfile = {path:?}\n");
        for mode in [0o600, 0o644] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let stores = super::stores(&config, Scripted::printing(""));
            assert_clean("a file", &told(&stores.get("a").await.unwrap_err()));
        }
        let printed = super::stores(COMMAND, Scripted::printing(text));
        assert_clean("a program", &told(&printed.get("a").await.unwrap_err()));
    }

    let traced = traced.0.lock().unwrap().clone();
    assert!(!traced.is_empty(), "something was traced");
    assert_clean("a trace", &traced);
}

#[tokio::test]
async fn a_door_with_a_credential_shows_nothing_of_it() {
    let secret = Secret::new(VALUE.into(), "here").unwrap();
    let endpoint = Endpoint::parse("http://127.0.0.1:1", PlainHttp::Refused).unwrap();
    let credential = Credential::new("authorization", "Bearer {}", &secret).unwrap();
    assert_clean("a credential", format!("{credential:?}").as_bytes());
    let door = Door::open(endpoint, Some(credential), None).unwrap();
    assert_clean("a door", format!("{door:?} {door:#?}").as_bytes());
    let error = door.post("x", &[], vec![]).await.unwrap_err();
    assert_clean("an error", format!("{error} {error:?}").as_bytes());
    for format in ["Bearer", "{} {}", "a\n{}", "é\u{7f}{}"] {
        let secret = Secret::new(VALUE.into(), "here").unwrap();
        let error = Credential::new("authorization", format, &secret).unwrap_err();
        assert_clean(format, format!("{error} {error:?}").as_bytes());
    }
}
