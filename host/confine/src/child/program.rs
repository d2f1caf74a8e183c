//! The program's own process: it gives up what it can ahead, waits for what it is to be, gives up the rest, and executes.

use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};

use crate::child::{At as _, Failed, Reporter, restrict, sys};
use crate::handover;
use crate::specification::{Specification, Status};

/// Never returns. `inner` brings the specification and the descriptors once the file system stands.
pub(crate) fn become_program(inner: OwnedFd, mut reporter: Reporter) -> ! {
    if let Err(failed) = restrict::ahead() {
        reporter.failed(&failed);
        sys::exit(126)
    }
    match handover::receive(&inner).at("handover") {
        // Init is gone.
        Ok(given) if given.is_empty() => sys::exit(126),
        given => match given.and_then(|given| execute(given, &mut reporter)) {
            Ok(never) => match never {},
            Err(failed) => {
                reporter.failed(&failed);
                sys::exit(126)
            }
        },
    }
}

fn execute(
    mut given: Vec<OwnedFd>,
    reporter: &mut Reporter,
) -> Result<std::convert::Infallible, Failed> {
    let specification = Specification::read(given.remove(0)).at("specification")?;
    let arranged = arrange(given, reporter).at("descriptors")?;
    // The old number is closed already.
    std::mem::forget(std::mem::replace(reporter, arranged));
    // After each of these steps less is possible. What is not known to run is not run.
    let level = restrict::rest(&specification)?;
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

/// Puts what was given at 0, 1, 2, 3, … and closes all else but the reporter, which the exec closes.
fn arrange(given: Vec<OwnedFd>, reporter: &Reporter) -> std::io::Result<Reporter> {
    let count = given.len() as RawFd;
    let given: Vec<RawFd> = given.into_iter().map(OwnedFd::into_raw_fd).collect();
    // Out of the way first: the numbers may overlap with their destinations.
    let high = 32 + count;
    let status = sys::dup_above(reporter.number(), high)?;
    let copies = given
        .iter()
        .map(|fd| sys::dup_above(*fd, high))
        .collect::<std::io::Result<Vec<_>>>()?;
    for (at, copy) in copies.iter().enumerate() {
        sys::dup2(*copy, at as RawFd)?;
    }
    if status > count {
        sys::close_range(count as u32, status as u32 - 1)?;
    }
    sys::close_range(status as u32 + 1, u32::MAX)?;
    #[expect(
        unsafe_code,
        reason = "the number was made above and is owned by nobody else"
    )]
    // SAFETY: `status` is open and this is its only owner.
    let status = unsafe { OwnedFd::from_raw_fd(status) };
    Ok(Reporter::new(status))
}
