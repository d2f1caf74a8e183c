//! What may be asked of the network: rules over origin, method and path, and what two of them have in common.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::origin::{HostName, InvalidOrigin, Origin, Scheme, split_port};

/// An HTTP method: a token in capitals. `CONNECT`, `TRACE` and their like are none that a skill can use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Method(String);

/// A path below which everything is meant, by whole segments: `/a` holds `/a` and `/a/b`, not `/ab`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPrefix(String);

/// Which hosts a rule means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostPattern {
    /// This one.
    Exact(HostName),
    /// Every DNS name below this one, and not itself. Never an address.
    Below(String),
    /// Every host; a policy's only.
    Any,
}

/// Which methods a rule means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Methods {
    /// Every method that a skill can use.
    All,
    /// These.
    These(BTreeSet<Method>),
}

/// One rule: requests that agree with all of its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NetworkRule {
    /// How the host is spoken to.
    pub scheme: Scheme,
    /// Which hosts.
    pub host: HostPattern,
    /// Which port; `None`, with [`HostPattern::Any`] only, means every port.
    pub port: Option<u16>,
    /// Which methods.
    pub methods: Methods,
    /// Which paths.
    pub path: PathPrefix,
}

/// Why a text is no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// The host or port.
    #[error(transparent)]
    Origin(#[from] InvalidOrigin),
    /// The host pattern.
    #[error(
        "`*` stands alone (in a policy) or before a name of two labels or more, as in `*.example.com`"
    )]
    Pattern,
    /// A method.
    #[error("a method is a word in capitals, and neither CONNECT nor TRACE")]
    Method,
    /// A path.
    #[error(
        "a path begins with `/`, and has no query, no empty, `.` or `..` segment, no `\\` and no escaped `.`, `/` or `\\`"
    )]
    Path,
    /// Anything else.
    #[error("it is no rule: write `[METHOD,… ][http://]HOST[:PORT][/PATH]`")]
    Form,
}

impl FromStr for Method {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Method, InvalidRule> {
        let word = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        if !word || matches!(text, "CONNECT" | "TRACE" | "TRACK" | "PRI") {
            return Err(InvalidRule::Method);
        }
        Ok(Method(text.to_owned()))
    }
}

impl Method {
    /// The method, in capitals.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PathPrefix {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<PathPrefix, InvalidRule> {
        let without_end = text.strip_suffix('/').unwrap_or(text);
        if text.len() > 1024 || text.contains('?') || !is_plain_path(text) {
            return Err(InvalidRule::Path);
        }
        Ok(PathPrefix(without_end.to_owned()))
    }
}

impl PathPrefix {
    /// All paths.
    pub fn root() -> PathPrefix {
        PathPrefix(String::new())
    }

    /// The path; `/` for all.
    pub fn as_str(&self) -> &str {
        if self.0.is_empty() { "/" } else { &self.0 }
    }

    /// Whether a path (without its query) lies below. A path that a server could read as another one lies only where all paths are meant.
    pub fn holds(&self, path: &str) -> bool {
        if self.0.is_empty() {
            return path.starts_with('/') && is_visible(path);
        }
        is_plain_path(path) && self.holds_plain(path)
    }

    fn holds_plain(&self, path: &str) -> bool {
        path.strip_prefix(&self.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Whether every server reads this path alike: visible ASCII, nothing that resolves to another path.
fn is_plain_path(path: &str) -> bool {
    let Some(inner) = path.strip_prefix('/') else {
        return false;
    };
    let segments = inner.strip_suffix('/').unwrap_or(inner);
    is_visible(path)
        && !path.contains('\\')
        && escapes_are_plain(path)
        && (inner.is_empty()
            || segments
                .split('/')
                .all(|segment| !matches!(segment, "" | "." | "..") && !segment.starts_with("..;")))
}

fn is_visible(path: &str) -> bool {
    path.bytes()
        .all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'?'))
}

/// Escapes are two hexadecimal digits, and stand for none of `.`, `/`, `\`, `%` or a control character.
fn escapes_are_plain(path: &str) -> bool {
    path.split('%').skip(1).all(|rest| {
        let value = rest
            .get(..2)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        value.is_some_and(|byte| byte >= 0x20 && !matches!(byte, b'.' | b'/' | b'\\' | b'%' | 0x7f))
    })
}

impl HostPattern {
    /// Reads a host, or `*.` and the name above the hosts that are meant.
    ///
    /// # Errors
    /// [`InvalidRule`]; a bare `*` is none of a skill's.
    pub fn parse(text: &str) -> Result<HostPattern, InvalidRule> {
        let Some(above) = text.strip_prefix("*.") else {
            return if text.contains('*') {
                Err(InvalidRule::Pattern)
            } else {
                Ok(HostPattern::Exact(text.parse()?))
            };
        };
        match above.parse()? {
            // Whole top-level domains belong to nobody.
            HostName::Name(name) if name.contains('.') => Ok(HostPattern::Below(name)),
            _ => Err(InvalidRule::Pattern),
        }
    }

    fn matches(&self, host: &HostName) -> bool {
        match (self, host) {
            (HostPattern::Any, _) => true,
            (HostPattern::Exact(one), host) => one == host,
            (HostPattern::Below(above), HostName::Name(name)) => is_below(name, above),
            (HostPattern::Below(_), HostName::V4(_) | HostName::V6(_)) => false,
        }
    }

    /// The hosts that both mean.
    fn both(&self, other: &HostPattern) -> Option<HostPattern> {
        let narrower = match (self, other) {
            (HostPattern::Any, one) | (one, HostPattern::Any) => one,
            (HostPattern::Exact(host), pattern) if pattern.matches(host) => self,
            (pattern, HostPattern::Exact(host)) if pattern.matches(host) => other,
            (HostPattern::Below(one), HostPattern::Below(two)) => {
                if one == two || is_below(one, two) {
                    self
                } else if is_below(two, one) {
                    other
                } else {
                    return None;
                }
            }
            _ => return None,
        };
        Some(narrower.clone())
    }
}

fn is_below(name: &str, above: &str) -> bool {
    name.strip_suffix(above)
        .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl Methods {
    fn has(&self, method: &Method) -> bool {
        match self {
            Methods::All => true,
            Methods::These(methods) => methods.contains(method),
        }
    }

    /// The methods that both mean.
    fn both(&self, other: &Methods) -> Option<Methods> {
        match (self, other) {
            (Methods::All, one) | (one, Methods::All) => Some(one.clone()),
            (Methods::These(one), Methods::These(two)) => {
                let common: BTreeSet<_> = one.intersection(two).cloned().collect();
                (!common.is_empty()).then_some(Methods::These(common))
            }
        }
    }
}

impl NetworkRule {
    /// Reads a rule of `moat.toml`: `[METHOD,… ][http://]HOST[:PORT][/PATH]`. https unless it says http; the scheme's own port unless given.
    ///
    /// # Errors
    /// [`InvalidRule`]. A bare `*` is refused: see [`NetworkRule::parse_ceiling`].
    pub fn parse(text: &str) -> Result<NetworkRule, InvalidRule> {
        let (methods, rest) = match text.split_once(' ') {
            Some((methods, rest)) => (methods_of(methods)?, rest),
            None => (Methods::All, text),
        };
        let (scheme, rest) = match rest.split_once("://") {
            Some((scheme, rest)) => (
                Scheme::parse(scheme).ok_or(InvalidRule::Origin(InvalidOrigin::Scheme))?,
                rest,
            ),
            None => (Scheme::Https, rest),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], rest[at..].parse()?),
            None => (rest, PathPrefix::root()),
        };
        if authority.is_empty() {
            return Err(InvalidRule::Form);
        }
        let (host, port) = split_port(authority)?;
        Ok(NetworkRule {
            scheme,
            host: HostPattern::parse(host)?,
            port: Some(port.unwrap_or(scheme.default_port())),
            methods,
            path,
        })
    }

    /// Reads a rule of `policy.toml`: as [`NetworkRule::parse`], and `*` for every request over TLS, `GET *` for those of a method.
    ///
    /// # Errors
    /// [`InvalidRule`].
    pub fn parse_ceiling(text: &str) -> Result<NetworkRule, InvalidRule> {
        let methods = match text.strip_suffix('*') {
            Some("") => Methods::All,
            Some(before) if before.ends_with(' ') => methods_of(before.trim_end_matches(' '))?,
            _ => return NetworkRule::parse(text),
        };
        Ok(NetworkRule {
            scheme: Scheme::Https,
            host: HostPattern::Any,
            port: None,
            methods,
            path: PathPrefix::root(),
        })
    }

    /// Whether a request agrees with the rule; `path` comes without its query.
    pub fn allows(&self, origin: &Origin, method: &Method, path: &str) -> bool {
        self.reaches(origin) && self.methods.has(method) && self.path.holds(path)
    }

    /// Whether the rule is about this origin.
    pub fn reaches(&self, origin: &Origin) -> bool {
        self.scheme == origin.scheme()
            && self.port.is_none_or(|port| port == origin.port())
            && self.host.matches(origin.host())
    }

    /// The requests that agree with both rules, as one rule.
    pub fn both(&self, other: &NetworkRule) -> Option<NetworkRule> {
        let port = match (self.port, other.port) {
            (Some(one), Some(two)) if one != two => return None,
            (one, two) => one.or(two),
        };
        let path = if self.path.holds_plain(&other.path.0) {
            &other.path
        } else if other.path.holds_plain(&self.path.0) {
            &self.path
        } else {
            return None;
        };
        (self.scheme == other.scheme).then_some(())?;
        Some(NetworkRule {
            scheme: self.scheme,
            host: self.host.both(&other.host)?,
            port,
            methods: self.methods.both(&other.methods)?,
            path: path.clone(),
        })
    }
}

fn methods_of(text: &str) -> Result<Methods, InvalidRule> {
    let methods = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
    Ok(Methods::These(methods))
}

impl fmt::Display for NetworkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Methods::These(methods) = &self.methods {
            let names: Vec<_> = methods.iter().map(Method::as_str).collect();
            write!(f, "{} ", names.join(","))?;
        }
        if self.scheme == Scheme::Http {
            f.write_str("http://")?;
        }
        match &self.host {
            HostPattern::Exact(host) => host.fmt(f)?,
            HostPattern::Below(above) => write!(f, "*.{above}")?,
            HostPattern::Any => f.write_str("*")?,
        }
        if let Some(port) = self.port.filter(|port| *port != self.scheme.default_port()) {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path.0)
    }
}

impl TryFrom<String> for Method {
    type Error = InvalidRule;

    fn try_from(text: String) -> Result<Method, InvalidRule> {
        text.parse()
    }
}

impl From<Method> for String {
    fn from(method: Method) -> String {
        method.0
    }
}

impl TryFrom<String> for PathPrefix {
    type Error = InvalidRule;

    fn try_from(text: String) -> Result<PathPrefix, InvalidRule> {
        text.parse()
    }
}

impl From<PathPrefix> for String {
    fn from(path: PathPrefix) -> String {
        path.as_str().to_owned()
    }
}
