//! The reader of loose objects as libgit2 takes it: an object backend that answers `read` and `read_header`, and nothing else.
#![expect(
    unsafe_code,
    reason = "git2 has no safe way to add an object backend; what each block relies on stands beside it"
)]

use std::ffi::{c_int, c_void};
use std::ptr;

use git2::{Binding as _, Error, ObjectType, Repository};
use libgit2_sys as raw;

use crate::loose::{Fault, Stores};

/// The first field is libgit2's, so that a pointer to one is a pointer to the other.
#[repr(C)]
struct Backend {
    head: raw::git_odb_backend,
    stores: Stores,
}

/// That of packs, so that all of them are asked before the loose objects as far as may be, and libgit2's own reader of loose objects last.
const PRIORITY: c_int = 2;

/// From now on the loose objects of this repository are read by [`crate::loose`].
pub(crate) fn install(repo: &Repository, stores: Stores) -> Result<(), Error> {
    let odb = repo.odb()?;
    let head = raw::git_odb_backend {
        version: raw::GIT_ODB_BACKEND_VERSION,
        odb: ptr::null_mut(),
        read: Some(read),
        read_prefix: None,
        read_header: Some(read_header),
        write: None,
        writestream: None,
        readstream: None,
        exists: None,
        exists_prefix: None,
        refresh: None,
        foreach: None,
        writepack: None,
        writemidx: None,
        freshen: None,
        free: Some(free),
    };
    let backend = Box::into_raw(Box::new(Backend { head, stores }));
    // SAFETY: `odb` lives through the call; the backend is valid, and from a success on libgit2's, which frees it through `free`.
    let code = unsafe { raw::git_odb_add_backend(odb.raw(), backend.cast(), PRIORITY) };
    if code < 0 {
        // SAFETY: libgit2 did not take it, so nobody else holds the pointer that the box was made into.
        drop(unsafe { Box::from_raw(backend) });
        return Err(Error::last_error(code));
    }
    Ok(())
}

extern "C" fn read(
    data: *mut *mut c_void,
    length: *mut usize,
    kind: *mut raw::git_object_t,
    backend: *mut raw::git_odb_backend,
    id: *const raw::git_oid,
) -> c_int {
    // SAFETY: libgit2 calls this with the backend of `install` and an id that lives through the call.
    let (stores, hex) = unsafe { (stores(backend), hex(id)) };
    let loose = match stores.find(&hex) {
        Ok(Some(loose)) => loose,
        Ok(None) => return raw::GIT_PASSTHROUGH,
        Err(fault) => return refuse(&fault, &hex),
    };
    let (size, is) = (loose.size, loose.kind);
    // A NUL after the content, as libgit2's own readers leave one.
    let Some(room) = size.checked_add(1) else {
        return refuse(&Fault::Lies, &hex);
    };
    // SAFETY: any length is allowed; the backend is not looked at.
    let bytes = unsafe { raw::git_odb_backend_data_alloc(backend, room) };
    if bytes.is_null() {
        return raw::GIT_ERROR;
    }
    // SAFETY: `bytes` are `room` bytes that nobody else knows of, written before they are read.
    let out = unsafe {
        ptr::write_bytes(bytes.cast::<u8>(), 0, room);
        std::slice::from_raw_parts_mut(bytes.cast::<u8>(), room)
    };
    if let Err(fault) = loose.content(out) {
        // SAFETY: allocated above, and given to nobody.
        unsafe { raw::git_odb_backend_data_free(backend, bytes) };
        return refuse(&fault, &hex);
    }
    // SAFETY: libgit2 passes three places to write to.
    unsafe {
        *data = bytes;
        *length = size;
        *kind = raw_kind(is);
    }
    0
}

extern "C" fn read_header(
    length: *mut usize,
    kind: *mut raw::git_object_t,
    backend: *mut raw::git_odb_backend,
    id: *const raw::git_oid,
) -> c_int {
    // SAFETY: as in `read`.
    let (stores, hex) = unsafe { (stores(backend), hex(id)) };
    match stores.find(&hex) {
        Ok(Some(loose)) => {
            // SAFETY: libgit2 passes two places to write to.
            unsafe {
                *length = loose.size;
                *kind = raw_kind(loose.kind);
            }
            0
        }
        Ok(None) => raw::GIT_ENOTFOUND,
        Err(fault) => refuse(&fault, &hex),
    }
}

extern "C" fn free(backend: *mut raw::git_odb_backend) {
    // SAFETY: the pointer that `install` made of a box; libgit2 calls this once, at the end.
    drop(unsafe { Box::from_raw(backend.cast::<Backend>()) });
}

/// # Safety
/// `backend` is the one of `install`, and not freed.
unsafe fn stores<'a>(backend: *mut raw::git_odb_backend) -> &'a Stores {
    // SAFETY: the caller's; `Backend` begins with what libgit2 points to.
    unsafe { &(*backend.cast::<Backend>()).stores }
}

/// # Safety
/// `id` points to an id.
unsafe fn hex(id: *const raw::git_oid) -> String {
    // SAFETY: the caller's.
    let bytes = unsafe { (*id).id };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn raw_kind(kind: ObjectType) -> raw::git_object_t {
    kind.raw()
}

/// Leaves a message where libgit2's callers look for it.
fn refuse(fault: &Fault, hex: &str) -> c_int {
    let message = fault.message(hex);
    // SAFETY: a C string that lives through the call, which copies it.
    unsafe { raw::git_error_set_str(raw::GIT_ERROR_ODB as c_int, message.as_ptr()) };
    raw::GIT_ERROR
}
