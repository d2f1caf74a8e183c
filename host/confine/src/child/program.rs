//! The program's own process: it gives up what it can ahead, waits for what it is to be, gives up the rest, and executes.

use std::convert::Infallible;
use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};

use crate::child::{At as _, Failed, Reporter, restrict, sys};
use crate::handover;
use crate::specification::{Specification, Status};

/// Never returns. `inner` brings the specification and the descriptors, a word when the file system stands, and one when the host's is gone.
pub(crate) fn become_program(inner: OwnedFd, mut reporter: Reporter) -> ! {
    let given = restrict::ahead().and_then(|()| handover::receive(&inner).at("handover"));
    let failed = match given {
        // Init is gone.
        Ok(given) if given.is_empty() => sys::exit(126),
        Ok(given) => match execute(given, inner, &mut reporter) {
            Ok(never) => match never {},
            Err(failed) => failed,
        },
        Err(failed) => failed,
    };
    reporter.failed(&failed);
    sys::exit(126)
}

fn execute(
    mut given: Vec<OwnedFd>,
    inner: OwnedFd,
    reporter: &mut Reporter,
) -> Result<Infallible, Failed> {
    let specification = Specification::read(given.remove(0)).at("specification")?;
    let (arranged, inner) = arrange(given, reporter, inner).at("descriptors")?;
    // The old number is closed already.
    std::mem::forget(std::mem::replace(reporter, arranged));
    restrict::limits(&specification)?;
    wait(&inner)?;
    let level = restrict::files(&specification)?;
    wait(&inner)?;
    // What is not known to run is not run.
    reporter.tell(&Status::Running { level }).at("report")?;
    let error = sys::execute(
        &specification.program,
        &specification.args,
        &specification.env,
    );
    let _ = reporter.tell(&Status::Exec {
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
    });
    sys::exit(127)
}

fn wait(inner: &OwnedFd) -> Result<(), Failed> {
    if handover::wait_for_nod(inner).at("handover")? {
        return Ok(());
    }
    // Init has failed, and said at what.
    sys::exit(126)
}

/// Puts what was given at 0, 1, 2, 3, … and closes all else but two sockets, which the exec closes.
fn arrange(
    given: Vec<OwnedFd>,
    reporter: &Reporter,
    inner: OwnedFd,
) -> std::io::Result<(Reporter, OwnedFd)> {
    let count = given.len() as RawFd;
    let given: Vec<RawFd> = given.into_iter().map(OwnedFd::into_raw_fd).collect();
    // Out of the way first: the numbers may overlap with their destinations.
    let high = 32 + count;
    let status = sys::dup_above(reporter.number(), high)?;
    let inner = sys::dup_above(inner.into_raw_fd(), status + 1)?;
    let copies = given
        .iter()
        .map(|fd| sys::dup_above(*fd, high))
        .collect::<std::io::Result<Vec<_>>>()?;
    for (at, copy) in copies.iter().enumerate() {
        sys::dup2(*copy, at as RawFd)?;
    }
    for (first, next) in [
        (count, status),
        (status + 1, inner),
        (inner + 1, RawFd::MAX),
    ] {
        if first < next {
            sys::close_range(first as u32, next as u32 - 1)?;
        }
    }
    #[expect(
        unsafe_code,
        reason = "the numbers were made above and are owned by nobody else"
    )]
    // SAFETY: both are open and these are their only owners.
    let (status, inner) = unsafe { (OwnedFd::from_raw_fd(status), OwnedFd::from_raw_fd(inner)) };
    Ok((Reporter::new(status), inner))
}
