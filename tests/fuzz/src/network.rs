//! Where requests go: an origin is the same to whoever reads it again, and a rule never grows by being written or joined.

use capability::NetworkRule;
use capability::network::{HostPattern, Method};
use capability::origin::{HostName, Origin, Scheme};
use egress::{Endpoint, PlainHttp};
use url::{Host, Url};

use crate::text;

/// An authority: what the grammar takes, the URL standard's parser reads as the same host and port.
pub(crate) fn origin(data: &[u8]) {
    let Some(authority) = text(data) else { return };
    for scheme in ["http", "https"] {
        let Ok(origin) = Origin::parse(scheme, authority) else {
            continue;
        };
        assert_eq!(
            Origin::parse(scheme, &origin.authority()).as_ref(),
            Ok(&origin),
            "another origin once written"
        );
        // Both what was asked for and what we make of it: whoever dials sees one of the two.
        for spelled in [format!("{scheme}://{authority}/"), format!("{origin}/")] {
            if let Some(url) = reread(&origin, &spelled) {
                same(&origin, &url);
            }
        }
    }
}

/// Another parser may refuse an A-label that stands for nothing; nobody can be dialled by it then.
pub(crate) fn reread(origin: &Origin, spelled: &str) -> Option<Url> {
    let read = Url::parse(spelled);
    assert!(
        read.is_ok() || origin.authority().contains("xn--"),
        "{spelled:?} is no URL: {read:?}"
    );
    read.ok()
}

pub(crate) fn same(origin: &Origin, url: &Url) {
    assert_eq!(url.port_or_known_default(), Some(origin.port()));
    assert_eq!(url.scheme(), origin.scheme().as_str());
    assert!(url.username().is_empty() && url.password().is_none());
    assert_eq!(url.path(), "/");
    match (origin.host(), url.host().unwrap()) {
        (HostName::Name(ours), Host::Domain(theirs)) => {
            assert_eq!(ours, theirs.trim_end_matches('.'));
        }
        (HostName::V4(ours), Host::Ipv4(theirs)) => assert_eq!(*ours, theirs),
        (HostName::V6(ours), Host::Ipv6(theirs)) => assert_eq!(*ours, theirs),
        (ours, theirs) => panic!("{ours:?} is {theirs:?} to another parser"),
    }
}

/// Lines: two rules, an authority, a method and a path. What two rules have in common allows what both allow.
pub(crate) fn rule(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (one, two) = (rule_of(next()), rule_of(next()));
    let (authority, method, path) = (next(), next(), next());
    let (Some(one), Some(two), Ok(method)) = (one, two, method.parse::<Method>()) else {
        return;
    };
    let both = one.both(&two);
    assert_eq!(both, two.both(&one), "it depends on the order");
    for scheme in ["http", "https"] {
        let Ok(origin) = Origin::parse(scheme, authority) else {
            continue;
        };
        let allows = |rule: &NetworkRule| rule.allows(&origin, &method, path);
        assert_eq!(
            both.as_ref().is_some_and(allows),
            allows(&one) && allows(&two),
            "{both:?} of {one:?} and {two:?} at {origin} {method:?} {path:?}"
        );
        if allows(&one) {
            stays_inside(&one, &origin, path);
        }
    }
}

/// A request that a rule allows is below the rule's path to a parser that resolves dots and backslashes, and at an origin that it names.
fn stays_inside(rule: &NetworkRule, origin: &Origin, path: &str) {
    assert!(rule.scheme == origin.scheme());
    if let (HostPattern::Below(_), HostName::V4(_) | HostName::V6(_)) = (&rule.host, origin.host())
    {
        panic!("an address lies below no name");
    }
    let Some(url) = reread(origin, &format!("{origin}{path}")) else {
        return;
    };
    same_but_path(origin, &url);
    let below = rule.path.as_str().trim_end_matches('/');
    assert!(
        url.path() == below || url.path().starts_with(&format!("{below}/")),
        "{} is not below {below}",
        url.path()
    );
}

pub(crate) fn same_but_path(origin: &Origin, url: &Url) {
    let mut url = url.clone();
    url.set_path("/");
    same(origin, &url);
}

/// Written and read again it is the same rule.
fn rule_of(text: &str) -> Option<NetworkRule> {
    let rule = NetworkRule::parse_ceiling(text).ok()?;
    assert_eq!(
        NetworkRule::parse_ceiling(&rule.to_string()).as_ref(),
        Ok(&rule),
        "{text:?}"
    );
    let json = serde_json::to_string(&rule).unwrap();
    assert_eq!(
        serde_json::from_str::<NetworkRule>(&json).unwrap(),
        rule,
        "{json}"
    );
    assert!(rule.port.is_some() || (rule.host == HostPattern::Any && rule.scheme == Scheme::Https));
    Some(rule)
}

/// The address of a configured service.
pub(crate) fn endpoint(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let strict = Endpoint::parse(text, PlainHttp::Refused);
    if let Ok(endpoint) = &strict {
        let again = Endpoint::parse(endpoint.as_str(), PlainHttp::Refused);
        assert_eq!(again.as_ref(), Ok(endpoint));
        assert!(
            !endpoint.as_str().contains(['@', '?', '#'])
                || Url::parse(endpoint.as_str()).unwrap().path().contains('@')
        );
        assert!(Endpoint::parse(text, PlainHttp::Allowed).is_ok());
    }
}
