//! Vault, as a stand-in that speaks its wire format: what is asked, what is taken, and what each refusal becomes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use serde_json::json;
use support::vault::{Mood, State, Vault as Server};

use super::*;
use crate::secret::InvalidSecret;
use crate::secrets::VaultTrouble;

pub(super) const TOKEN: &str = "hvs.canary-token-1";
pub(super) const VALUE: &str = "canary-value-1";

/// Text that a misbehaving server gives away in its errors.
pub(super) const GOSSIP: &str = "canary-gossip-1";

pub(super) fn server() -> Server {
    Server::start(State {
        token: TOKEN.into(),
        gossip: format!("{GOSSIP} {VALUE} {TOKEN}"),
        secrets: vec![
            (
                "a",
                json!({"token": VALUE, "other": "canary-other-1", "number": 12345678, "spaced": "a b c d e f"}),
            ),
            ("deleted", json!(null)),
        ],
        ..State::default()
    })
}

/// A file with `more` keys of `[vault]` and one secret at `path`.
pub(super) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        write_private(&directory.path().join("token"), &format!("{TOKEN}\n"));
        Place { directory }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn stores(&self, address: &str, more: &str, at: &str) -> Stores {
        let token = self.path("token");
        let text = format!(
            "[vault]\naddress = {address:?}\ntoken-file = {token:?}\n{more}\n[secrets.a]\nhosts = [\"https://a.example\"]\nvault = {{ {at} }}\n"
        );
        let mut stores = stores(&text, Scripted::printing(""));
        stores.freshness.failed = Duration::ZERO;
        stores
    }
}

fn write_private(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600);
    file.open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

const AT: &str = "path = \"secret/data/a\", field = \"token\"";

async fn trouble(stores: &Stores) -> VaultTrouble {
    match why(stores.get("a").await.unwrap_err()) {
        Unavailable::Vault { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn both_versions_are_read_and_only_what_is_needed_is_sent() {
    let (server, place) = (server(), Place::new());
    for at in [AT, "path = \"old/a\", field = \"token\", kv = 1"] {
        let got = place.stores(&server.address(), "", at).get("a").await;
        assert_eq!(got.unwrap().secret.expose(), VALUE, "{at}");
    }
    let seen = server.server.seen();
    let targets: Vec<_> = seen.iter().map(|one| one.target.as_str()).collect();
    assert_eq!(targets, ["/v1/secret/data/a", "/v1/old/a"]);
    for one in seen {
        assert_eq!((one.method.as_str(), one.body.len()), ("GET", 0));
        assert_eq!(one.header("x-vault-token"), Some(TOKEN));
        assert_eq!(one.header("x-vault-request"), Some("true"));
        assert_eq!(one.header("x-vault-namespace"), None);
        let known = [
            "x-vault-token",
            "x-vault-request",
            "host",
            "accept",
            "user-agent",
        ];
        for (name, _) in &one.headers {
            assert!(known.contains(&name.to_lowercase().as_str()), "{name}");
        }
    }
}

#[tokio::test]
async fn a_namespace_is_sent_and_a_wrong_one_finds_nothing() {
    let (server, place) = (server(), Place::new());
    server.change(|state| state.namespace = Some("teams/one".into()));
    let at = |more: &str| place.stores(&server.address(), more, AT);
    assert!(at("namespace = \"teams/one\"").get("a").await.is_ok());
    for more in ["namespace = \"teams/two\"", ""] {
        let found = trouble(&at(more)).await;
        assert!(matches!(found, VaultTrouble::NotFound { .. }), "{found:?}");
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let (server, place) = (server(), Place::new());
    let address = server.address();
    for (at, expected) in [
        ("path = \"secret/data/none\", field = \"token\"", "(404)"),
        ("path = \"secret/data/deleted\", field = \"token\"", "(404)"),
        ("path = \"secret/a\", field = \"token\"", "`data/`"),
        ("path = \"sys/raw/core\", field = \"token\"", "(403)"),
        ("path = \"old/a\", field = \"token\"", "`kv`"),
        (
            "path = \"secret/data/a\", field = \"token\", kv = 1",
            "no text field",
        ),
        (
            "path = \"secret/data/a\", field = \"tokens\"",
            "no text field `tokens`",
        ),
        (
            "path = \"secret/data/a\", field = \"number\"",
            "no text field",
        ),
    ] {
        let found = trouble(&place.stores(&address, "", at)).await.to_string();
        assert!(found.contains(expected), "{at}: {found}");
    }
    let spaced = "path = \"secret/data/a\", field = \"spaced\"";
    let spaced = place.stores(&address, "", spaced).get("a").await;
    assert!(matches!(
        why(spaced.unwrap_err()),
        Unavailable::Value(InvalidSecret::Malformed { .. })
    ));
    let stores = place.stores(&address, "", AT);
    let elsewhere = Server::start(State::default());
    let redirected = Mood::Standby(format!("{}/v1/secret/data/a", elsewhere.address()));
    for (mood, expected, passing) in [
        (Mood::Sealed, VaultTrouble::Sealed, true),
        (Mood::Status(429), VaultTrouble::Busy { status: 429 }, true),
        (Mood::Status(473), VaultTrouble::Busy { status: 473 }, true),
        (Mood::Status(400), VaultTrouble::Malformed, false),
        (
            Mood::Status(500),
            VaultTrouble::Status { status: 500 },
            false,
        ),
        (
            Mood::Status(204),
            VaultTrouble::Status { status: 204 },
            false,
        ),
        (redirected, VaultTrouble::Redirect, false),
        (
            Mood::Says("<html>".into()),
            VaultTrouble::Answer { version: 2 },
            false,
        ),
        (
            Mood::Says("{\"data\":null}".into()),
            VaultTrouble::Answer { version: 2 },
            false,
        ),
        (
            Mood::Says("x".repeat(300 << 10)),
            VaultTrouble::TooLarge {
                bytes_max: 256 << 10,
            },
            false,
        ),
    ] {
        server.change(|state| state.mood = mood);
        let error = stores.get("a").await.unwrap_err();
        assert_eq!(error.is_passing(), passing, "{error}");
        assert!(
            matches!(why(error), Unavailable::Vault { why, .. } if why == expected),
            "{expected}"
        );
    }
    assert!(
        elsewhere.server.seen().is_empty(),
        "the token follows no redirect"
    );
    // A port of nobody's.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let found = trouble(&place.stores(&address, "", AT)).await;
    assert!(
        matches!(found, VaultTrouble::Unreachable { .. }),
        "{found:?}"
    );
}

#[tokio::test]
async fn the_token_is_read_anew_each_time_and_kept_from_others() {
    let (server, place) = (server(), Place::new());
    let mut stores = place.stores(&server.address(), "", AT);
    stores.freshness.taken = Duration::ZERO;
    assert!(stores.get("a").await.is_ok());
    server.change(|state| state.token = "hvs.canary-token-2".into());
    let found = trouble(&stores).await;
    assert!(matches!(found, VaultTrouble::Forbidden { .. }), "{found:?}");
    write_private(&place.path("token"), "hvs.canary-token-2\n");
    assert!(stores.get("a").await.is_ok());
    let asked = server.server.seen().len();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(place.path("token"), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        why(stores.get("a").await.unwrap_err()),
        Unavailable::Exposed { .. }
    ));
    assert_eq!(server.server.seen().len(), asked, "nothing was sent");
}

/// Serves one answer after another over TLS, with a certificate of an authority of its own; gives the address and the authority.
fn over_tls(body: String) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let pem = certificate.pem();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut reader = BufReader::new(rustls::StreamOwned::new(session, stream));
            let mut line = String::new();
            // A client that does not trust us ends here.
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = reader.get_mut().write_all(answer.as_bytes());
            reader.get_mut().conn.send_close_notify();
            let _ = reader.get_mut().flush();
        }
    });
    (address, pem)
}

#[tokio::test]
async fn only_an_authority_that_the_owner_named_is_trusted_beside_the_public_ones() {
    let place = Place::new();
    let body = json!({"data": {"data": {"token": VALUE}, "metadata": {"version": 1}}});
    let (address, authority) = over_tls(body.to_string());
    let pem = place.path("own.pem");
    let more = format!("authorities = {pem:?}");
    let found = trouble(&place.stores(&address, "", AT)).await;
    assert!(
        matches!(found, VaultTrouble::Unreachable { .. }),
        "{found:?}"
    );
    let absent = place.stores(&address, &more, AT).get("a").await;
    assert!(matches!(
        why(absent.unwrap_err()),
        Unavailable::Value(InvalidSecret::Absent { .. })
    ));
    std::fs::write(&pem, "no certificate").unwrap();
    let found = trouble(&place.stores(&address, &more, AT)).await;
    assert!(matches!(found, VaultTrouble::Setup { .. }), "{found:?}");
    std::fs::write(&pem, authority).unwrap();
    let got = place.stores(&address, &more, AT).get("a").await.unwrap();
    assert_eq!(got.secret.expose(), VALUE);
}
