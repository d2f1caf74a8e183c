//! Skills' accounts of what they do outside: one for each skill in each repository, read from the events of all its runs.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flow::Event;
use flow::effect::{Asking, Effect};
use flow::id::{RunId, SkillName};
use flow::step::Step;
use journal::{Journal, JournalError};
use sandbox::message::effects::{self, EffectsError, Standing};

use crate::house::{House, private_dir};
use crate::keys::Keys;
use crate::ledger::{Ledger, waiting};

/// Keys of one account: every one of them is read before each entry.
const KEYS_MAX: usize = 1000;

/// How often an account that somebody else has is asked for, and how often it is told who that is.
const AGAIN: Duration = Duration::from_millis(10);
const TELL: Duration = Duration::from_secs(30);

/// How every event of an account begins in the journal.
const BEGINNING: &[u8] = b"{\"type\":\"effect-";

/// An effect that was intended and neither confirmed nor withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconfirmed {
    /// Whose account.
    pub skill: SkillName,
    /// The skill's name for it; untrusted.
    pub key: String,
    /// What it is; untrusted.
    pub what: String,
    /// The run that intended it.
    pub run: RunId,
}

/// One entry as its events leave it.
struct Entry {
    what: String,
    run: RunId,
    asking: Asking,
    outcome: Option<String>,
}

type Account = BTreeMap<(SkillName, String), Entry>;

/// Reads the accounts of a repository.
fn read(journal: &Journal, repository: &str) -> Result<Account, JournalError> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    journal.each(0, &mut |placed| {
        if placed.body.starts_with(BEGINNING) {
            found.push((placed.run.to_owned(), placed.body.to_vec()));
        }
    })?;
    let mut account = Account::new();
    let mut is_here: BTreeMap<String, Option<RunId>> = BTreeMap::new();
    for (run, body) in found {
        if !is_here.contains_key(&run) {
            let id = of_repository(journal, &run, repository)?;
            is_here.insert(run.clone(), id);
        }
        // Events of a newer moat are not known here, and mean nothing to an account of this one.
        if let (Some(Some(run)), Ok(event)) = (is_here.get(&run), serde_json::from_slice(&body)) {
            enter(&mut account, run, event);
        }
    }
    Ok(account)
}

/// The run, if it works on this repository.
fn of_repository(
    journal: &Journal,
    run: &str,
    repository: &str,
) -> Result<Option<RunId>, JournalError> {
    let Ok(run) = run.parse::<RunId>() else {
        return Ok(None);
    };
    let events = journal.read(&run, 0)?;
    let first = events
        .first()
        .map(|first| serde_json::from_slice(&first.body));
    Ok(match first {
        Some(Ok(Event::Opened(opened))) if opened.repository == repository => Some(run),
        _ => None,
    })
}

fn enter(account: &mut Account, run: &RunId, event: Event) {
    match event {
        Event::EffectIntended { effect, asking, .. } => {
            let entry = Entry {
                what: effect.what,
                run: run.clone(),
                asking,
                outcome: None,
            };
            account.insert((effect.skill, effect.key), entry);
        }
        Event::EffectConfirmed {
            skill,
            key,
            outcome,
        } => {
            if let Some(entry) = account.get_mut(&(skill, key)) {
                entry.outcome = Some(outcome);
            }
        }
        Event::EffectWithdrawn { skill, key } => {
            account.remove(&(skill, key));
        }
        _ => {}
    }
}

/// What skills began in a repository and did not say to have finished, for whoever comes next.
///
/// # Errors
/// [`JournalError`].
pub fn unconfirmed(journal: &Journal, repository: &str) -> Result<Vec<Unconfirmed>, JournalError> {
    let account = read(journal, repository)?;
    let open = account
        .into_iter()
        .filter(|(_, entry)| entry.outcome.is_none());
    let told = open.map(|((skill, key), entry)| Unconfirmed {
        skill,
        key,
        what: entry.what,
        run: entry.run,
    });
    Ok(told.collect())
}

/// The account of the skill of one step.
pub struct StepAccount {
    house: Arc<House>,
    ledger: Arc<Ledger>,
    skill: SkillName,
    step: Step,
    keys: Keys,
}

impl StepAccount {
    pub(crate) fn new(
        house: Arc<House>,
        ledger: Arc<Ledger>,
        skill: SkillName,
        step: Step,
        keys: Keys,
    ) -> StepAccount {
        StepAccount {
            house,
            ledger,
            skill,
            step,
            keys,
        }
    }

    pub(crate) async fn intend(
        &self,
        key: String,
        what: String,
        number: u64,
    ) -> Result<Standing, EffectsError> {
        let (_one_at_a_time, own) = self.own().await?;
        let asking = self.keys.asking(number, 1).ok_or_else(none)?;
        match own.get(&key) {
            Some(Entry {
                outcome: Some(outcome),
                ..
            }) => return Ok(Standing::Confirmed(outcome.clone())),
            // This very call, whose answer was lost.
            Some(entry) if entry.asking == asking && entry.run == self.run() => {
                return Ok(Standing::Fresh);
            }
            Some(entry) => return Ok(Standing::Unconfirmed(entry.what.clone())),
            None if own.len() >= KEYS_MAX => {
                return Err(EffectsError::Invalid(format!(
                    "an account has at most {KEYS_MAX} keys"
                )));
            }
            None => {}
        }
        let effect = Effect {
            skill: self.skill.clone(),
            key,
            what,
        };
        let step = self.step.clone();
        self.append(Event::EffectIntended {
            step,
            effect,
            asking,
        })?;
        Ok(Standing::Fresh)
    }

    pub(crate) async fn confirm(&self, key: String, outcome: String) -> Result<(), EffectsError> {
        let (_one_at_a_time, own) = self.own().await?;
        match own.get(&key) {
            None => return Err(EffectsError::NotIntended),
            // Once more, as after an answer that was lost: the first word holds.
            Some(entry) if entry.outcome.is_some() => return Ok(()),
            Some(_) => {}
        }
        let skill = self.skill.clone();
        self.append(Event::EffectConfirmed {
            skill,
            key,
            outcome,
        })
    }

    pub(crate) async fn withdraw(&self, key: String) -> Result<(), EffectsError> {
        let (_one_at_a_time, own) = self.own().await?;
        match own.get(&key) {
            Some(entry) if entry.outcome.is_some() => Err(EffectsError::AlreadyConfirmed),
            Some(_) => {
                let skill = self.skill.clone();
                self.append(Event::EffectWithdrawn { skill, key })
            }
            // It did not happen, as before.
            None => Ok(()),
        }
    }

    pub(crate) async fn all(&self) -> Result<Vec<effects::Effect>, EffectsError> {
        let (_one_at_a_time, own) = self.own().await?;
        let told = own.into_iter().map(|(key, entry)| effects::Effect {
            key,
            standing: match entry.outcome {
                Some(outcome) => Standing::Confirmed(outcome),
                None => Standing::Unconfirmed(entry.what.clone()),
            },
            what: entry.what,
        });
        Ok(told.collect())
    }

    fn run(&self) -> RunId {
        self.ledger.run().opened.run
    }

    /// The account as it stands, and the right to be the only one who adds to it: of two runs that intend the same, one is the first.
    async fn own(&self) -> Result<(File, BTreeMap<String, Entry>), EffectsError> {
        let open = || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
            let directory = self.house.accounts_dir();
            private_dir(&directory)?;
            let path = directory.join("lock");
            Ok(File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)?)
        };
        let file = open().map_err(|error| failed(&*error))?;
        locked(&file).await.map_err(|error| failed(&error))?;
        let repository = self.ledger.run().opened.repository;
        let read = || read(&self.house.journal, &repository);
        let all = waiting(read).map_err(|error| failed(&error))?;
        let own = all
            .into_iter()
            .filter(|((skill, _), _)| *skill == self.skill)
            .map(|((_, key), entry)| (key, entry));
        Ok((file, own.collect()))
    }

    fn append(&self, event: Event) -> Result<(), EffectsError> {
        self.ledger
            .append(vec![event])
            .map_err(|error| failed(&error))
    }
}

/// Waits for it without an end: to give up is to answer the skill, and that answer is kept. As a task, so that whoever ends the call or the run does not wait along.
async fn locked(file: &File) -> std::io::Result<()> {
    let mut told = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        if told.elapsed() >= TELL {
            let by = locks::of_file(file).map_or("another process".to_owned(), |by| by.to_string());
            tracing::warn!(%by, "the account of effects is kept, and waited for");
            told = Instant::now();
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A call by hand belongs to no run.
pub(crate) fn none() -> EffectsError {
    EffectsError::Unavailable("the skill is not called by a run".into())
}

/// The log has why; the guest is told that it was not for what it asked.
fn failed(error: &dyn std::fmt::Display) -> EffectsError {
    tracing::error!(%error, "a skill's account cannot be kept");
    EffectsError::Unavailable("the host could not keep it; its log says why".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[tokio::test]
    async fn an_account_that_somebody_has_is_waited_for_and_nobody_has_to_wait() {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let mut options = File::options();
            let path = directory.path().join("lock");
            options.create(true).append(true).open(path).unwrap()
        };
        let (theirs, ours) = (open(), open());
        theirs.lock().unwrap();
        let soon = Duration::from_millis(100);
        // Whoever ends the call is heard at once.
        tokio::time::timeout(soon, locked(&ours)).await.unwrap_err();
        assert!(matches!(
            ours.try_lock().unwrap_err(),
            TryLockError::WouldBlock
        ));
        let (waited, ()) = tokio::join!(locked(&ours), async {
            tokio::time::sleep(soon).await;
            drop(theirs);
        });
        waited.unwrap();
    }
}
