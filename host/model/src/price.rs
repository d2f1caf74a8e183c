//! What tokens cost.

use flow::money::{Micros, Reservation};

use crate::reply::Usage;

/// Money for a million tokens of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Fresh input.
    pub input: Micros,
    /// Output.
    pub output: Micros,
    /// Input read from the cache.
    pub cache_read: Micros,
    /// Input written to the cache.
    pub cache_write: Micros,
}

impl Price {
    /// What a call cost, rounded up.
    pub fn cost(&self, usage: &Usage) -> Micros {
        let sum: u128 = [
            (self.input, usage.input),
            (self.output, usage.output),
            (self.cache_read, usage.cache_read),
            (self.cache_write, usage.cache_write),
        ]
        .iter()
        .map(|(price, tokens)| u128::from(price.0) * u128::from(*tokens))
        .sum();
        Micros(u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }

    /// What a call may cost at most: all of its input at the dearest kind of input.
    pub fn at_most(&self, input_tokens: u64, output_tokens: u64) -> Reservation {
        let dearest = self.input.max(self.cache_write).max(self.cache_read);
        let price = Price {
            input: dearest,
            ..*self
        };
        Reservation {
            money: price.cost(&Usage {
                input: input_tokens,
                output: output_tokens,
                ..Usage::default()
            }),
            tokens: input_tokens.saturating_add(output_tokens),
        }
    }

    /// Output tokens that fit into what is left beside the input; 0 when not even the input does.
    pub fn output_that_fits(&self, left: &Reservation, input_tokens: u64) -> u64 {
        let input = self.at_most(input_tokens, 0);
        if input.money > left.money || input.tokens > left.tokens {
            return 0;
        }
        let money = left.money.less(input.money).0;
        // The cost is rounded up once: one micro is kept back for it.
        let by_money = match self.output.0 {
            0 => u64::MAX,
            price => {
                u64::try_from(u128::from(money.saturating_sub(1)) * 1_000_000 / u128::from(price))
                    .unwrap_or(u64::MAX)
            }
        };
        by_money.min(left.tokens - input.tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRICE: Price = Price {
        input: Micros(3_000_000),
        output: Micros(15_000_000),
        cache_read: Micros(300_000),
        cache_write: Micros(3_750_000),
    };

    #[test]
    fn every_kind_of_token_has_its_price() {
        let usage = Usage {
            input: 1_000,
            output: 200,
            cache_read: 10_000,
            cache_write: 400,
        };
        assert_eq!(PRICE.cost(&usage), Micros(3_000 + 3_000 + 3_000 + 1_500));
        assert_eq!(
            PRICE.cost(&Usage {
                cache_read: 1,
                ..Usage::default()
            }),
            Micros(1)
        );
        let endless = Usage {
            input: u64::MAX,
            ..Usage::default()
        };
        assert_eq!(PRICE.cost(&endless), Micros(u64::MAX));
    }

    proptest! {
        #[test]
        fn what_fits_never_costs_more_than_is_left(
            money in 0u64..50_000_000, tokens in 0u64..10_000_000, input in 0u64..1_000_000,
            prices in prop::array::uniform4(0u64..100_000_000),
        ) {
            let price = Price {
                input: Micros(prices[0]), output: Micros(prices[1]),
                cache_read: Micros(prices[2]), cache_write: Micros(prices[3]),
            };
            let left = Reservation { money: Micros(money), tokens };
            let output = price.output_that_fits(&left, input);
            if output > 0 {
                let most = price.at_most(input, output);
                prop_assert!(most.money <= left.money && most.tokens <= left.tokens);
            }
        }

        #[test]
        fn what_is_set_aside_covers_any_split_of_the_input(
            input in 0u64..1_000_000, read in 0u64..1_000_000, write in 0u64..1_000_000, output in 0u64..100_000,
        ) {
            let usage = Usage { input, output, cache_read: read, cache_write: write };
            let most = PRICE.at_most(input + read + write, output);
            prop_assert!(PRICE.cost(&usage) <= most.money && usage.tokens() == most.tokens);
        }
    }
}
