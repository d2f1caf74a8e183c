//! Renames of directories that the file system does not do in one step: those of the base beneath a layer. For a guest they are like any other.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::{WasiFilesystemCtxView, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode as Code;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, Host, HostDescriptor, HostDirectoryEntryStream,
    OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult};

use crate::worker::link::Guest;

/// A name in a directory that the guest, or one of the functions here, has open.
#[derive(Clone, Copy)]
struct Place<'a> {
    directory: u32,
    path: &'a str,
}

/// Takes the place of the rename that is linked already.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance("wasi:filesystem/types@0.2.12")?.func_wrap(
        "[method]descriptor.rename-at",
        |mut store: StoreContextMut<'_, Guest>,
         (from, old, to, new): (Resource<Descriptor>, String, Resource<Descriptor>, String)| {
            let (old, new) = (
                Place {
                    directory: from.rep(),
                    path: &old,
                },
                Place {
                    directory: to.rep(),
                    path: &new,
                },
            );
            let files = &mut store.data_mut().filesystem();
            let renamed: Result<(), ErrorCode> = match rename(files, old, new) {
                Ok(()) => Ok(()),
                Err(error) => Err(files.convert_error_code(error)?),
            };
            Ok((renamed,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn rename(files: &mut WasiFilesystemCtxView<'_>, from: Place<'_>, to: Place<'_>) -> FsResult<()> {
    let (old, new) = (from.directory(), to.directory());
    match files.rename_at(old, from.path.to_owned(), new, to.path.to_owned()) {
        // The engine has no word of its own for EXDEV.
        Err(error) if matches!(error.downcast_ref(), Some(Code::Io | Code::CrossDevice)) => {
            move_directory(files, from, to, error)
        }
        other => other,
    }
}

/// Makes the directory anew, and moves what is in it: only directories are not renamed, files are. Everything goes the guest's own way, and so
/// no further than the guest itself could.
fn move_directory(
    files: &mut WasiFilesystemCtxView<'_>,
    from: Place<'_>,
    to: Place<'_>,
    refused: FsError,
) -> FsResult<()> {
    let Ok(source) = open(files, from) else {
        // A file that is on another file system.
        return Err(refused);
    };
    let moved = move_into(files, source.rep(), to);
    HostDescriptor::drop(files, source).map_err(FsError::trap)?;
    moved?;
    files.remove_directory_at(from.directory(), from.path.to_owned())
}

fn move_into(files: &mut WasiFilesystemCtxView<'_>, source: u32, to: Place<'_>) -> FsResult<()> {
    let create = |files: &mut WasiFilesystemCtxView<'_>| {
        files.create_directory_at(to.directory(), to.path.to_owned())
    };
    let remove = |files: &mut WasiFilesystemCtxView<'_>| {
        files.remove_directory_at(to.directory(), to.path.to_owned())
    };
    match create(files) {
        // An empty directory may be there, as for any rename.
        Err(error) if matches!(error.downcast_ref(), Some(Code::Exist)) => {
            remove(files)?;
            create(files)?;
        }
        other => other?,
    }
    let names = names(files, source)?;
    let target = open(files, to)?;
    let mut moved = Ok(());
    for (at, name) in names.iter().enumerate() {
        let place = |directory| Place {
            directory,
            path: name,
        };
        moved = rename(files, place(source), place(target.rep()));
        if moved.is_err() {
            if at == 0 {
                // On another file system after all: as if nothing had been tried.
                remove(files)?;
            }
            break;
        }
    }
    HostDescriptor::drop(files, target).map_err(FsError::trap)?;
    moved
}

fn open(files: &mut WasiFilesystemCtxView<'_>, place: Place<'_>) -> FsResult<Resource<Descriptor>> {
    files.open_at(
        place.directory(),
        PathFlags::empty(),
        place.path.to_owned(),
        OpenFlags::DIRECTORY,
        DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY,
    )
}

fn names(files: &mut WasiFilesystemCtxView<'_>, directory: u32) -> FsResult<Vec<String>> {
    let stream = files.read_directory(Resource::new_borrow(directory))?;
    let mut names = Vec::new();
    let listed = loop {
        match files.read_directory_entry(Resource::new_borrow(stream.rep())) {
            Ok(Some(entry)) => names.push(entry.name),
            Ok(None) => break Ok(names),
            Err(error) => break Err(error),
        }
    };
    HostDirectoryEntryStream::drop(files, stream).map_err(FsError::trap)?;
    listed
}

impl Place<'_> {
    fn directory(self) -> Resource<Descriptor> {
        Resource::new_borrow(self.directory)
    }
}
