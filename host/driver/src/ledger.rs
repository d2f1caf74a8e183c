//! A run's events: appended first, applied then.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flow::effect::Asking;
use flow::id::RunId;
use flow::money::{Reservation, Spend};
use flow::run::replay;
use flow::task::ChildCall;
use flow::{Event, Recorded, Run, apply};
use journal::{Effect, Journal, JournalError, Stored};

use crate::clock::{RunClock, now_ms};
use crate::context::{DriveError, Watcher};
use crate::house::House;
use crate::lease::Held;
use crate::models::Meter;
use crate::survey;

/// The one writer of one run.
///
/// It is the meter of the run as well: what is set aside for a model call is durable before the call is made.
pub(crate) struct Ledger {
    journal: Journal,
    state: Mutex<Run>,
    watcher: Arc<dyn Watcher>,
    clock: RunClock,
    /// Of a run that works on a task: its parent, whose money it spends.
    parent: Option<Arc<Ledger>>,
    held: Arc<Held>,
}

impl Ledger {
    /// Takes a run for writing.
    pub(crate) fn open(
        house: &House,
        run: &RunId,
        watcher: Arc<dyn Watcher>,
    ) -> Result<Ledger, DriveError> {
        // A lease for a run that is not there would be the only thing of it.
        load(&house.journal, run)?;
        Ledger::under(house, house.keeper.take(run)?, watcher)
    }

    /// Takes a run from whoever has it, who can then write no more.
    pub(crate) fn seize(
        house: &House,
        run: &RunId,
        watcher: Arc<dyn Watcher>,
    ) -> Result<Ledger, DriveError> {
        Ledger::under(house, house.keeper.seize(run)?, watcher)
    }

    fn under(house: &House, held: Held, watcher: Arc<dyn Watcher>) -> Result<Ledger, DriveError> {
        let (state, _) = load(&house.journal, held.lease().run())?;
        Ok(Ledger {
            journal: house.journal.clone(),
            clock: RunClock::new(now_ms(), state.last_at_ms),
            state: Mutex::new(state),
            watcher,
            parent: None,
            held: Arc::new(held),
        })
    }

    /// Who hears of its events.
    pub(crate) fn watcher(&self) -> Arc<dyn Watcher> {
        self.watcher.clone()
    }

    /// Money is set aside in the parent first.
    pub(crate) fn spending_of(mut self, parent: Arc<Ledger>) -> Ledger {
        self.parent = Some(parent);
        self
    }

    /// Records the first event of a new run.
    pub(crate) fn begin(house: &House, run: &RunId, event: &Event) -> Result<(), DriveError> {
        let held = house.keeper.take(run)?;
        let at_ms = now_ms();
        let opened = apply(
            None,
            &Recorded {
                number: 1,
                at_ms,
                event: event.clone(),
            },
        )?;
        let standing = survey::standing(&opened);
        house
            .journal
            .append(held.lease(), 0, at_ms, standing, &[body(event)])?;
        Ok(())
    }

    /// The lease under which all this is done.
    pub(crate) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// For what is disposable of the run, and of no other holder's.
    pub(crate) fn directory(&self, house: &House) -> PathBuf {
        let token = self.held.lease().token();
        house
            .run_dir(self.held.lease().run())
            .join(token.to_string())
    }

    /// Nobody takes the run over while what is returned is kept: asked before a ref is moved.
    pub(crate) fn effect(&self) -> Result<Effect, JournalError> {
        self.held.effect()
    }

    /// Waits until another moat has taken the run over.
    pub(crate) async fn lost(&self) -> DriveError {
        self.held.lost().await.into()
    }

    fn state(&self) -> MutexGuard<'_, Run> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state as of the last event.
    pub(crate) fn run(&self) -> Run {
        self.state().clone()
    }

    /// Makes events durable, all or none, and applies them. An event that the rules refuse is not written.
    #[tracing::instrument(name = "journal", level = "debug", skip_all)]
    pub(crate) fn append(&self, events: Vec<Event>) -> Result<(), DriveError> {
        self.append_to(self.state(), events)
    }

    fn append_to(
        &self,
        mut state: MutexGuard<'_, Run>,
        events: Vec<Event>,
    ) -> Result<(), DriveError> {
        let at_ms = self.clock.now_ms();
        let mut next = state.clone();
        let mut recorded = Vec::new();
        for event in events {
            let one = Recorded {
                number: next.events + 1,
                at_ms,
                event,
            };
            next = apply(Some(next), &one)?;
            recorded.push(one);
        }
        let bodies: Vec<Vec<u8>> = recorded.iter().map(|one| body(&one.event)).collect();
        let standing = survey::standing(&next);
        waiting(|| {
            self.journal
                .append(self.held.lease(), state.events, at_ms, standing, &bodies)
        })?;
        *state = next;
        drop(state);
        recorded.iter().for_each(|one| self.watcher.event(one));
        Ok(())
    }
}

impl Meter for Ledger {
    fn remaining(&self) -> Reservation {
        let own = self.state().remaining();
        let Some(parent) = &self.parent else {
            return own;
        };
        let all = parent.remaining();
        Reservation {
            money: own.money.min(all.money),
            tokens: own.tokens.min(all.tokens),
        }
    }

    fn reserve(
        &self,
        alias: &str,
        model: &str,
        wanted: Reservation,
        asking: Option<Asking>,
    ) -> Result<u64, String> {
        self.reserve_for(None, alias, model, wanted, asking)
    }

    fn settle(&self, call: u64, spend: Spend) -> Result<(), String> {
        self.append(vec![Event::Settled { call, spend }])
            .map_err(|error| error.to_string())?;
        match &self.parent {
            Some(parent) => parent.settle_for(&self.child_call(call), spend),
            None => Ok(()),
        }
    }
}

impl Ledger {
    fn child_call(&self, call: u64) -> ChildCall {
        let run = self.state().opened.run.clone();
        ChildCall { run, call }
    }

    /// Sets something aside, in the parent first: what a crash leaves between the two is settled when the parent is driven again.
    fn reserve_for(
        &self,
        of: Option<ChildCall>,
        alias: &str,
        model: &str,
        wanted: Reservation,
        asking: Option<Asking>,
    ) -> Result<u64, String> {
        // Held until it is durable: of two calls at once, the second has the next number and what is then left.
        let state = self.state();
        let call = state.calls + 1;
        let theirs = ChildCall {
            run: state.opened.run.clone(),
            call,
        };
        if let Some(parent) = &self.parent {
            parent.reserve_for(Some(theirs.clone()), alias, model, wanted, asking)?;
        }
        let event = Event::Reserved {
            call,
            alias: alias.to_owned(),
            model: model.to_owned(),
            reservation: wanted,
            asking,
            of,
        };
        let reserved = self.append_to(state, vec![event]);
        reserved.map(|()| call).map_err(|error| {
            if let Some(parent) = &self.parent
                && let Err(error) = parent.settle_for(&theirs, Spend::default())
            {
                tracing::warn!(error, "money stays set aside for a call that was not made");
            }
            error.to_string()
        })
    }

    fn settle_for(&self, of: &ChildCall, spend: Spend) -> Result<(), String> {
        let state = self.state();
        let call = state.lent.iter().find(|(_, lent)| *lent == of);
        let Some(call) = call.map(|(call, _)| *call) else {
            return Err(format!(
                "call {} of run {} was not reserved",
                of.call, of.run
            ));
        };
        self.append_to(state, vec![Event::Settled { call, spend }])
            .map_err(|error| error.to_string())
    }
}

/// Lets the runtime go on with other tasks meanwhile: theirs are the appends that become one transaction with this one.
pub(crate) fn waiting<T>(wait: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(wait)
        }
        _ => wait(),
    }
}

fn body(event: &Event) -> Vec<u8> {
    // Events hold text, numbers and lists: they always have a JSON form.
    serde_json::to_vec(event).unwrap_or_default()
}

/// Reads a run without taking it.
pub(crate) fn load(journal: &Journal, run: &RunId) -> Result<(Run, Vec<Recorded>), DriveError> {
    let read = |stored: Stored| {
        let number = stored.number;
        let event = serde_json::from_slice(&stored.body)
            .map_err(|error| DriveError::Unknown { number, error })?;
        Ok(Recorded {
            number,
            at_ms: stored.at_ms,
            event,
        })
    };
    let events = journal
        .read(run, 0)?
        .into_iter()
        .map(read)
        .collect::<Result<Vec<_>, DriveError>>()?;
    let state = replay(&events)?.ok_or_else(|| DriveError::NoSuchRun {
        run: run.to_string(),
    })?;
    Ok((state, events))
}
