//! The door for commands: an HTTP proxy whose every request goes through [`Visit::send`], as a guest's does.
//!
//! A command is told by its environment to use it, and reaches nothing else. `CONNECT` is never a tunnel: TLS ends here, under an authority
//! that lives as long as the command, so that method and path are seen, credentials put in and answers looked through. No SOCKS, no upgrade,
//! no other protocol.

mod answer;
mod authority;
mod connection;
mod head;
mod refusal;
mod target;
mod told;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use capability::Denial;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::error::EgressError;
use crate::outbound::Visit;
use crate::proxy::authority::Authority;

pub use told::environment;

/// Connections of one command at one time; more wait until one of them ends.
const CONNECTIONS_MAX: usize = 64;

/// Different denials of one command that are told apart.
const DENIALS_MAX: usize = 256;

/// The proxy of one command.
pub struct Proxy(Arc<Inner>);

pub(crate) struct Inner {
    visit: Arc<Visit>,
    authority: Authority,
    /// Bytes of request bodies that may be in memory at one time: what the visit may send in all.
    bodies: Arc<Semaphore>,
    bodies_max: u32,
    denials: Mutex<BTreeMap<Denial, u32>>,
    /// Those that were not yet told by [`Proxy::news`].
    fresh: Mutex<Vec<Denial>>,
    came: Notify,
}

impl Proxy {
    /// Makes a proxy that asks through this visit: its grant, its budget, its account.
    ///
    /// # Errors
    /// [`EgressError::Setup`] when the machine has no randomness for a key.
    pub fn new(visit: Arc<Visit>) -> Result<Proxy, EgressError> {
        let sent = visit.grant().limits().sent_bytes;
        let bodies_max = u32::try_from(sent)
            .unwrap_or(u32::MAX)
            .min(wire::BODY_BYTES_MAX);
        Ok(Proxy(Arc::new(Inner {
            authority: Authority::new()?,
            bodies: Arc::new(Semaphore::new(bodies_max as usize)),
            bodies_max,
            denials: Mutex::default(),
            fresh: Mutex::default(),
            came: Notify::new(),
            visit,
        })))
    }

    /// The certificate that the command has to trust, as PEM. Its key never leaves this process.
    pub fn certificate(&self) -> &str {
        self.0.authority.certificate()
    }

    /// Serves whoever connects, for as long as it is polled.
    pub async fn serve(&self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        // Dropped with this future, and every connection with it.
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let inner = Arc::clone(&self.0);
                    connections.spawn(async move {
                        connection::serve(&inner, stream).await;
                        drop(place);
                    });
                }
                // Of one connection, or for want of descriptors: neither is helped by haste.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
            while connections.try_join_next().is_some() {}
        }
    }

    /// Waits until something was refused that had not been refused before, and gives it: each once, and to one who asks.
    pub async fn news(&self) -> Vec<Denial> {
        loop {
            let fresh = self.0.fresh.lock();
            let fresh = std::mem::take(&mut *fresh.unwrap_or_else(PoisonError::into_inner));
            if !fresh.is_empty() {
                return fresh;
            }
            self.0.came.notified().await;
        }
    }

    /// What was refused so far, and how often.
    pub fn denials(&self) -> Vec<(Denial, u32)> {
        let denials = self.0.denials.lock();
        let denials = denials.unwrap_or_else(PoisonError::into_inner);
        denials
            .iter()
            .map(|(denial, times)| (denial.clone(), *times))
            .collect()
    }
}

impl Inner {
    /// Notes a denial; beyond the bound new ones are counted together.
    pub(crate) fn deny(&self, denial: Denial) {
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        let denial = match denials.len() < DENIALS_MAX || denials.contains_key(&denial) {
            true => denial,
            false => Denial::new(
                denial.capability,
                "more of the kind",
                "as many lines as there are different ones",
            ),
        };
        let is_new = !denials.contains_key(&denial);
        if is_new {
            let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            fresh.push(denial.clone());
            self.came.notify_one();
        }
        let times = denials.entry(denial).or_insert(0);
        *times = times.saturating_add(1);
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy")
    }
}
