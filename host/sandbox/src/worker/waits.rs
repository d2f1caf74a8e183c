//! Where a guest waits, and what goes on meanwhile: its requests, on its own thread and nowhere else.
//!
//! So they are asked at the same places and in the same order each time: a guest that is taken up goes the way that it went. What it waits for beside them, time
//! and streams of files, comes when it comes.

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::sync::io::poll::{self, Pollable};
use wasmtime_wasi::p2::bindings::sync::io::streams::{self, InputStream, OutputStream};
use wasmtime_wasi::p2::{StreamError, StreamResult};
use wasmtime_wasi_io::bindings::wasi::io::poll::{
    Host as AsyncPoll, HostPollable as AsyncPollable,
};
use wasmtime_wasi_io::bindings::wasi::io::streams::{
    HostInputStream as AsyncInput, HostOutputStream as AsyncOutput,
};

use crate::worker::link::Guest;

/// What one call has begun beside its guest. It goes on only while the guest waits, and ends with the call.
pub(crate) struct Tasks(tokio::runtime::Runtime);

impl Tasks {
    /// Nothing yet.
    pub(crate) fn new() -> std::io::Result<Tasks> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            // The guest is looked at when there is nothing left to do: how many requests are asked while it waits does not depend on how long each of them took.
            .event_interval(u32::MAX)
            .global_queue_interval(u32::MAX)
            .enable_time()
            .build()?;
        Ok(Tasks(runtime))
    }

    /// By which tasks are begun.
    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.0.handle().clone()
    }

    /// Has the guest wait. A task gets its turn also where what it waits for is there already: it may be doing nothing else.
    fn wait<F: Future>(&self, awaited: F) -> F::Output {
        self.0.block_on(async {
            tokio::task::yield_now().await;
            awaited.await
        })
    }

    /// Gives up what is not done.
    pub(crate) fn end(self) {
        self.0.shutdown_background();
    }
}

/// Links `wasi:io/poll` and `wasi:io/streams`.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    poll::add_to_linker::<Guest, Waits<'static>>(linker, waits)?;
    streams::add_to_linker::<Guest, Waits<'static>>(linker, waits)
}

/// A guest's resources, and what goes on while it waits for them.
struct Waits<'a> {
    table: &'a mut ResourceTable,
    tasks: &'a Tasks,
}

impl HasData for Waits<'static> {
    type Data<'a> = Waits<'a>;
}

fn waits(guest: &mut Guest) -> Waits<'_> {
    Waits {
        table: &mut guest.table,
        tasks: &guest.tasks,
    }
}

impl poll::Host for Waits<'_> {
    fn poll(&mut self, pollables: Vec<Resource<Pollable>>) -> wasmtime::Result<Vec<u32>> {
        self.tasks.wait(AsyncPoll::poll(self.table, pollables))
    }
}

impl poll::HostPollable for Waits<'_> {
    fn ready(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<bool> {
        self.tasks.wait(AsyncPollable::ready(self.table, pollable))
    }

    fn block(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<()> {
        self.tasks.wait(AsyncPollable::block(self.table, pollable))
    }

    fn drop(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<()> {
        AsyncPollable::drop(self.table, pollable)
    }
}

impl streams::Host for Waits<'_> {
    fn convert_stream_error(
        &mut self,
        error: StreamError,
    ) -> wasmtime::Result<streams::StreamError> {
        streams::Host::convert_stream_error(self.table, error)
    }
}

impl streams::HostInputStream for Waits<'_> {
    fn read(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<Vec<u8>> {
        AsyncInput::read(self.table, stream, len)
    }

    fn blocking_read(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<Vec<u8>> {
        let read = AsyncInput::blocking_read(self.table, stream, len);
        self.tasks.wait(read)
    }

    fn skip(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<u64> {
        AsyncInput::skip(self.table, stream, len)
    }

    fn blocking_skip(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<u64> {
        let skip = AsyncInput::blocking_skip(self.table, stream, len);
        self.tasks.wait(skip)
    }

    fn subscribe(&mut self, stream: Resource<InputStream>) -> wasmtime::Result<Resource<Pollable>> {
        AsyncInput::subscribe(self.table, stream)
    }

    fn drop(&mut self, stream: Resource<InputStream>) -> wasmtime::Result<()> {
        self.tasks.wait(AsyncInput::drop(self.table, stream))
    }
}

impl streams::HostOutputStream for Waits<'_> {
    fn check_write(&mut self, stream: Resource<OutputStream>) -> StreamResult<u64> {
        AsyncOutput::check_write(self.table, stream)
    }

    fn write(&mut self, stream: Resource<OutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        AsyncOutput::write(self.table, stream, bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<OutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        let write = AsyncOutput::blocking_write_and_flush(self.table, stream, bytes);
        self.tasks.wait(write)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<OutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        let write = AsyncOutput::blocking_write_zeroes_and_flush(self.table, stream, len);
        self.tasks.wait(write)
    }

    fn subscribe(
        &mut self,
        stream: Resource<OutputStream>,
    ) -> wasmtime::Result<Resource<Pollable>> {
        AsyncOutput::subscribe(self.table, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<OutputStream>, len: u64) -> StreamResult<()> {
        AsyncOutput::write_zeroes(self.table, stream, len)
    }

    fn flush(&mut self, stream: Resource<OutputStream>) -> StreamResult<()> {
        AsyncOutput::flush(self.table, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<OutputStream>) -> StreamResult<()> {
        let flush = AsyncOutput::blocking_flush(self.table, stream);
        self.tasks.wait(flush)
    }

    fn splice(
        &mut self,
        to: Resource<OutputStream>,
        from: Resource<InputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        AsyncOutput::splice(self.table, to, from, len)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<OutputStream>,
        from: Resource<InputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        let splice = AsyncOutput::blocking_splice(self.table, to, from, len);
        self.tasks.wait(splice)
    }

    fn drop(&mut self, stream: Resource<OutputStream>) -> wasmtime::Result<()> {
        self.tasks.wait(AsyncOutput::drop(self.table, stream))
    }
}
