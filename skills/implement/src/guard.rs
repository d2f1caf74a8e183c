//! Notices that a loop goes nowhere: turns without a tool, without sense, without news.

use std::collections::HashSet;

/// Turns of one attempt. A mend takes some ten or twenty; what is not done by then goes in circles or is too large for one attempt.
pub const TURNS_MAX: u32 = 80;

/// Turns in a row that bring nothing that was not known.
pub const STALE_MAX: u32 = 3;

/// Times in a row that a model is told to use a tool.
pub const NUDGES_MAX: u32 = 2;

/// Turns in a row in which no call could be read. Small models stumble, and find their feet when they are told how.
pub const MALFORMED_MAX: u32 = 5;

/// Counts over the turns.
#[derive(Debug, Default)]
pub struct Guard {
    turns: u32,
    without_tool: u32,
    malformed: u32,
    stale: u32,
    seen: HashSet<(String, String, String, u64)>,
}

/// One call of a turn, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The tool's name.
    pub tool: String,
    /// Its input, as the model wrote it.
    pub input: String,
    /// The answer, without what differs from time to time.
    pub gist: String,
    /// The state of the files before it.
    pub files: u64,
    /// Whether the call could be read.
    pub well_formed: bool,
}

/// What the guard says after a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// Go on.
    GoOn,
    /// Go on, and tell the model that this was nothing new.
    Warn,
    /// Stop, for this reason.
    Stop(String),
}

impl Guard {
    /// A turn begins; `None` when there have been enough.
    pub fn turn(&mut self) -> Option<u32> {
        if self.turns == TURNS_MAX {
            return None;
        }
        self.turns += 1;
        Some(self.turns)
    }

    /// A turn without any call.
    pub fn idle(&mut self) -> Advice {
        self.without_tool += 1;
        if self.without_tool > NUDGES_MAX {
            return Advice::Stop(format!(
                "the model used no tool {} times in a row",
                self.without_tool
            ));
        }
        Advice::Warn
    }

    /// A turn with calls.
    pub fn made(&mut self, calls: Vec<Made>) -> Advice {
        self.without_tool = 0;
        if calls.iter().any(|call| call.well_formed) {
            self.malformed = 0;
        } else {
            self.malformed += 1;
        }
        let mut news = false;
        for call in calls {
            news |= self
                .seen
                .insert((call.tool, call.input, call.gist, call.files));
        }
        self.stale = if news { 0 } else { self.stale + 1 };
        if self.malformed >= MALFORMED_MAX {
            return Advice::Stop(format!(
                "no tool call of the model could be read in {} turns",
                self.malformed
            ));
        }
        match self.stale {
            0 => Advice::GoOn,
            STALE_MAX.. => Advice::Stop(format!(
                "the model repeated itself: {} turns in a row brought the same answers on the same files",
                self.stale
            )),
            _ => Advice::Warn,
        }
    }

    /// Older answers left the conversation: to ask for them again is no repetition.
    pub fn forget(&mut self) {
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(input: &str, gist: &str, files: u64) -> Vec<Made> {
        vec![Made {
            tool: "t".into(),
            input: input.into(),
            gist: gist.into(),
            files,
            well_formed: true,
        }]
    }

    fn stops(advice: &Advice) -> bool {
        matches!(advice, Advice::Stop(_))
    }

    #[test]
    fn circles_of_any_length_are_noticed_and_news_is_not() {
        let mut guard = Guard::default();
        for _ in 0..10 {
            assert_eq!(guard.made(call("a", "1", 0)), Advice::GoOn);
            guard.forget();
        }
        guard.made(call("b", "1", 0));
        guard.made(call("a", "1", 0));
        assert_eq!(guard.made(call("b", "1", 0)), Advice::Warn);
        assert_eq!(guard.made(call("a", "1", 0)), Advice::Warn);
        assert!(stops(&guard.made(call("b", "1", 0))));
        // Other files, or another answer: news.
        assert_eq!(guard.made(call("b", "1", 7)), Advice::GoOn);
        assert_eq!(guard.made(call("b", "2", 7)), Advice::GoOn);
    }

    #[test]
    fn silence_and_nonsense_end() {
        let mut guard = Guard::default();
        assert_eq!((guard.idle(), guard.idle()), (Advice::Warn, Advice::Warn));
        guard.made(call("a", "1", 0));
        assert_eq!((guard.idle(), guard.idle()), (Advice::Warn, Advice::Warn));
        assert!(stops(&guard.idle()));
        let mut guard = Guard::default();
        for n in 1..=MALFORMED_MAX {
            let mut calls = call(&n.to_string(), "1", 0);
            calls[0].well_formed = false;
            assert_eq!(stops(&guard.made(calls)), n == MALFORMED_MAX);
        }
        assert_eq!(
            (0..200).filter_map(|_| guard.turn()).count(),
            TURNS_MAX as usize
        );
    }
}
