//! What a command is told, by the variables that programs know: where the proxy is, and which certificate to trust.

use std::collections::BTreeMap;

/// Programs read one spelling or the other; curl, for plain http, the lower one alone.
const PROXY: [&str; 5] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "CARGO_HTTP_PROXY",
];

/// OpenSSL with Go and Python's `ssl`, curl, requests, Node, Cargo, git, pip.
const CERTIFICATE: [&str; 7] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
];

/// The variables; `port` is the proxy's on 127.0.0.1, `certificate` the path of the file with [`crate::Proxy::certificate`].
pub fn environment(port: u16, certificate: &str) -> BTreeMap<String, String> {
    let proxy = format!("http://127.0.0.1:{port}");
    let variables = PROXY
        .map(|name| (name, proxy.clone()))
        .into_iter()
        .chain(CERTIFICATE.map(|name| (name, certificate.to_owned())))
        // Node's own client asks the environment only when it is told to.
        .chain([("NODE_USE_ENV_PROXY", "1".to_owned())])
        // Nothing can be reached around the proxy.
        .chain(["NO_PROXY", "no_proxy"].map(|name| (name, String::new())));
    variables
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
