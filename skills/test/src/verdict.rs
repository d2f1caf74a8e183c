//! From exit status and counted tests to the outcome of the suite; printed words alone never make it pass.

/// How a suite ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Exit status 0 and at least one test.
    Passed,
    /// Some tests did not pass.
    Failed,
    /// The tests could not run.
    Errored,
    /// Exit status 0 and no test.
    Empty,
}

/// Decides. `ran` is what the output says, which may be forged; the exit status is what the kernel says.
pub fn suite(exit: Option<i32>, ran: Option<u64>, red: usize) -> Suite {
    match exit {
        // A runner whose output has no known form is believed by its status alone.
        Some(0) if ran == Some(0) => Suite::Empty,
        Some(0) if red == 0 => Suite::Passed,
        Some(0) => Suite::Failed,
        Some(_) if red > 0 || ran.is_some_and(|ran| ran > 0) => Suite::Failed,
        _ => Suite::Errored,
    }
}

/// The end of a text, at most `max` bytes, from a character's beginning.
pub fn tail(text: &str, max: usize) -> &str {
    let mut start = text.len().saturating_sub(max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_decides_and_words_do_not() {
        assert_eq!(suite(Some(0), Some(3), 0), Suite::Passed);
        assert_eq!(suite(Some(0), None, 0), Suite::Passed);
        assert_eq!(suite(Some(0), Some(0), 0), Suite::Empty);
        assert_eq!(
            suite(Some(0), Some(3), 1),
            Suite::Failed,
            "a runner that hides its failures"
        );
        assert_eq!(
            suite(Some(1), Some(3), 0),
            Suite::Failed,
            "a forged `ok` with a bad status"
        );
        assert_eq!(suite(Some(101), None, 0), Suite::Errored);
        assert_eq!(suite(None, Some(3), 0), Suite::Errored, "killed");
    }

    #[test]
    fn tails_begin_at_characters() {
        assert_eq!(tail("aää", 3), "ä");
        assert_eq!(tail("abc", 10), "abc");
    }
}
