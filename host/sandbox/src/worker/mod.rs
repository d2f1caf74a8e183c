//! The worker: a confined process that compiles or runs one component and talks to the broker over descriptor 3.

mod engine;
mod limiter;
mod link;
mod run;
mod value;

use std::os::fd::FromRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use crate::message::{ToBroker, ToWorker, read_frame, write_frame};

pub(crate) use engine::identity;

/// The first argument of a process that is to become a worker.
pub(crate) const ASKED: &str = "\u{1}moat-worker";

/// Where the broker's mounts are seen.
pub(crate) const VIEW: &str = "/view";
pub(crate) const COMPONENT: &str = "/component.wasm";
pub(crate) const COMPILED: &str = "/component.cwasm";
pub(crate) const OUT: &str = "/out";

/// Becomes a worker when this process was started as one. Call it in `main` right after [`confine::enter_if_asked`].
pub fn enter_worker_if_asked() {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == ASKED)
    {
        let code = i32::from(serve().is_err());
        std::process::exit(code);
    }
}

/// The connection to the broker. One request is under way at any time.
#[derive(Clone)]
pub(crate) struct Broker(Arc<Mutex<UnixStream>>);

impl Broker {
    /// Asks for a host function and waits for its answer.
    pub(crate) fn ask(&self, call: &ToBroker) -> std::io::Result<serde_json::Value> {
        let mut stream = self
            .0
            .lock()
            .map_err(|_| std::io::Error::other("poisoned"))?;
        write_frame(&mut *stream, call)?;
        match read_frame(&mut *stream)? {
            Some(ToWorker::Answer(value)) => Ok(value),
            _ => Err(std::io::Error::other("the broker sent no answer")),
        }
    }

    fn tell(&self, message: &ToBroker) -> std::io::Result<()> {
        let mut stream = self
            .0
            .lock()
            .map_err(|_| std::io::Error::other("poisoned"))?;
        write_frame(&mut *stream, message)
    }

    fn listen(&self) -> std::io::Result<Option<ToWorker>> {
        let mut stream = self
            .0
            .lock()
            .map_err(|_| std::io::Error::other("poisoned"))?;
        read_frame(&mut *stream)
    }
}

fn serve() -> std::io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "the launcher puts the broker's socket at descriptor 3; nothing else owns it"
    )]
    // SAFETY: as above; this process has just begun.
    let stream = unsafe { UnixStream::from_raw_fd(3) };
    let broker = Broker(Arc::new(Mutex::new(stream)));
    while let Some(message) = broker.listen()? {
        match message {
            ToWorker::Compile => {
                let message = match run::compile() {
                    Ok(()) => ToBroker::Compiled,
                    Err(failure) => ToBroker::Done(Box::new(run::failed(failure))),
                };
                broker.tell(&message)?;
            }
            ToWorker::Run(request) => {
                let done = run::run(&broker, *request);
                broker.tell(&ToBroker::Done(Box::new(done)))?;
            }
            ToWorker::Answer(_) => {
                return Err(std::io::Error::other("an answer without a question"));
            }
        }
    }
    Ok(())
}
