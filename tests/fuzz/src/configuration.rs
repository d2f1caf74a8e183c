//! The files that grant things: manifest, policy, project file and models, and the grant that comes of them.

use std::sync::LazyLock;

use capability::{ConfigError, Grant, Manifest, Policy};
use model::Config;
use project::Project;

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
