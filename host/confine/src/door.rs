//! A command's door: a listening socket on the loopback of its own network namespace, held by the host alone.
//!
//! A socket keeps the namespace in which it was made. So the host accepts straight from it what the command connects to, and no interface,
//! route or shared directory leads out of the namespace.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::handover;

/// Where the door is seen inside, on 127.0.0.1: the namespace is empty when it is made, so the number is always free.
pub const DOOR_PORT: u16 = 3128;

/// The host's end, over which the listener comes once the namespace is there.
#[derive(Debug)]
pub(crate) struct Awaited(UnixStream);

/// Both ends: the launcher's is the plain one.
pub(crate) fn pair() -> std::io::Result<(Awaited, OwnedFd)> {
    let (ours, theirs) = handover::pair()?;
    let ours = std::os::unix::net::UnixStream::from(ours);
    ours.set_nonblocking(true)?;
    Ok((Awaited(UnixStream::from_std(ours)?), theirs))
}

/// Inside the namespace: makes the listener and hands it out. No copy of it stays inside.
pub(crate) fn hand_out(to: BorrowedFd<'_>) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, DOOR_PORT))?;
    handover::send(to, &[listener.as_fd()])
}

impl Awaited {
    /// The listener; none when the namespace did not come to be, which the launcher reports.
    pub(crate) async fn listener(self) -> std::io::Result<Option<tokio::net::TcpListener>> {
        let fd = self
            .0
            .async_io(Interest::READABLE, || handover::receive(&self.0));
        let Some(fd) = fd.await?.pop() else {
            return Ok(None);
        };
        let listener = TcpListener::from(fd);
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener).map(Some)
    }
}
