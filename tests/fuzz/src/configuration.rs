//! The files that grant things: manifest, policy, project file and models, and the grant that comes of them.

use std::sync::LazyLock;

use capability::origin::{Origin, Scheme};
use capability::{ConfigError, Grant, Manifest, Policy};
use egress::store::{self, Entry, SecretSource, TokenSource, Vault};
use model::Config;
use project::Project;
use url::Url;

use crate::text;

static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy::builtin().unwrap());

/// `skill.toml`, and what the built-in policy leaves of it.
pub(crate) fn manifest(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Some(manifest) = checked(text, Manifest::parse) {
        let grant = Grant::compute(&manifest, None, &POLICY);
        assert_eq!(
            grant.digest(),
            Grant::compute(&manifest, None, &POLICY).digest()
        );
        assert_eq!(grant.network().count(), 0, "the built-in policy has none");
    }
}

/// `policy.toml`.
pub(crate) fn policy(data: &[u8]) {
    if let Some(text) = text(data) {
        checked(text, Policy::parse);
    }
}

/// `moat.toml`.
pub(crate) fn project(data: &[u8]) {
    if let Some(text) = text(data) {
        checked(text, Project::parse);
    }
}

/// `models.toml`.
pub(crate) fn models(data: &[u8]) {
    if let Some(text) = text(data) {
        checked(text, Config::parse);
    }
}

/// `secrets.toml`: each secret goes somewhere, over TLS only, and comes from one place that is read in one way.
pub(crate) fn secrets(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Some(config) = checked(text, store::Config::parse) else {
        return;
    };
    if let Some(vault) = &config.vault {
        match &vault.token {
            TokenSource::Env(name) => is_variable(name),
            TokenSource::File(path) => assert!(path.is_absolute()),
        }
    }
    for entry in config.secrets.values() {
        assert!(!entry.hosts.is_empty());
        for origin in &entry.hosts {
            assert_eq!(origin.scheme(), Scheme::Https);
            assert_eq!(
                Origin::parse("https", &origin.authority()).as_ref(),
                Ok(origin)
            );
        }
        comes_from_one_place(entry, config.vault.as_ref());
    }
}

fn comes_from_one_place(entry: &Entry, vault: Option<&Vault>) {
    match &entry.source {
        SecretSource::Env(name) => is_variable(name),
        SecretSource::File(path) => assert!(path.is_absolute()),
        SecretSource::Command(command) => {
            assert!(command.program.is_absolute());
            assert!(!command.args.iter().any(|word| word.contains('\0')));
            command.env.iter().for_each(|name| is_variable(name));
        }
        SecretSource::Keyring { service, account } => {
            assert_eq!(format!("{service}:{account}").split(':').count(), 2);
        }
        SecretSource::Vault { path, .. } => is_below(vault.unwrap(), path),
    }
}

fn is_variable(name: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(!name.is_empty() && name.chars().all(plain), "{name:?}");
}

/// The path of a secret leads to no other host and to nothing else below `/v1/`.
fn is_below(vault: &Vault, path: &str) {
    let mut url = Url::parse(vault.endpoint.as_str()).unwrap();
    let (host, port) = (url.host_str().map(str::to_owned), url.port());
    assert_eq!(url.scheme(), "https");
    let above = format!("{}/v1/", url.path().trim_end_matches('/'));
    url.set_path(&format!("{above}{path}"));
    assert_eq!(
        (url.host_str().map(str::to_owned), url.port()),
        (host, port)
    );
    assert!(url.query().is_none() && url.fragment().is_none());
    let rest = url.path().strip_prefix(&above).unwrap();
    assert_eq!(rest.split('/').count(), path.split('/').count(), "{url}");
}

/// Parses twice: the same text has the same outcome, and an error points into it.
fn checked<T>(text: &str, parse: fn(&str, &str) -> Result<T, ConfigError>) -> Option<T> {
    let first = parse(text, "file");
    match (&first, parse(text, "file")) {
        (Err(error), Err(again)) => {
            assert_eq!(*error, again);
            let lines = text.matches('\n').count() + 1;
            assert!(error.line <= lines, "{error} in a text of {lines} lines");
            assert!(!error.message.is_empty());
        }
        (Ok(_), Ok(_)) => {}
        _ => panic!("the same text is read in two ways"),
    }
    first.ok()
}
