//! What decides in a simulated world: numbers drawn from a seed, or given ones, so that a run of it can be shortened and replayed.

use std::collections::VecDeque;

/// Decides, and remembers what it decided.
pub struct Choices {
    source: Source,
    pub taken: Vec<u32>,
}

enum Source {
    Seed(u64),
    Given(VecDeque<u32>),
}

impl Choices {
    pub fn of_seed(seed: u64) -> Choices {
        Choices {
            source: Source::Seed(seed),
            taken: Vec::new(),
        }
    }

    pub fn given(choices: &[u32]) -> Choices {
        Choices {
            source: Source::Given(choices.iter().copied().collect()),
            taken: Vec::new(),
        }
    }

    /// One of `n`; 0, which is always the most ordinary, when given choices are used up.
    pub fn pick(&mut self, n: usize) -> usize {
        let raw = match &mut self.source {
            // SplitMix64.
            Source::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                ((z ^ (z >> 31)) >> 32) as u32
            }
            Source::Given(rest) => rest.pop_front().unwrap_or(0),
        };
        let chosen = raw as usize % n.max(1);
        // The choice itself, and not the number: a shortened list is read by people.
        self.taken.push(chosen as u32);
        chosen
    }

    /// True once in so many times.
    pub fn rarely(&mut self, n: usize) -> bool {
        self.pick(n) == n - 1
    }

    /// Whether given choices are used up.
    pub fn is_over(&self) -> bool {
        matches!(&self.source, Source::Given(rest) if rest.is_empty())
    }
}

/// Takes pieces out of a list as long as it still fails.
pub fn shortened(mut choices: Vec<u32>, fails: impl Fn(&[u32]) -> bool) -> Vec<u32> {
    let mut tries = 4000;
    let mut piece = choices.len() / 2;
    while piece > 0 && tries > 0 {
        let mut at = 0;
        while at < choices.len() && tries > 0 {
            let mut shorter = choices.clone();
            shorter.drain(at..(at + piece).min(choices.len()));
            tries -= 1;
            if fails(&shorter) {
                choices = shorter;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    // What is left is made as ordinary as it can be.
    for at in 0..choices.len() {
        let mut plainer = choices.clone();
        plainer[at] = 0;
        if choices[at] != 0 && fails(&plainer) {
            choices = plainer;
        }
    }
    choices
}
