//! The file's form: what is read, and what is refused with line and mend.

use super::*;

const WHOLE: &str = r#"
[secrets.sentry]
hosts = ["https://sentry.example.com", "https://sentry.example.com:8443"]
env = "SENTRY_TOKEN"

[secrets.file]
hosts = ["https://a.example"]
file = "/etc/moat/a"

[secrets.command]
hosts = ["https://a.example"]
command = ["/usr/bin/op", "read", "op://x"]
command-env = ["OP_SERVICE_ACCOUNT_TOKEN"]

[secrets.keyring]
hosts = ["https://a.example"]
keyring = { service = "moat", account = "a" }

[secrets.vault]
hosts = ["https://a.example"]
vault = { path = "old/a", field = "token", kv = 1 }

[vault]
address = "https://vault.example.com:8200"
token-file = "/run/vault/token"
namespace = "teams/one"
authorities = "/etc/ssl/own.pem"
"#;

#[test]
fn a_whole_file_is_read() {
    let config = Config::parse(WHOLE, FILE).unwrap();
    let kinds: Vec<_> = config
        .secrets
        .values()
        .map(|one| one.source.kind())
        .collect();
    assert_eq!(kinds, ["command", "file", "keyring", "env", "vault"]);
    assert_eq!(config.secrets["sentry"].hosts.len(), 2);
    assert_eq!(
        config.secrets["vault"].source,
        SecretSource::Vault {
            path: "old/a".into(),
            field: "token".into(),
            kv: KvVersion::V1
        }
    );
    assert_eq!(
        config.vault.unwrap().namespace.as_deref(),
        Some("teams/one")
    );
    assert_eq!(Config::parse("", FILE).unwrap(), Config::default());
}

#[test]
fn every_mistake_has_its_line_and_mend() {
    for (from, to, line, message) in [
        ("[secrets.sentry]", "[secret.sentry]", 2, "unknown field"),
        ("[secrets.sentry]", "[secrets.\"a b\"]", 2, "no name"),
        ("[secrets.sentry]", "[secrets.\"\"]", 2, "no name"),
        ("[secrets.file]", "[secrets.sentry]", 6, "duplicate"),
        ("env = \"SENTRY_TOKEN\"", "", 2, "where it is"),
        ("env = \"SENTRY_TOKEN\"", "envv = \"A\"", 4, "unknown field"),
        (
            "env = \"SENTRY_TOKEN\"",
            "env = \"A\"\nfile = \"/b\"",
            2,
            "two places",
        ),
        ("env = \"SENTRY_TOKEN\"", "env = \"\"", 2, "variable"),
        ("env = \"SENTRY_TOKEN\"", "env = \"A=B\"", 2, "variable"),
        ("env = \"SENTRY_TOKEN\"", "env = \"1A\"", 2, "variable"),
        ("env = \"SENTRY_TOKEN\"", "env = 1", 4, "invalid type"),
        (
            "env = \"SENTRY_TOKEN\"",
            "value = \"x\"",
            4,
            "unknown field",
        ),
        (
            "hosts = [\"https://sentry.example.com\", ",
            "hosts = [] #",
            2,
            "nowhere",
        ),
        (
            "hosts = [\"https://sentry.example.com\", ",
            "#",
            2,
            "missing field",
        ),
        (
            "\"https://sentry.example.com\"",
            "\"http://sentry.example.com\"",
            2,
            "TLS",
        ),
        (
            "\"https://sentry.example.com\"",
            "\"sentry.example.com\"",
            2,
            "scheme",
        ),
        (
            "\"https://sentry.example.com\"",
            "\"https://*.example.com\"",
            2,
            "host",
        ),
        ("\"https://sentry.example.com\"", "\"*\"", 2, "scheme"),
        (
            "\"https://sentry.example.com\"",
            "\"https://a.example/\"",
            2,
            "host",
        ),
        (
            "\"https://sentry.example.com\"",
            "\"https://u@a.example\"",
            2,
            "host",
        ),
        (
            "\"https://sentry.example.com\"",
            "\"https://0x7f.1\"",
            2,
            "IPv4",
        ),
        (
            "sentry.example.com:8443",
            "SENTRY.example.com.:443",
            2,
            "twice",
        ),
        ("\"/etc/moat/a\"", "\"secrets/a\"", 6, "absolute"),
        ("\"/etc/moat/a\"", "\"~/a\"", 6, "absolute"),
        ("[\"/usr/bin/op\"", "[\"op\"", 10, "absolute"),
        (
            "[\"/usr/bin/op\", \"read\", \"op://x\"]",
            "[]",
            10,
            "absolute",
        ),
        (
            "[\"/usr/bin/op\", \"read\", \"op://x\"]",
            "\"/usr/bin/op read\"",
            12,
            "invalid type",
        ),
        ("\"op://x\"]", "\"a\\u0000b\"]", 10, "NUL"),
        (
            "command-env = [\"OP_SERVICE",
            "command-env = [\"A=",
            10,
            "variable",
        ),
        (
            "file = \"/etc/moat/a\"",
            "file = \"/a\"\ncommand-env = [\"A\"]",
            6,
            "command-env",
        ),
        (
            "service = \"moat\"",
            "service = \"\"",
            15,
            "key's description",
        ),
        (
            "service = \"moat\"",
            "service = \"a:b\"",
            15,
            "key's description",
        ),
        ("account = \"a\"", "acount = \"a\"", 17, "unknown field"),
        ("\"old/a\"", "\"/old/a\"", 19, "no path"),
        ("\"old/a\"", "\"old//a\"", 19, "no path"),
        ("\"old/a\"", "\"old/../sys/seal\"", 19, "no path"),
        ("\"old/a\"", "\"old/%2e%2e/a\"", 19, "no path"),
        ("\"old/a\"", "\"old/a?version=1\"", 19, "no path"),
        ("\"old/a\"", "\"v1/old/a\"", 19, "version"),
        ("field = \"token\"", "field = \"\"", 19, "field"),
        ("kv = 1", "kv = 3", 19, "no version"),
        (
            "https://vault.example.com:8200",
            "http://vault.example.com:8200",
            23,
            "loopback",
        ),
        (
            "https://vault.example.com:8200",
            "https://t@vault.example.com",
            23,
            "password",
        ),
        ("token-file = \"/run/vault/token\"", "", 23, "no token"),
        (
            "token-file = \"/run/vault/token\"",
            "token-file = \"/a\"\ntoken-env = \"A\"",
            23,
            "two tokens",
        ),
        ("\"/run/vault/token\"", "\"token\"", 23, "absolute"),
        (
            "token-file = \"/run/vault/token\"",
            "token-env = \"A B\"",
            23,
            "variable",
        ),
        ("\"teams/one\"", "\"teams one\"", 23, "namespace"),
        ("\"/etc/ssl/own.pem\"", "\"own.pem\"", 23, "absolute"),
        ("address", "adress", 24, "unknown field"),
    ] {
        assert!(WHOLE.contains(from), "{from}");
        let text = WHOLE.replacen(from, to, 1);
        let Err(error) = Config::parse(&text, FILE) else {
            panic!("{to} was taken");
        };
        assert!(error.message.contains(message), "{to}: {error}");
        assert_eq!(error.line, line, "{to}: {error}");
        assert!(!error.mend.is_empty(), "{to}: {error}");
    }
    let without = WHOLE.split("[vault]").next().unwrap();
    let error = Config::parse(without, FILE).unwrap_err();
    assert!(error.message.contains("does not name"), "{error}");
}
