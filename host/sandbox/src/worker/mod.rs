//! The worker: a confined process that compiles one component, or opens one and runs calls of it, and talks to the broker over descriptor 3.

mod clock;
mod engine;
mod http;
mod limiter;
mod link;
mod rename;
mod run;
mod value;
mod waits;

use std::io::{BufReader, Error, Write as _};
use std::os::fd::FromRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;

use crate::message::{HostCall, ToBroker, ToWorker, frame, read_frame};
use crate::patience::Patience;
use crate::recording::{Began, Times};
use crate::worker::clock::Clock;
use crate::worker::run::Opened;

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

/// What each host call of one call tells beside what it asks.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) clock: Clock,
    lanes: Arc<AtomicU32>,
}

impl Account {
    pub(crate) fn new(began: &Began, recorded: Times) -> Account {
        Account {
            clock: Clock::new(began, recorded),
            lanes: Arc::default(),
        }
    }

    /// Opens a lane: by the guest's own thread, so that they come in the same order each time.
    pub(crate) fn open_lane(&self) -> u32 {
        self.lanes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How many were opened.
    pub(crate) fn begun(&self) -> u32 {
        self.lanes.load(Ordering::Relaxed)
    }
}

/// The connection to the broker. One request is under way at any time.
#[derive(Clone)]
pub(crate) struct Broker(Arc<Mutex<Connection>>);

struct Connection {
    stream: BufReader<UnixStream>,
    patience: Patience,
}

impl Broker {
    /// Asks for a host function and waits for its answer.
    pub(crate) fn ask(&self, account: &Account, mut call: HostCall) -> std::io::Result<Value> {
        let Connection { stream, patience } = &mut *self.connection()?;
        call.time = account.clock.told();
        call.begun = account.begun();
        // In one write: two would wake the broker twice.
        stream.get_mut().write_all(&frame(&ToBroker::Call(call))?)?;
        patience.wait(stream.get_ref());
        match read_frame(stream)? {
            Some(ToWorker::Answer(value)) => Ok(value),
            _ => Err(Error::other("the broker sent no answer")),
        }
    }

    fn tell(&self, message: &ToBroker) -> std::io::Result<()> {
        let told = frame(message)?;
        self.connection()?.stream.get_mut().write_all(&told)
    }

    fn listen(&self) -> std::io::Result<Option<ToWorker>> {
        read_frame(&mut self.connection()?.stream)
    }

    fn connection(&self) -> std::io::Result<MutexGuard<'_, Connection>> {
        self.0.lock().map_err(|_| Error::other("poisoned"))
    }
}

fn serve() -> std::io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "the launcher puts the broker's socket at descriptor 3; nothing else owns it"
    )]
    // SAFETY: as above; this process has just begun.
    let stream = unsafe { UnixStream::from_raw_fd(3) };
    let broker = Broker(Arc::new(Mutex::new(Connection {
        stream: BufReader::new(stream),
        patience: Patience::new(),
    })));
    let mut opened = None;
    while let Some(message) = broker.listen()? {
        let told = match (message, &opened) {
            (ToWorker::Compile, _) => match run::compile() {
                Ok(()) => ToBroker::Compiled,
                Err(why) => ToBroker::Failed(why),
            },
            (ToWorker::Open(request), None) => match Opened::open(&broker, &request) {
                Ok(component) => {
                    opened = Some(component);
                    ToBroker::Opened
                }
                Err(error) => ToBroker::Failed(format!("{error:#}")),
            },
            (ToWorker::Run(request), Some(component)) => {
                ToBroker::Done(Box::new(component.run(*request)))
            }
            (ToWorker::Open(_), Some(_)) | (ToWorker::Run(_), None) | (ToWorker::Answer(_), _) => {
                return Err(Error::other("a message out of turn"));
            }
        };
        broker.tell(&told)?;
    }
    Ok(())
}
