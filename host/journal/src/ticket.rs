//! An answer of the writer that is not there yet: waited for by a thread, or awaited by a task.

use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::JournalError;

/// What a write came to, once it is durable or refused. What was asked for is done also when this is dropped.
#[derive(Debug)]
pub struct Ticket<T>(Arc<Slot<T>>);

#[derive(Debug)]
pub(crate) struct Slot<T> {
    state: Mutex<State<T>>,
    told: Condvar,
}

#[derive(Debug)]
enum State<T> {
    Waiting(Option<Waker>),
    Done(Result<T, JournalError>),
    Taken,
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Teller<T>(Arc<Slot<T>>);

pub(crate) fn pair<T>() -> (Teller<T>, Ticket<T>) {
    let slot = Arc::new(Slot {
        state: Mutex::new(State::Waiting(None)),
        told: Condvar::new(),
    });
    (Teller(slot.clone()), Ticket(slot))
}

impl<T> Slot<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, answer: Result<T, JournalError>) {
        let mut state = self.state();
        if let State::Waiting(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Done(answer);
            drop(state);
            self.told.notify_one();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<T> Teller<T> {
    pub(crate) fn tell(&self, answer: Result<T, JournalError>) {
        self.0.tell(answer);
    }
}

impl<T> Drop for Teller<T> {
    /// Nobody waits for a writer that has ended.
    fn drop(&mut self) {
        self.0.tell(Err(JournalError::Closed));
    }
}

impl<T> Ticket<T> {
    /// Waits for it. A task that must not block awaits the ticket instead.
    ///
    /// # Errors
    /// Those of what was asked for.
    pub fn wait(self) -> Result<T, JournalError> {
        let mut state = self.0.state();
        loop {
            match std::mem::replace(&mut *state, State::Taken) {
                State::Done(answer) => return answer,
                waiting => *state = waiting,
            }
            state = self
                .0
                .told
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T, JournalError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(answer) => Poll::Ready(answer),
            State::Waiting(_) => {
                *state = State::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            State::Taken => Poll::Ready(Err(JournalError::Closed)),
        }
    }
}
