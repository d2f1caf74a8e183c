//! A command's door: a listening socket on the loopback of its own network namespace, held by the host alone.
//!
//! A socket keeps the namespace in which it was made. So the host accepts straight from it what the command connects to, and no interface,
//! route or shared directory leads out of the namespace.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Where the door is seen inside, on 127.0.0.1: the namespace is empty when it is made, so the number is always free.
pub const DOOR_PORT: u16 = 3128;

/// The host's end, over which the listener comes once the namespace is there.
#[derive(Debug)]
pub(crate) struct Awaited(UnixStream);

/// Both ends: the launcher's is the plain one.
pub(crate) fn pair() -> std::io::Result<(Awaited, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let ours = std::os::unix::net::UnixStream::from(ours);
    ours.set_nonblocking(true)?;
    Ok((Awaited(UnixStream::from_std(ours)?), theirs))
}

/// Inside the namespace: makes the listener and hands it out. No copy of it stays inside.
pub(crate) fn hand_out(to: BorrowedFd<'_>) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, DOOR_PORT))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [listener.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(std::io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    rustix::net::sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

impl Awaited {
    /// The listener; none when the namespace did not come to be, which the launcher reports.
    pub(crate) async fn listener(self) -> std::io::Result<Option<tokio::net::TcpListener>> {
        let fd = self.0.async_io(Interest::READABLE, || receive(&self.0));
        let Some(fd) = fd.await? else {
            return Ok(None);
        };
        let listener = TcpListener::from(fd);
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener).map(Some)
    }
}

fn receive(from: &UnixStream) -> std::io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}
