//! From an origin to a connection: resolved once, every address judged, and only a judged address dialled, never the name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use capability::origin::{HostName, Origin, Scheme};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::{Class, class};
use crate::clamps::ADDRESSES_MAX;
use crate::request::RequestError;
use crate::resolve::Resolver;

/// How far a request may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scope {
    /// Hosts on the internet.
    Public,
    /// This machine and its network as well.
    Private,
}

/// A connection that stands.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// An address that may be dialled. There is no other way to get one than [`judged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Judged(SocketAddr);

/// Connects to an origin.
///
/// # Errors
/// [`RequestError::NoSuchName`], [`RequestError::AddressRefused`], [`RequestError::Unreachable`], [`RequestError::Tls`],
/// [`RequestError::TimedOut`].
pub(crate) async fn dial(
    resolver: &dyn Resolver,
    tls: &Arc<ClientConfig>,
    origin: &Origin,
    scope: Scope,
    until: Instant,
) -> Result<Stream, RequestError> {
    let late = |_| RequestError::TimedOut;
    let addresses = timeout_at(until, addresses(resolver, origin.host()))
        .await
        .map_err(late)??;
    let judged = judged(&addresses, origin.port(), scope, is_own)?;
    let stream = first(&judged, until).await?;
    // Small requests go at once; there is nothing to lose if this is not heard.
    let _ = stream.set_nodelay(true);
    if origin.scheme() == Scheme::Http {
        return Ok(Stream::Plain(stream));
    }
    let name = server_name(origin.host())?;
    let connected = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
    let stream = timeout_at(until, connected).await.map_err(late)?;
    Ok(Stream::Tls(Box::new(
        stream.map_err(|_| RequestError::Tls)?,
    )))
}

async fn addresses(resolver: &dyn Resolver, host: &HostName) -> Result<Vec<IpAddr>, RequestError> {
    let addresses = match host {
        HostName::V4(ip) => return Ok(vec![(*ip).into()]),
        HostName::V6(ip) => return Ok(vec![(*ip).into()]),
        HostName::Name(name) => resolver.resolve(name).await,
    };
    match addresses {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) | Err(_) => Err(RequestError::NoSuchName),
    }
}

/// The addresses that may be dialled, in order; the others of an answer are dropped.
fn judged(
    addresses: &[IpAddr],
    port: u16,
    scope: Scope,
    is_own: impl Fn(IpAddr) -> bool,
) -> Result<Vec<Judged>, RequestError> {
    let may = |ip: &IpAddr| match (class(*ip), scope) {
        (Class::Never, _) | (Class::Private, Scope::Public) => false,
        (Class::Private, Scope::Private) => true,
        (Class::Public, Scope::Private) => true,
        (Class::Public, Scope::Public) => !is_own(*ip),
    };
    let judged: Vec<Judged> = addresses
        .iter()
        .map(IpAddr::to_canonical)
        .filter(may)
        .take(ADDRESSES_MAX)
        .map(|ip| Judged(SocketAddr::new(ip, port)))
        .collect();
    if judged.is_empty() {
        return Err(RequestError::AddressRefused);
    }
    Ok(judged)
}

/// Whether an address is one of this machine's: only such can be bound to, whatever interface they are on.
///
/// Where a machine lets strangers' addresses be bound (`ip_nonlocal_bind`), what the kernel would send from is asked instead; that
/// sends nothing.
fn is_own(ip: IpAddr) -> bool {
    let binds = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
    // Addresses of documentation, which nobody has.
    let (nobodys, any): (IpAddr, IpAddr) = match ip {
        IpAddr::V4(_) => (
            Ipv4Addr::new(192, 0, 2, 1).into(),
            Ipv4Addr::UNSPECIFIED.into(),
        ),
        IpAddr::V6(_) => (
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            Ipv6Addr::UNSPECIFIED.into(),
        ),
    };
    if !binds(ip) {
        return false;
    }
    if !binds(nobodys) {
        return true;
    }
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == ip)
}

/// The first address that takes the connection; each gets its share of the time.
async fn first(addresses: &[Judged], until: Instant) -> Result<TcpStream, RequestError> {
    let mut error = RequestError::Unreachable;
    for (index, Judged(address)) in addresses.iter().enumerate() {
        let tries_left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = until.saturating_duration_since(Instant::now()) / tries_left;
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(_)) => error = RequestError::Unreachable,
            Err(_) => error = RequestError::TimedOut,
        }
    }
    Err(error)
}

/// What the certificate must be for: exactly the origin's host.
fn server_name(host: &HostName) -> Result<ServerName<'static>, RequestError> {
    match host {
        HostName::Name(name) => ServerName::try_from(name.clone()).map_err(|_| RequestError::Tls),
        HostName::V4(ip) => Ok(ServerName::IpAddress(IpAddr::V4(*ip).into())),
        HostName::V6(ip) => Ok(ServerName::IpAddress(IpAddr::V6(*ip).into())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    fn judge(addresses: &[&str], scope: Scope) -> Result<Vec<String>, RequestError> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let own = |ip: IpAddr| ip == IpAddr::from([8, 8, 8, 8]);
        let judged = judged(&addresses, 443, scope, own)?;
        Ok(judged.iter().map(|one| one.0.ip().to_string()).collect())
    }

    #[test]
    fn of_a_mixed_answer_only_what_may_be_reached_is_dialled() {
        for (answer, scope, dialled) in [
            (
                &["1.1.1.1", "127.0.0.1", "2606:4700::1"][..],
                Scope::Public,
                &["1.1.1.1", "2606:4700::1"][..],
            ),
            (
                &["::1", "10.0.0.1", "169.254.169.254", "1.1.1.1"],
                Scope::Private,
                &["::1", "10.0.0.1", "1.1.1.1"],
            ),
            (&["::ffff:1.1.1.1"], Scope::Public, &["1.1.1.1"]),
            // An address of this machine's own is private, whatever its range.
            (&["8.8.8.8", "1.1.1.1"], Scope::Public, &["1.1.1.1"]),
            (&["8.8.8.8"], Scope::Private, &["8.8.8.8"]),
        ] {
            assert_eq!(judge(answer, scope).unwrap(), dialled, "{answer:?}");
        }
    }

    #[test]
    fn an_answer_with_nothing_that_may_be_reached_is_refused() {
        for (answer, scope) in [
            (&["127.0.0.1", "::1", "10.1.2.3"][..], Scope::Public),
            (&["169.254.169.254", "fd00:ec2::254"], Scope::Private),
            (&["64:ff9b::7f00:1", "2002:7f00:1::"], Scope::Public),
            (&["::127.0.0.1", "0.0.0.0", "::"], Scope::Private),
            (&["8.8.8.8"], Scope::Public),
        ] {
            assert_eq!(
                judge(answer, scope),
                Err(RequestError::AddressRefused),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn this_machines_addresses_are_known_and_others_are_not() {
        assert!(is_own([127, 0, 0, 1].into()));
        assert!(is_own([127, 9, 9, 9].into()));
        assert!(!is_own([1, 1, 1, 1].into()));
        assert!(!is_own("2606:4700::1111".parse().unwrap()));
    }
}
