//! Descriptors over a socket: how a launcher that was started ahead is given what its program needs.

use std::io::{Error, IoSlice, IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// The most that one message takes (`SCM_MAX_FD`, unix(7)).
const FDS_MAX: usize = 253;

/// A socket for such messages, and both its ends.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
    let ends = rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None)?;
    Ok(ends)
}

/// Sends copies of descriptors in one message.
pub(crate) fn send(to: impl AsFd, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > FDS_MAX || !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Error::from_raw_os_error(libc::EMSGSIZE));
    }
    rustix::net::sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Sends a word without descriptors: the other side may go on.
pub(crate) fn nod(to: impl AsFd) -> Result<()> {
    rustix::net::send(to, &[0], SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for such a word. At the end of the stream there is none.
pub(crate) fn wait_for_nod(from: impl AsFd) -> Result<bool> {
    let (_, read) = rustix::net::recv(from, &mut [0; 1], RecvFlags::empty())?;
    Ok(read > 0)
}

/// Receives what one message brought, closed at the next exec; nothing at the end of the stream.
pub(crate) fn receive(from: impl AsFd) -> Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(fds)
}
