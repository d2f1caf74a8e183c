//! Money and tokens: what models cost.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Money in millionths of a dollar.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl Micros {
    /// Adds; a sum beyond the range stays at its end, which no budget reaches.
    #[must_use]
    pub fn plus(self, other: Micros) -> Micros {
        Micros(self.0.saturating_add(other.0))
    }

    /// Takes away, down to nothing.
    #[must_use]
    pub fn less(self, other: Micros) -> Micros {
        Micros(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, rest) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if rest.is_multiple_of(10_000) {
            write!(f, "${dollars}.{:02}", rest / 10_000)
        } else {
            write!(f, "${dollars}.{:04}", rest.div_ceil(100).min(9_999))
        }
    }
}

/// What has been used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spend {
    /// Money of settled calls.
    pub money: Micros,
    /// Tokens of settled calls, cached ones included.
    pub tokens: u64,
    /// Settled calls.
    pub calls: u32,
}

impl Spend {
    /// Adds what another call took.
    #[must_use]
    pub fn plus(self, other: Spend) -> Spend {
        Spend {
            money: self.money.plus(other.money),
            tokens: self.tokens.saturating_add(other.tokens),
            calls: self.calls.saturating_add(other.calls),
        }
    }

    /// Takes out what a call took.
    #[must_use]
    pub(crate) fn less(self, other: Spend) -> Spend {
        Spend {
            money: self.money.less(other.money),
            tokens: self.tokens.saturating_sub(other.tokens),
            calls: self.calls.saturating_sub(other.calls),
        }
    }
}

/// What a model call may cost, set aside before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reservation {
    /// At most this much money.
    pub money: Micros,
    /// At most this many tokens.
    pub tokens: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_shown_in_dollars() {
        for (micros, text) in [
            (0, "$0.00"),
            (1, "$0.0001"),
            (10_000, "$0.01"),
            (1_234_500, "$1.2345"),
            (2_000_000, "$2.00"),
            (999_999, "$0.9999"),
        ] {
            assert_eq!(Micros(micros).to_string(), text);
        }
    }
}
