//! What a run has used and may still use: time, tokens and money.

use crate::effect::Asking;
use crate::money::{Reservation, Spend};
use crate::run::{Run, Stage};
use crate::task::{ChildCall, Standing};

impl Run {
    /// What is spent and set aside, together.
    pub fn committed(&self) -> Reservation {
        self.reserved.values().fold(
            Reservation {
                money: self.spend.money,
                tokens: self.spend.tokens,
            },
            |sum, one| Reservation {
                money: sum.money.plus(one.money),
                tokens: sum.tokens.saturating_add(one.tokens),
            },
        )
    }

    /// What is left of the budget for further model calls.
    pub fn remaining(&self) -> Reservation {
        let committed = self.committed();
        Reservation {
            money: self.budget.money.less(committed.money),
            tokens: self.budget.tokens.saturating_sub(committed.tokens),
        }
    }

    /// Milliseconds of work that the run may still do.
    pub fn remaining_ms(&self) -> u64 {
        self.budget.active_ms.saturating_sub(self.active_ms)
    }

    pub(crate) fn budget_used(&self) -> Option<String> {
        // A merge that was verified is finished, whatever the clock says: stopping there would waste the work.
        if matches!(self.stage, Stage::MoveBranch(_) | Stage::Deploy(_)) {
            return None;
        }
        // Runs of tasks have their own time; the parent's is looked at when none of them is under way.
        let is_under_way =
            |one: &crate::task::TaskState| matches!(one.standing, Standing::UnderWay { .. });
        if self.tasks.iter().any(is_under_way) {
            return None;
        }
        (self.remaining_ms() == 0).then(|| format!("time: {} s", self.budget.active_ms / 1000))
    }

    /// Sets money and tokens aside for a call, within what is left: nothing is spent that was not set aside.
    pub(crate) fn reserve(
        &mut self,
        call: u64,
        reservation: Reservation,
        asking: Option<Asking>,
        of: Option<&ChildCall>,
    ) -> Result<(), String> {
        match of {
            None if self.in_flight.is_none() => return Err("no step is under way".into()),
            Some(of) if self.under_way(&of.run).is_none() => {
                return Err(format!(
                    "run {} does not work on a task of this one",
                    of.run
                ));
            }
            Some(of) if self.lent.values().any(|lent| lent == of) => {
                return Err(format!("call {} of run {} has its money", of.call, of.run));
            }
            _ => {}
        }
        if call != self.calls + 1 {
            return Err(format!("call {} was expected", self.calls + 1));
        }
        // The provider was asked for this before, and charges for it once: what was set aside then is what is set aside now.
        let purpose = asking.map(|asking| (of.map(|of| of.run.clone()), asking));
        let open = &self.asked.open;
        let before = (purpose.as_ref())
            .and_then(|purpose| Some(*open.iter().find(|(_, one)| *one == purpose)?.0));
        if let Some(before) = before {
            self.asked.open.remove(&before);
            self.reserved.remove(&before);
            self.lent.remove(&before);
        }
        let left = self.remaining();
        if reservation.money > left.money || reservation.tokens > left.tokens {
            return Err("more is set aside than is left of the budget".into());
        }
        self.calls = call;
        self.reserved.insert(call, reservation);
        self.asked
            .open
            .extend(purpose.map(|purpose| (call, purpose)));
        self.lent.extend(of.map(|of| (call, of.clone())));
        Ok(())
    }

    /// Puts what a call really took in the place of what was set aside for it.
    pub(crate) fn settle(&mut self, call: u64, spend: &Spend) -> Result<(), String> {
        self.reserved
            .remove(&call)
            .ok_or_else(|| format!("call {call} was not reserved"))?;
        self.lent.remove(&call);
        // As for what is set aside: an answer that came and was lost is not charged for again.
        // One that was not made says nothing of those before it.
        let purpose = self.asked.open.remove(&call);
        let purpose = purpose.filter(|_| spend.calls > 0);
        let before = purpose.and_then(|purpose| self.asked.settled.insert(purpose, *spend));
        if let Some(before) = before {
            self.spend = self.spend.less(before);
        }
        self.spend = self.spend.plus(*spend);
        Ok(())
    }

    /// The same budget again, counted from what is used, and no more however often: a person has seen what the first came to.
    pub(crate) fn give_budget(&mut self) {
        let committed = self.committed();
        let first = self.opened.pipeline.budget;
        self.budget.active_ms = self.active_ms.saturating_add(first.active_ms);
        self.budget.tokens = committed.tokens.saturating_add(first.tokens);
        self.budget.money = committed.money.plus(first.money);
    }
}
