//! What a `secrets.toml` may say: names, hosts, and one source a secret, each in a form that cannot be read in two ways.

use std::collections::BTreeSet;
use std::path::PathBuf;

use capability::manifest::is_plain_name;
use capability::origin::{Origin, Scheme};

use crate::endpoint::{Endpoint, PlainHttp};
use crate::store::command::OwnerCommand;
use crate::store::config::{
    Entry, KvVersion, RawKeyring, RawSecret, RawVault, RawVaultSecret, SecretSource, TokenSource,
    Vault,
};

/// What is wrong, and what to do about it; where, its caller knows.
pub(crate) type Wrong = (String, &'static str);

/// The kernel takes a description of 4095 bytes at most.
const KEYRING_BYTES_MAX: usize = 2000;

/// A longer path or argument is a mistake.
const TEXT_BYTES_MAX: usize = 1024;

/// No program needs more to print a secret.
const WORDS_MAX: usize = 64;

/// One `[secrets.NAME]`.
pub(crate) fn entry(name: &str, raw: RawSecret, has_vault: bool) -> Result<Entry, Wrong> {
    if !is_plain_name(name) {
        return Err((
            "is no name that a manifest could use".into(),
            "use letters, digits and hyphens",
        ));
    }
    let hosts = hosts(&raw.hosts)?;
    if raw.command_env.is_some() && raw.command.is_none() {
        return Err((
            "`command-env` is for a command".into(),
            "take it out, or say `command`",
        ));
    }
    let command_env = raw.command_env.unwrap_or_default();
    let sources = [
        raw.env
            .map(|name| variable("env", name).map(SecretSource::Env)),
        raw.file
            .map(|path| absolute("file", path).map(SecretSource::File)),
        raw.command
            .map(|words| command(words, command_env).map(SecretSource::Command)),
        raw.keyring.map(keyring),
        raw.vault.map(|secret| vault_secret(secret, has_vault)),
    ];
    let mut sources = sources.into_iter().flatten();
    match (sources.next(), sources.next()) {
        (Some(source), None) => Ok(Entry {
            hosts,
            source: source?,
        }),
        (None, _) => Err((
            "does not say where it is".into(),
            "add one of env, file, command, keyring and vault",
        )),
        (Some(_), Some(_)) => Err((
            "is in two places".into(),
            "keep one of env, file, command, keyring and vault",
        )),
    }
}

fn hosts(texts: &[String]) -> Result<Vec<Origin>, Wrong> {
    let mend = "write https://HOST or https://HOST:PORT, without a path; there are no patterns";
    let (mut hosts, mut seen) = (Vec::new(), BTreeSet::new());
    for text in texts {
        let wrong = |why: &dyn std::fmt::Display| (format!("host {text:?}: {why}"), mend);
        let (scheme, authority) = text
            .split_once("://")
            .ok_or_else(|| wrong(&"it has no scheme"))?;
        let origin = Origin::parse(scheme, authority).map_err(|error| wrong(&error))?;
        if origin.scheme() != Scheme::Https {
            return Err(wrong(&"a secret is never sent without TLS"));
        }
        if !seen.insert(origin.clone()) {
            return Err(wrong(&"it is there twice"));
        }
        hosts.push(origin);
    }
    if hosts.is_empty() {
        return Err(("may go nowhere: `hosts` is empty".into(), mend));
    }
    Ok(hosts)
}

fn variable(key: &str, name: String) -> Result<String, Wrong> {
    let plain = !name.is_empty()
        && name.len() <= TEXT_BYTES_MAX
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain.then(|| name.clone()).ok_or_else(|| {
        (
            format!("`{key}` {name:?} is no name of a variable"),
            "use letters, digits and _; the name, not the value",
        )
    })
}

/// A relative path would lead into whatever directory moat is called in.
fn absolute(key: &str, path: PathBuf) -> Result<PathBuf, Wrong> {
    if path.is_absolute() {
        Ok(path)
    } else {
        Err((
            format!("`{key}` is no absolute path"),
            "write the whole path, from /",
        ))
    }
}

fn command(words: Vec<String>, env: Vec<String>) -> Result<OwnerCommand, Wrong> {
    if words.len() > WORDS_MAX || words.iter().any(|word| word.len() > TEXT_BYTES_MAX) {
        return Err((
            "`command` is too long".into(),
            "put what it does into a program of its own",
        ));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(("`command` has a NUL in it".into(), "take it out"));
    }
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    Ok(OwnerCommand {
        program: absolute("command", program.into())?,
        args: words.collect(),
        env: env
            .into_iter()
            .map(|name| variable("command-env", name))
            .collect::<Result<_, _>>()?,
    })
}

fn keyring(raw: RawKeyring) -> Result<SecretSource, Wrong> {
    for (key, text) in [("service", &raw.service), ("account", &raw.account)] {
        // A colon would make one description of two keys.
        let plain = !text.is_empty()
            && text.len() <= KEYRING_BYTES_MAX
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        if !plain {
            return Err((
                format!("`keyring.{key}` {text:?} is no part of a key's description"),
                "use visible ASCII characters without a colon",
            ));
        }
    }
    Ok(SecretSource::Keyring {
        service: raw.service,
        account: raw.account,
    })
}

fn vault_secret(raw: RawVaultSecret, has_vault: bool) -> Result<SecretSource, Wrong> {
    if !has_vault {
        return Err((
            "is in a Vault that the file does not name".into(),
            "add [vault] with address and token-file or token-env",
        ));
    }
    if raw.path.starts_with("v1/") {
        return Err((
            format!("`vault.path` {:?} begins with the API's version", raw.path),
            "leave `v1/` out",
        ));
    }
    if !is_vault_path(&raw.path) {
        return Err((
            format!("`vault.path` {:?} is no path of a secret", raw.path),
            "write MOUNT/data/NAME (version 2) or MOUNT/NAME (version 1), without leading or doubled /",
        ));
    }
    if raw.field.is_empty() || raw.field.len() > TEXT_BYTES_MAX {
        return Err((
            "`vault.field` names no field".into(),
            "name the field that holds the value",
        ));
    }
    let kv = match raw.kv {
        None | Some(2) => KvVersion::V2,
        Some(1) => KvVersion::V1,
        Some(other) => {
            return Err((
                format!("`vault.kv` {other} is no version of the key-value engine"),
                "write 1 or 2",
            ));
        }
    };
    Ok(SecretSource::Vault {
        path: raw.path,
        field: raw.field,
        kv,
    })
}

/// Nothing that a URL would read as something else than a segment.
fn is_vault_path(path: &str) -> bool {
    path.len() <= TEXT_BYTES_MAX
        && path.split('/').all(|segment| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !matches!(b, b'%' | b'?' | b'#' | b'\\'))
        })
}

/// The `[vault]`.
pub(crate) fn vault(raw: RawVault) -> Result<Vault, Wrong> {
    let endpoint = Endpoint::parse(&raw.address, PlainHttp::Refused).map_err(|error| {
        (
            format!("`address`: {error}"),
            "give https://HOST:PORT, as in VAULT_ADDR",
        )
    })?;
    let token = match (raw.token_file, raw.token_env) {
        (Some(path), None) => TokenSource::File(absolute("token-file", path)?),
        (None, Some(name)) => TokenSource::Env(variable("token-env", name)?),
        (None, None) => {
            return Err((
                "has no token".into(),
                "add token-file, such as the sink of Vault's agent, or token-env",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(("has two tokens".into(), "keep token-file or token-env"));
        }
    };
    let is_namespace = |text: &String| is_vault_path(text.trim_matches('/'));
    if raw
        .namespace
        .as_ref()
        .is_some_and(|text| !is_namespace(text))
    {
        return Err((
            "`namespace` is no path of one".into(),
            "write it as in VAULT_NAMESPACE, or leave it out",
        ));
    }
    Ok(Vault {
        endpoint,
        token,
        namespace: raw.namespace,
        authorities: raw
            .authorities
            .map(|path| absolute("authorities", path))
            .transpose()?,
    })
}
