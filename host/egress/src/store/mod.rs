//! The stores behind `secrets.toml`: one file a source, and what was read kept for a while.

mod check;
mod command;
mod config;
mod env;
mod file;
mod keyring;
mod vault;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

pub use command::{OwnerCommand, ProgramFailed, Programs};
pub use config::{Config, Entry, FILE, KvVersion, SecretSource, TokenSource, Vault, owners_text};

use crate::secret::Secret;
use crate::secrets::{BoundSecret, SecretError, Secrets, Unavailable};

/// How long what was read is good. A store lives as long as one `moat` does, so no value outlives a run.
#[derive(Debug, Clone, Copy)]
struct Freshness {
    /// A value that is taken.
    taken: Duration,
    /// A value that a service refused: a guest that gets many refusals must not start a program or ask Vault for each.
    refused: Duration,
    /// A failure, for the same reason.
    failed: Duration,
}

const FRESHNESS: Freshness = Freshness {
    taken: Duration::from_secs(600),
    refused: Duration::from_secs(30),
    failed: Duration::from_secs(5),
};

/// Values of one name that are remembered for [`Secrets::known`]; a source that changes more often drops its oldest.
const KNOWN_MAX: usize = 8;

/// The secrets of a machine's `secrets.toml`.
#[derive(Debug)]
pub struct Stores {
    slots: BTreeMap<String, Slot>,
    vault: Option<Vault>,
    programs: Arc<dyn Programs>,
    known: Mutex<BTreeMap<String, VecDeque<Arc<BoundSecret>>>>,
    freshness: Freshness,
}

/// One name.
#[derive(Debug)]
struct Slot {
    entry: Entry,
    /// Held while it is read: whoever wants the same secret meanwhile waits for the same answer.
    reading: tokio::sync::Mutex<Option<Reading>>,
    refused: AtomicBool,
}

#[derive(Debug)]
struct Reading {
    at: Instant,
    outcome: Result<Arc<BoundSecret>, SecretError>,
}

impl Stores {
    /// Nothing is read yet: a secret is read when it is first wanted.
    pub fn new(config: Config, programs: Arc<dyn Programs>) -> Stores {
        let slots = config.secrets.into_iter().map(|(name, entry)| {
            let slot = Slot {
                entry,
                reading: tokio::sync::Mutex::new(None),
                refused: AtomicBool::new(false),
            };
            (name, slot)
        });
        Stores {
            slots: slots.collect(),
            vault: config.vault,
            programs,
            known: Mutex::default(),
            freshness: FRESHNESS,
        }
    }

    /// The names with where each comes from and may go to, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.slots
            .iter()
            .map(|(name, slot)| (name.as_str(), &slot.entry))
    }

    async fn read(&self, source: &SecretSource) -> Result<Secret, Unavailable> {
        match source {
            SecretSource::Env(name) => env::read(name),
            SecretSource::File(path) => file::read(path),
            SecretSource::Command(command) => command::read(self.programs.as_ref(), command).await,
            SecretSource::Keyring { service, account } => keyring::read(service, account),
            SecretSource::Vault { path, field, kv } => match &self.vault {
                Some(vault) => vault::read(vault, path, field, *kv).await,
                // `Config::parse` refuses this; a configuration that was put together otherwise may have it.
                None => Err(Unavailable::NoVault),
            },
        }
    }

    /// Gives a value its hosts, unless it is the one that is known already.
    fn bind(&self, name: &str, entry: &Entry, secret: Secret) -> Arc<BoundSecret> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let values = known.entry(name.to_owned()).or_default();
        if let Some(same) = values.iter().find(|one| one.secret.is_same(&secret)) {
            return same.clone();
        }
        let bound = Arc::new(BoundSecret {
            secret,
            hosts: entry.hosts.clone(),
        });
        if values.len() == KNOWN_MAX {
            values.pop_front();
        }
        values.push_back(bound.clone());
        bound
    }
}

impl Slot {
    fn is_fresh(&self, reading: &Reading, freshness: Freshness) -> bool {
        let good_for = match (&reading.outcome, self.refused.load(Ordering::Relaxed)) {
            (Err(_), _) => freshness.failed,
            (Ok(_), true) => freshness.refused,
            (Ok(_), false) => freshness.taken,
        };
        reading.at.elapsed() < good_for
    }
}

#[async_trait]
impl Secrets for Stores {
    async fn get(&self, name: &str) -> Result<Arc<BoundSecret>, SecretError> {
        let slot = self.slots.get(name).ok_or_else(|| SecretError::Unknown {
            name: name.to_owned(),
        })?;
        let mut reading = slot.reading.lock().await;
        if let Some(last) = reading
            .as_ref()
            .filter(|last| slot.is_fresh(last, self.freshness))
        {
            return last.outcome.clone();
        }
        slot.refused.store(false, Ordering::Relaxed);
        let outcome = match self.read(&slot.entry.source).await {
            Ok(secret) => Ok(self.bind(name, &slot.entry, secret)),
            Err(why) => Err(SecretError::Unavailable {
                name: name.to_owned(),
                why,
            }),
        };
        *reading = Some(Reading {
            at: Instant::now(),
            outcome: outcome.clone(),
        });
        outcome
    }

    fn refused(&self, name: &str) {
        if let Some(slot) = self.slots.get(name) {
            slot.refused.store(true, Ordering::Relaxed);
        }
    }

    fn known(&self) -> Vec<Arc<BoundSecret>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests;
