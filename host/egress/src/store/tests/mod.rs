//! The stores: every source, every refusal, and how long what was read is good.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod canary;
mod files;
mod form;
mod keyring;
mod memory;
mod vault;

use std::sync::Mutex;

use super::*;
use crate::secrets::Unavailable;
use capability::origin::Origin;

/// A program that prints what its test wants, and how often it was run.
#[derive(Debug, Default)]
pub(super) struct Scripted {
    pub(super) prints: Mutex<Vec<u8>>,
    pub(super) fails: Mutex<Option<String>>,
    pub(super) runs: Mutex<usize>,
}

impl Scripted {
    pub(super) fn printing(text: &str) -> Arc<Scripted> {
        let scripted = Scripted::default();
        scripted.print(text);
        Arc::new(scripted)
    }

    pub(super) fn print(&self, text: &str) {
        *self.prints.lock().unwrap() = text.into();
    }

    fn runs(&self) -> usize {
        *self.runs.lock().unwrap()
    }
}

#[async_trait]
impl Programs for Scripted {
    async fn output(
        &self,
        _: &OwnerCommand,
        _: usize,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, ProgramFailed> {
        *self.runs.lock().unwrap() += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        match &*self.fails.lock().unwrap() {
            Some(why) => Err(ProgramFailed(why.clone())),
            None => Ok(zeroize::Zeroizing::new(self.prints.lock().unwrap().clone())),
        }
    }
}

pub(super) fn stores(text: &str, programs: Arc<Scripted>) -> Stores {
    Stores::new(Config::parse(text, FILE).unwrap(), programs)
}

pub(super) fn why(error: SecretError) -> Unavailable {
    match error {
        SecretError::Unavailable { why, .. } => why,
        SecretError::Unknown { name } => panic!("{name} is unknown"),
    }
}

const COMMAND: &str = "[secrets.a]\nhosts = [\"https://a.example\"]\ncommand = [\"/bin/x\"]\n";

#[tokio::test]
async fn a_secret_is_bound_to_its_hosts_and_an_unknown_name_is_one() {
    let stores = stores(COMMAND, Scripted::printing("canary-value-1\n"));
    let secret = stores.get("a").await.unwrap();
    assert_eq!(secret.secret.expose(), "canary-value-1");
    let may = |scheme, authority| secret.may_go_to(&Origin::parse(scheme, authority).unwrap());
    assert!(may("https", "a.example") && may("https", "A.example:443"));
    for (scheme, authority) in [
        ("http", "a.example"),
        ("https", "a.example:8443"),
        ("https", "b.a.example"),
        ("https", "a.example.evil.io"),
    ] {
        assert!(!may(scheme, authority), "{scheme}://{authority}");
    }
    assert!(matches!(
        stores.get("b").await,
        Err(SecretError::Unknown { .. })
    ));
}

#[tokio::test]
async fn many_who_want_one_secret_at_once_run_one_program() {
    let programs = Scripted::printing("canary-value-1");
    let stores = stores(COMMAND, programs.clone());
    let all = tokio::join!(
        stores.get("a"),
        stores.get("a"),
        stores.get("a"),
        stores.get("a")
    );
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok());
    assert_eq!(programs.runs(), 1);
}

#[tokio::test]
async fn a_refused_value_is_read_anew_but_not_at_every_refusal() {
    let programs = Scripted::printing("canary-value-1");
    let mut stores = stores(COMMAND, programs.clone());
    stores.get("a").await.unwrap();
    programs.print("canary-value-2");
    stores.refused("a");
    assert_eq!(
        stores.get("a").await.unwrap().secret.expose(),
        "canary-value-1"
    );
    assert_eq!(programs.runs(), 1, "it was read a moment ago");
    stores.freshness.refused = Duration::ZERO;
    assert_eq!(
        stores.get("a").await.unwrap().secret.expose(),
        "canary-value-2"
    );
    stores.get("a").await.unwrap();
    assert_eq!(programs.runs(), 2, "the new one was not refused");
    let known: Vec<_> = stores.known();
    let known: Vec<_> = known.iter().map(|one| one.secret.expose()).collect();
    assert_eq!(known, ["canary-value-1", "canary-value-2"]);
}

#[tokio::test]
async fn no_value_is_kept_for_ever_and_failures_for_less() {
    let programs = Scripted::printing("canary-value-1");
    let mut stores = stores(COMMAND, programs.clone());
    stores.freshness.taken = Duration::ZERO;
    stores.get("a").await.unwrap();
    stores.get("a").await.unwrap();
    assert_eq!((programs.runs(), stores.known().len()), (2, 1));
    *programs.fails.lock().unwrap() = Some("exited with status 1".into());
    assert!(stores.get("a").await.is_err() && stores.get("a").await.is_err());
    assert_eq!(
        programs.runs(),
        3,
        "a failure is not asked for again at once"
    );
    stores.freshness.failed = Duration::ZERO;
    assert!(stores.get("a").await.is_err());
    assert_eq!(programs.runs(), 4);
    for n in 0..20 {
        *programs.fails.lock().unwrap() = None;
        programs.print(&format!("canary-value-{n:03}"));
        stores.get("a").await.unwrap();
    }
    assert_eq!(stores.known().len(), KNOWN_MAX, "bounded");
}

#[tokio::test]
async fn what_a_program_prints_is_a_secret_or_is_refused() {
    for (printed, taken) in [
        ("canary-value-1", Some("canary-value-1")),
        ("canary-value-1\n", Some("canary-value-1")),
        ("canary-value-1\r\n", Some("canary-value-1")),
        ("", None),
        ("\n", None),
        ("short\n", None),
        ("canary value 1\n", None),
        ("canary\nvalue-1\n", None),
        ("canary-value\r\nX-Evil: 1", None),
        ("canary-value\0", None),
        ("canary-välue-1", None),
        ("canary-value\u{1b}[2J", None),
    ] {
        let stores = stores(COMMAND, Scripted::printing(printed));
        let got = stores.get("a").await;
        assert_eq!(
            got.as_ref().ok().map(|one| one.secret.expose()),
            taken,
            "{printed:?}"
        );
    }
    let long = stores(COMMAND, Scripted::printing(&"x".repeat(8193)));
    assert!(matches!(
        why(long.get("a").await.unwrap_err()),
        Unavailable::Value(_)
    ));
}

#[tokio::test]
async fn the_environment_gives_what_it_has() {
    let hosts = "hosts = [\"https://a.example\"]";
    let text = format!(
        "[secrets.there]\n{hosts}\nenv = \"CARGO_MANIFEST_DIR\"\n[secrets.not]\n{hosts}\nenv = \"MOAT_NOT_THERE_AT_ALL\"\n"
    );
    let stores = stores(&text, Scripted::printing(""));
    let there = stores.get("there").await.unwrap();
    assert_eq!(there.secret.expose(), env!("CARGO_MANIFEST_DIR"));
    let not = stores.get("not").await.unwrap_err().to_string();
    assert!(not.contains("MOAT_NOT_THERE_AT_ALL"), "{not}");
}
