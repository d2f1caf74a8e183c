//! Keys by which the other side knows a request that it has had already: the same for the same host call of the same step, and for no other.

use flow::effect::Asking;
use flow::id::{Digest, RunId};

/// The keys of one skill call.
#[derive(Debug, Clone)]
pub struct Keys {
    seed: String,
    began: Option<u64>,
}

impl Keys {
    /// Of a step of a run, by the event that first began it.
    pub(crate) fn of_step(run: &RunId, began: u64) -> Keys {
        Keys {
            seed: format!("{run}/{began}"),
            began: Some(began),
        }
    }

    /// Of a call by hand, which nobody takes up again.
    pub fn of_call() -> Keys {
        let mut random = [0; 16];
        // Without chance from the system the keys of two calls by hand could be alike; the time is another each time.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let random = u128::from_le_bytes(random);
        let at_ms = crate::clock::now_ms();
        Keys {
            seed: format!("{random:x}/{at_ms}"),
            began: None,
        }
    }

    /// The key of a host call's `again`th try, from 1.
    pub(crate) fn key(&self, number: u64, again: u32) -> String {
        let text = format!("moat/{}/{number}/{again}", self.seed);
        let digest = Digest::of(text.as_bytes());
        format!("moat-{}", digest.hex().get(..32).unwrap_or_default())
    }

    /// What a model call is for.
    pub(crate) fn asking(&self, number: u64, again: u32) -> Option<Asking> {
        self.began.map(|began| Asking {
            began,
            number,
            again,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_key_is_that_of_one_call_and_says_nothing_else() {
        let run: RunId = "r-1".parse().unwrap();
        let keys = Keys::of_step(&run, 7);
        assert_eq!(keys.key(3, 1), Keys::of_step(&run, 7).key(3, 1));
        let other: RunId = "r-2".parse().unwrap();
        let all: BTreeSet<String> = [
            keys.key(3, 1),
            keys.key(3, 2),
            keys.key(4, 1),
            Keys::of_step(&run, 8).key(3, 1),
            Keys::of_step(&other, 7).key(3, 1),
            Keys::of_call().key(3, 1),
            Keys::of_call().key(3, 1),
        ]
        .into();
        assert_eq!(all.len(), 7);
        assert!(all.iter().all(|key| key.len() == 37));
    }
}
