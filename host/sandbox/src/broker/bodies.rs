//! The open bodies of one call: read from the services, from what was read ahead, or, where the call was taken up again, from a second request.

use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest as _, Sha256};

use crate::message::http::{Head, HttpError, Piece, Request};
use crate::services::Services;

/// The next part of a body.
pub(crate) type Next = Result<Piece, HttpError>;

/// The open bodies of one call, by the lanes of their requests.
#[derive(Default)]
pub(crate) struct Bodies(BTreeMap<u64, Body>);

/// One open body.
struct Body {
    /// By which the services read it; none where its head is from the record.
    live: Option<u64>,
    /// What is to be given first.
    ahead: VecDeque<Next>,
    replayed: Option<Replayed>,
}

/// A body whose head was given from the record.
struct Replayed {
    /// Of its request.
    number: u64,
    /// What to send once more for the rest of it, where that may be.
    request: Option<Request>,
    status: u16,
    /// What was given of it.
    given_bytes: u64,
    given: Sha256,
}

impl Bodies {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn holds(&self, id: u64) -> bool {
        self.0.contains_key(&id)
    }

    /// Takes a body that the services opened.
    pub(crate) fn open(&mut self, id: u64, live: u64, ahead: Vec<Next>) {
        let body = Body {
            live: Some(live),
            ahead: ahead.into(),
            replayed: None,
        };
        self.0.insert(id, body);
    }

    /// Takes a body whose head is from the record, by the number of its request; `request` is what may be sent once more.
    pub(crate) fn reopen(
        &mut self,
        head: &Head,
        ahead: Vec<Next>,
        number: u64,
        request: Option<Request>,
    ) {
        let body = Body {
            live: None,
            ahead: ahead.into(),
            replayed: Some(Replayed {
                number,
                request,
                status: head.status,
                given_bytes: 0,
                given: Sha256::new(),
            }),
        };
        self.0.insert(head.id, body);
    }

    /// Notes a piece that was given from the record. Gives the number of its request and its length, where it was not read ahead.
    pub(crate) fn given(&mut self, id: u64, piece: &Next) -> Option<(u64, u64)> {
        let Ok(Piece::Bytes(bytes)) = piece else {
            self.0.remove(&id);
            return None;
        };
        let body = self.0.get_mut(&id)?;
        if body.ahead.pop_front().is_some() {
            return None;
        }
        let replayed = body.replayed.as_mut()?;
        replayed.given_bytes += bytes.len() as u64;
        replayed.given.update(bytes);
        Some((replayed.number, bytes.len() as u64))
    }

    /// Waits for what comes next. At its end, or at an error, the body is closed.
    pub(crate) async fn read(&mut self, services: &dyn Services, id: u64) -> Next {
        let piece = match self.0.get_mut(&id) {
            Some(body) => body.read(services).await,
            None => Err(HttpError::Invalid),
        };
        if !matches!(piece, Ok(Piece::Bytes(_))) {
            self.close(services, &[id]);
        }
        piece
    }

    /// Gives up those that the worker dropped; it cannot know which have ended by themselves.
    pub(crate) fn close(&mut self, services: &dyn Services, ids: &[u64]) {
        for id in ids {
            if let Some(Body {
                live: Some(live), ..
            }) = self.0.remove(id)
            {
                services.close_body(live);
            }
        }
    }

    /// Gives up all of them: the call has ended.
    pub(crate) fn close_all(&mut self, services: &dyn Services) {
        let all: Vec<u64> = self.0.keys().copied().collect();
        self.close(services, &all);
    }
}

impl Body {
    async fn read(&mut self, services: &dyn Services) -> Next {
        if let Some(piece) = self.ahead.pop_front() {
            return piece;
        }
        if self.live.is_none() {
            self.ask_again(services).await?;
        }
        if let Some(piece) = self.ahead.pop_front() {
            return piece;
        }
        match self.live {
            Some(live) => services.read_body(live).await,
            None => Err(HttpError::BrokeOff),
        }
    }

    /// Sends the request once more and passes by what was given. An answer that is another one, or that cannot be asked for again, has broken off.
    async fn ask_again(&mut self, services: &dyn Services) -> Result<(), HttpError> {
        let replayed = self.replayed.take().ok_or(HttpError::BrokeOff)?;
        let request = replayed.request.ok_or(HttpError::BrokeOff)?;
        let head = services.request(request, replayed.number).await?;
        self.live = Some(head.id);
        if head.status != replayed.status {
            return Err(HttpError::BrokeOff);
        }
        let (mut left, mut passed) = (replayed.given_bytes, Sha256::new());
        while left > 0 {
            let Piece::Bytes(bytes) = services.read_body(head.id).await? else {
                return Err(HttpError::BrokeOff);
            };
            let of_them = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            passed.update(&bytes[..of_them]);
            left -= of_them as u64;
            if of_them < bytes.len() {
                let rest = Piece::Bytes(bytes[of_them..].to_vec());
                self.ahead.push_back(Ok(rest));
            }
        }
        match passed.finalize() == replayed.given.finalize() {
            true => Ok(()),
            false => Err(HttpError::BrokeOff),
        }
    }
}
