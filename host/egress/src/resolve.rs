//! From a host's name to addresses: asked once, of one resolver, and only for names that a grant holds.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// More lines has no hosts file that a person keeps.
const HOSTS_BYTES_MAX: usize = 1 << 20;

/// Looks names up. The door asks once for a connection and dials nothing but the answer.
#[async_trait::async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses of a name, in the order in which they should be tried.
    ///
    /// # Errors
    /// When there is none, or nobody knows.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The machine's own resolver.
///
/// A name is always taken as a whole: no search list is gone through, which would ask strangers for `name.their-domain`.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

#[async_trait::async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        // The system finds no line of the hosts file by a name with a dot at its end, so that file is read here.
        let hosts = tokio::fs::read("/etc/hosts").await.unwrap_or_default();
        let listed = listed(&hosts, name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let found = tokio::net::lookup_host((format!("{name}."), 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// The addresses of a name in a hosts file.
fn listed(hosts: &[u8], name: &str) -> Vec<IpAddr> {
    let hosts = String::from_utf8_lossy(&hosts[..hosts.len().min(HOSTS_BYTES_MAX)]);
    hosts
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|word| word.eq_ignore_ascii_case(name))
                .then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn a_hosts_file_is_read_by_whole_names() {
        let hosts = b"127.0.0.1 localhost\n10.0.0.7\tdb DB.example.com # api.example.com\n::1 db\n\xff nonsense\n";
        let ips = |name| listed(hosts, name);
        assert_eq!(
            ips("db.example.com"),
            ["10.0.0.7".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(ips("db").len(), 2);
        assert!(ips("api.example.com").is_empty() && ips("example.com").is_empty());
    }

    #[tokio::test]
    async fn localhost_is_this_machine_and_asks_nobody() {
        let found = SystemResolver.resolve("db.localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
    }
}
