//! `secrets.toml`: where the machine owner's secrets are and where they may go. It lies in moat's state directory and is never read from a
//! repository; it holds no secret itself.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use capability::config::{ConfigError, Source, parse};
use capability::origin::Origin;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use crate::endpoint::Endpoint;
use crate::secret::InvalidSecret;
use crate::secrets::Unavailable;
use crate::store::command::OwnerCommand;
use crate::store::{check, file};

/// The file's name in the state directory.
pub const FILE: &str = "secrets.toml";

/// A checked `secrets.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// By the name that manifests use.
    pub secrets: BTreeMap<String, Entry>,
    /// Where secrets with a `vault` source are.
    pub vault: Option<Vault>,
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it may go.
    pub hosts: Vec<Origin>,
    /// Where it is.
    pub source: SecretSource,
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable of moat.
    Env(String),
    /// A file that only its owner can read.
    File(PathBuf),
    /// What a program prints.
    Command(OwnerCommand),
    /// The kernel's keyring.
    Keyring {
        /// What the key is for.
        service: String,
        /// Whose it is.
        account: String,
    },
    /// A field of a secret in Vault.
    Vault {
        /// Below `/v1/`.
        path: String,
        /// Which.
        field: String,
        /// The engine's version.
        kv: KvVersion,
    },
}

/// A version of Vault's key-value engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvVersion {
    /// Without versions of secrets.
    V1,
    /// With versions of secrets; paths have `data/` after the mount.
    V2,
}

impl KvVersion {
    /// As it is written.
    pub fn number(self) -> u8 {
        match self {
            KvVersion::V1 => 1,
            KvVersion::V2 => 2,
        }
    }
}

/// A HashiCorp Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Who we are to it.
    pub token: TokenSource,
    /// The namespace of all paths.
    pub namespace: Option<String>,
    /// A PEM file with certificate authorities to trust beside the public ones.
    pub authorities: Option<PathBuf>,
}

/// Where Vault's token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// An environment variable of moat.
    Env(String),
    /// A file that only its owner can read.
    File(PathBuf),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "secrets.toml")]
struct Raw {
    /// Secrets, by the name that manifests use.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawSecret>")]
    secrets: BTreeMap<String, Spanned<RawSecret>>,
    /// Where secrets with a `vault` source are.
    #[schemars(with = "Option<RawVault>")]
    vault: Option<Spanned<RawVault>>,
}

/// Exactly one of env, file, command, keyring and vault says where it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawSecret {
    /// Where it may go, such as `https://api.example.com` or `https://api.example.com:8443`: exactly these, always with TLS.
    pub(crate) hosts: Vec<String>,
    /// An environment variable of moat.
    pub(crate) env: Option<String>,
    /// A file that only its owner can read; an absolute path.
    pub(crate) file: Option<PathBuf>,
    /// A program that prints it, by its absolute path, and its arguments; no shell.
    pub(crate) command: Option<Vec<String>>,
    /// Of command: names of moat's variables that it gets beside HOME, USER, LOGNAME and a fixed PATH.
    pub(crate) command_env: Option<Vec<String>>,
    /// A key of the Linux kernel's keyring, described `SERVICE:ACCOUNT`.
    pub(crate) keyring: Option<RawKeyring>,
    /// A field of a secret in Vault.
    pub(crate) vault: Option<RawVaultSecret>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawKeyring {
    pub(crate) service: String,
    pub(crate) account: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawVaultSecret {
    /// Below `/v1/`, such as `secret/data/sentry`.
    pub(crate) path: String,
    pub(crate) field: String,
    /// The version of the key-value engine: 2 when absent.
    pub(crate) kv: Option<u8>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawVault {
    /// Such as `https://vault.example.com:8200`.
    pub(crate) address: String,
    /// A file that only its owner can read, such as the sink of Vault's agent; an absolute path.
    pub(crate) token_file: Option<PathBuf>,
    /// An environment variable of moat.
    pub(crate) token_env: Option<String>,
    /// The namespace of all paths.
    pub(crate) namespace: Option<String>,
    /// A PEM file with certificate authorities to trust beside the public ones.
    pub(crate) authorities: Option<PathBuf>,
}

impl Config {
    /// Reads and checks the file of a state directory, if it is there. Who can write it decides where secrets go: that must be its owner alone.
    ///
    /// # Errors
    /// [`ConfigError`] when it cannot be read, or at the first thing that is wrong.
    pub fn load(path: &Path) -> Result<Option<Config>, ConfigError> {
        let text = owners_text(path)?;
        text.map(|text| Config::parse(&text, &path.display().to_string()))
            .transpose()
    }

    /// Reads and checks the file's text.
    ///
    /// # Errors
    /// [`ConfigError`] at the first thing that is wrong.
    pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
        let source = Source { file, text };
        let raw: Raw = parse(source)?;
        let mut config = Config::default();
        if let Some(raw) = raw.vault {
            let span = raw.span();
            let vault = check::vault(raw.into_inner())
                .map_err(|(what, mend)| source.error(span, format!("[vault]: {what}"), mend))?;
            config.vault = Some(vault);
        }
        for (name, raw) in raw.secrets {
            let span = raw.span();
            let entry = check::entry(&name, raw.into_inner(), config.vault.is_some()).map_err(
                |(what, mend)| source.error(span, format!("secret {name:?}: {what}"), mend),
            )?;
            config.secrets.insert(name, entry);
        }
        Ok(config)
    }

    /// JSON Schema of the file, for editors.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Raw).to_value()
    }
}

impl SecretSource {
    /// The key of `secrets.toml` that it is written with.
    pub fn kind(&self) -> &'static str {
        match self {
            SecretSource::Env(_) => "env",
            SecretSource::File(_) => "file",
            SecretSource::Command(_) => "command",
            SecretSource::Keyring { .. } => "keyring",
            SecretSource::Vault { .. } => "vault",
        }
    }
}

/// The text of a configuration file of the machine's owner; `None` where there is none. Only a plain file of this user or root, of a bounded size,
/// that nobody else can write: who writes it decides what moat may do.
///
/// # Errors
/// [`ConfigError`] with the mend.
pub fn owners_text(path: &Path) -> Result<Option<String>, ConfigError> {
    let name = path.display().to_string();
    let whole = Source {
        file: &name,
        text: "",
    };
    let file = match file::open(path, file::WRITABLE_BY_OTHERS) {
        Ok(file) => file,
        // A link that leads nowhere is no absent file: somebody meant one.
        Err(Unavailable::Value(InvalidSecret::Absent { .. })) if path.is_symlink() => {
            return Err(whole.whole("is a link that leads nowhere", "correct the link"));
        }
        Err(Unavailable::Value(InvalidSecret::Absent { .. })) => return Ok(None),
        Err(Unavailable::Exposed { why, mend, .. }) => return Err(whole.whole(why, mend)),
        Err(error) => return Err(whole.whole(error.to_string(), "")),
    };
    let mut text = String::new();
    // One byte more than is taken, so that a larger file is refused and not cut.
    let limit = capability::config::SIZE_BYTES_MAX as u64 + 1;
    file.take(limit)
        .read_to_string(&mut text)
        .map_err(|error| whole.whole(error.to_string(), "save it as plain UTF-8"))?;
    Ok(Some(text))
}
