//! `models.toml`: the machine's providers, keys and prices. It lies in moat's state directory and is never read from a repository.

use std::collections::BTreeMap;
use std::path::PathBuf;

use capability::config::{ConfigError, Source, parse};
use capability::manifest::is_plain_name;
use egress::{Endpoint, PlainHttp};
use flow::money::Micros;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use crate::price::Price;

/// The file's name in the state directory.
pub const FILE: &str = "models.toml";

/// Dollars for a million tokens; no model costs more, and a larger number is a slip of the unit.
const PRICE_MAX: f64 = 10_000.0;

/// A checked `models.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// By name.
    pub providers: BTreeMap<String, Provider>,
    /// By the name that `moat.toml` uses.
    pub models: BTreeMap<String, ModelSpec>,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The wire format.
    pub api: Api,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Where its key comes from; absent: no key is sent.
    pub key: Option<KeySource>,
    /// The header that carries the key.
    pub key_header: String,
    /// How the key stands in it; `{}` is the key.
    pub key_format: String,
    /// Certificate authorities to trust beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// What the limit of output is called.
    pub output_limit: OutputLimit,
    /// Whether it knows a request that it has had already by its `Idempotency-Key`, and charges for it once.
    pub charges_once: bool,
}

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI-compatible chat completions.
    Openai,
}

/// What an OpenAI-compatible service calls the limit of output tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputLimit {
    /// Understood by every compatible server.
    #[default]
    MaxTokens,
    /// Wanted by OpenAI's own reasoning models.
    MaxCompletionTokens,
}

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// An environment variable of moat.
    Env(String),
    /// A file.
    File(PathBuf),
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// Its provider's name.
    pub provider: String,
    /// What the provider calls it.
    pub id: String,
    /// Input and output tokens that one conversation may hold.
    pub context_tokens: u32,
    /// Output tokens of one answer at most.
    pub output_tokens: u32,
    /// What it costs.
    pub price: Price,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "models.toml")]
struct Raw {
    /// Who answers, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawProvider>")]
    provider: BTreeMap<String, Spanned<RawProvider>>,
    /// Models, by the name that `moat.toml` uses.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawModel>")]
    model: BTreeMap<String, Spanned<RawModel>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawProvider {
    /// anthropic or openai.
    api: Api,
    /// Such as `https://api.anthropic.com` or `http://127.0.0.1:11434/v1`.
    url: String,
    /// An environment variable of moat that holds the key.
    key_env: Option<String>,
    /// A file that holds the key.
    key_file: Option<PathBuf>,
    /// The header that carries the key, where it is not the usual one.
    key_header: Option<String>,
    /// How the key stands in the header; `{}` is the key.
    key_format: Option<String>,
    /// A PEM file with certificate authorities to trust beside the public ones.
    ca_file: Option<PathBuf>,
    /// Whether plain http may leave this machine.
    #[serde(default)]
    plain_http: bool,
    /// Of openai: max_tokens, or max_completion_tokens where the service insists on it.
    output_limit: Option<OutputLimit>,
    /// Whether the provider knows a request that it has had already by its Idempotency-Key, and charges for it once; false unless given.
    #[serde(default)]
    charges_once: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawModel {
    /// A `[provider.…]`.
    provider: String,
    /// What the provider calls the model.
    id: String,
    /// Input and output tokens that one conversation may hold.
    context_tokens: u32,
    /// Output tokens of one answer at most.
    output_tokens: u32,
    price: RawPrice,
}

/// Dollars for a million tokens.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawPrice {
    input: f64,
    output: f64,
    /// Input read from the cache; as `input` when absent.
    cache_read: Option<f64>,
    /// Input written to the cache; as `input` when absent.
    cache_write: Option<f64>,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ConfigError`] at the first thing that is wrong.
    pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
        let source = Source { file, text };
        let raw: Raw = parse(source)?;
        let mut config = Config::default();
        for (name, one) in raw.provider {
            let provider = provider(&name, one, source)?;
            config.providers.insert(name, provider);
        }
        for (name, one) in raw.model {
            let model = model(&name, one, &config.providers, source)?;
            config.models.insert(name, model);
        }
        Ok(config)
    }

    /// JSON Schema of the file, for editors.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Raw).to_value()
    }
}

fn provider(
    name: &str,
    raw: Spanned<RawProvider>,
    source: Source<'_>,
) -> Result<Provider, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let refuse = |message: String, mend: &str| source.error(span.clone(), message, mend);
    if !is_plain_name(name) {
        return Err(refuse(
            format!("{name:?} is no provider's name"),
            "use letters, digits and hyphens",
        ));
    }
    let plain = if raw.plain_http {
        PlainHttp::Allowed
    } else {
        PlainHttp::Refused
    };
    let endpoint = Endpoint::parse(&raw.url, plain).map_err(|error| {
        refuse(
            format!("`url` of provider {name}: {error}"),
            "give the base address of the API; `plain-http = true` lets plain http leave this machine",
        )
    })?;
    // A relative path would lead into whatever repository moat is called in.
    for (key, path) in [("key-file", &raw.key_file), ("ca-file", &raw.ca_file)] {
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(refuse(
                format!("`{key}` of provider {name} is no absolute path"),
                "write the whole path, from /",
            ));
        }
    }
    let key = match (raw.key_env, raw.key_file) {
        (Some(_), Some(_)) => {
            return Err(refuse(
                format!("provider {name} has two keys"),
                "keep key-env or key-file",
            ));
        }
        (Some(variable), None) => Some(KeySource::Env(variable)),
        (None, Some(path)) => Some(KeySource::File(path)),
        (None, None) if raw.key_header.is_some() || raw.key_format.is_some() => {
            return Err(refuse(
                format!("provider {name} says how its key is sent, but has none"),
                "add key-env or key-file, or take key-header and key-format out",
            ));
        }
        (None, None) => None,
    };
    if raw.api == Api::Anthropic && raw.output_limit.is_some() {
        return Err(refuse(
            format!("provider {name}: output-limit is for api = \"openai\" only"),
            "take it out",
        ));
    }
    let (header, format) = match raw.api {
        Api::Anthropic => ("x-api-key", "{}"),
        Api::Openai => ("authorization", "Bearer {}"),
    };
    let key_format = match (raw.key_format, &raw.key_header) {
        (Some(format), _) => format,
        // A header of one's own carries the bare key.
        (None, Some(_)) => "{}".into(),
        (None, None) => format.into(),
    };
    if key_format.matches("{}").count() != 1 {
        return Err(refuse(
            format!("`key-format` of provider {name} needs {{}} once"),
            "write {} where the key stands",
        ));
    }
    Ok(Provider {
        api: raw.api,
        endpoint,
        key,
        key_header: raw.key_header.unwrap_or_else(|| header.into()),
        key_format,
        ca_file: raw.ca_file,
        output_limit: raw.output_limit.unwrap_or_default(),
        charges_once: raw.charges_once,
    })
}

fn model(
    name: &str,
    raw: Spanned<RawModel>,
    providers: &BTreeMap<String, Provider>,
    source: Source<'_>,
) -> Result<ModelSpec, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let refuse = |message: String, mend: &str| source.error(span.clone(), message, mend);
    if !is_plain_name(name) {
        return Err(refuse(
            format!("{name:?} is no model's name"),
            "use letters, digits and hyphens; `id` is what the provider calls it",
        ));
    }
    if !providers.contains_key(&raw.provider) {
        return Err(refuse(
            format!(
                "model {name} names the provider `{}`, which the file does not have",
                raw.provider
            ),
            "add a [provider.…] or correct the name",
        ));
    }
    if raw.id.is_empty() || raw.id.len() > 200 || raw.id.chars().any(char::is_control) {
        return Err(refuse(
            format!("`id` of model {name} is no model's id"),
            "write it as the provider does",
        ));
    }
    if raw.output_tokens == 0 || raw.context_tokens <= raw.output_tokens {
        return Err(refuse(
            format!("model {name} has no room for input"),
            "context-tokens is more than output-tokens, and both are more than 0",
        ));
    }
    let micros = |dollars: f64| {
        if !(0.0..=PRICE_MAX).contains(&dollars) {
            return Err(refuse(
                format!("a price of model {name} is not from 0 to {PRICE_MAX}"),
                "give dollars for a million tokens; 0 for what costs nothing",
            ));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be from 0 to 10 000 dollars"
        )]
        Ok(Micros((dollars * 1e6).round() as u64))
    };
    let input = micros(raw.price.input)?;
    Ok(ModelSpec {
        provider: raw.provider,
        id: raw.id,
        context_tokens: raw.context_tokens,
        output_tokens: raw.output_tokens,
        price: Price {
            input,
            output: micros(raw.price.output)?,
            cache_read: raw.price.cache_read.map_or(Ok(input), &micros)?,
            cache_write: raw.price.cache_write.map_or(Ok(input), &micros)?,
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    const TEXT: &str = r#"
[provider.gateway]
api = "openai"
url = "https://gateway.example/v1"
key-env = "GATEWAY_KEY"

[model.large]
provider = "gateway"
id = "vendor/large-1"
context-tokens = 200000
output-tokens = 32000
price = { input = 3, output = 15.5, cache-read = 0.3 }
"#;

    #[test]
    fn a_whole_file_is_read() {
        let config = Config::parse(TEXT, FILE).unwrap();
        let model = &config.models["large"];
        assert_eq!(
            model.price,
            Price {
                input: Micros(3_000_000),
                output: Micros(15_500_000),
                cache_read: Micros(300_000),
                cache_write: Micros(3_000_000),
            }
        );
        let provider = &config.providers["gateway"];
        assert_eq!(
            (provider.key_header.as_str(), provider.key_format.as_str()),
            ("authorization", "Bearer {}")
        );
        assert_eq!(Config::parse("", FILE).unwrap(), Config::default());
    }

    #[test]
    fn every_mistake_has_its_line_and_mend() {
        for (from, to, message) in [
            ("api = \"openai\"", "api = \"gopher\"", "unknown variant"),
            ("https://", "http://", "loopback"),
            ("https://gateway", "https://u:p@gateway", "password"),
            ("key-env", "key-envv", "unknown field"),
            (
                "key-env = \"GATEWAY_KEY\"",
                "key-env = \"A\"\nkey-file = \"/b\"",
                "two keys",
            ),
            (
                "key-env = \"GATEWAY_KEY\"",
                "key-file = \"secrets/key\"",
                "absolute",
            ),
            (
                "key-env = \"GATEWAY_KEY\"",
                "ca-file = \"ca.pem\"",
                "absolute",
            ),
            (
                "key-env = \"GATEWAY_KEY\"",
                "key-header = \"api-key\"",
                "has none",
            ),
            (
                "key-env = \"GATEWAY_KEY\"",
                "key-env = \"A\"\nkey-format = \"x\"",
                "once",
            ),
            (
                "provider = \"gateway\"",
                "provider = \"other\"",
                "does not have",
            ),
            ("vendor/large-1", "", "id"),
            ("context-tokens = 200000", "context-tokens = 32000", "room"),
            ("input = 3,", "input = -3,", "price"),
            ("input = 3,", "input = nan,", "price"),
            ("input = 3,", "", "missing field"),
            ("price = {", "prise = {", "unknown field"),
            (
                "api = \"openai\"",
                "api = \"anthropic\"\noutput-limit = \"max_tokens\"",
                "output-limit",
            ),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let error = Config::parse(&TEXT.replacen(from, to, 1), FILE).unwrap_err();
            assert!(
                error.to_string().contains(message) && error.line > 0 && !error.mend.is_empty(),
                "{to}: {error}"
            );
        }
    }

    #[test]
    fn a_key_has_the_header_of_its_api_or_its_own() {
        let with = |to: &str| {
            let text = TEXT.replacen("key-env = \"GATEWAY_KEY\"", to, 1);
            let provider = Config::parse(&text, FILE).unwrap().providers["gateway"].clone();
            (provider.key_header, provider.key_format)
        };
        assert_eq!(
            with("key-env = \"K\"\nkey-header = \"api-key\""),
            ("api-key".into(), "{}".into())
        );
        assert_eq!(
            with("key-file = \"/k\"\nkey-format = \"Token {}\""),
            ("authorization".into(), "Token {}".into())
        );
    }
}
