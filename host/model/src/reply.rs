//! What a model answered, put together from a stream whatever its wire format.

use crate::conversation::Part;

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It said all.
    EndTurn,
    /// It waits for tools.
    ToolUse,
    /// It reached its limit of output or context.
    MaxTokens,
    /// It refused.
    Refusal,
}

/// Tokens. Cached input is counted apart from `input`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Fresh input.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Input read from the provider's cache.
    pub cache_read: u64,
    /// Input written to the provider's cache.
    pub cache_write: u64,
}

impl Usage {
    /// All of them together.
    pub fn tokens(&self) -> u64 {
        self.input
            .saturating_add(self.output)
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
    }

    /// Adds another call's.
    #[must_use]
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Text and tool uses, in order.
    pub parts: Vec<Part>,
    /// Why it stopped.
    pub stop: Stop,
    /// What this call took.
    pub usage: Usage,
}

/// Why a stream gives no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamError {
    /// The provider says within the stream that it is overloaded.
    Overloaded(String),
    /// It makes no sense, or ended too early.
    Broken(String),
}

impl StreamError {
    pub(crate) fn broken(why: impl Into<String>) -> StreamError {
        StreamError::Broken(why.into())
    }
}

/// Parts that arrive piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    parts: Vec<Option<Part>>,
    /// Bytes of output so far: for progress, and for what a broken call is reckoned at.
    pub(crate) bytes: u64,
}

/// No answer has more parts; an index beyond it is nonsense.
const PARTS_MAX: usize = 1024;

impl Assembly {
    /// Begins a part at its index.
    pub(crate) fn begin(&mut self, index: usize, part: Part) -> Result<(), StreamError> {
        if index >= PARTS_MAX {
            return Err(StreamError::broken("the answer has too many parts"));
        }
        if self.parts.len() <= index {
            self.parts.resize(index + 1, None);
        }
        match &mut self.parts[index] {
            Some(_) => Err(StreamError::broken("a part begins twice")),
            slot => {
                *slot = Some(part);
                Ok(())
            }
        }
    }

    /// Whether a part was begun.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.parts.get(index).is_some_and(Option::is_some)
    }

    /// Appends to the text or tool input at an index.
    pub(crate) fn extend(&mut self, index: usize, more: &str) -> Result<(), StreamError> {
        self.bytes = self.bytes.saturating_add(more.len() as u64);
        match self.parts.get_mut(index) {
            Some(Some(Part::Text(text) | Part::ToolUse { input: text, .. })) => {
                text.push_str(more);
                Ok(())
            }
            _ => Err(StreamError::broken(
                "something is added to a part that never began",
            )),
        }
    }

    /// Counts output that is no part of the answer, such as thoughts: it is paid for as well.
    pub(crate) fn pass_over(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len() as u64);
    }

    /// Whether a tool use with another id stands at an index.
    pub(crate) fn has_other_id(&self, index: usize, wanted: &str) -> bool {
        matches!(self.parts.get(index), Some(Some(Part::ToolUse { id, .. })) if id != wanted)
    }

    /// The parts, without empty texts and gaps.
    pub(crate) fn finish(self) -> Vec<Part> {
        self.parts
            .into_iter()
            .flatten()
            .filter(|part| !matches!(part, Part::Text(text) if text.is_empty()))
            .map(|part| match part {
                Part::ToolUse { id, name, input } if input.trim().is_empty() => Part::ToolUse {
                    id,
                    name,
                    input: "{}".into(),
                },
                part => part,
            })
            .collect()
    }

    /// Output tokens that a call without a count is reckoned at: text has some three to four bytes a token.
    pub(crate) fn tokens_reckoned(&self) -> u64 {
        self.bytes.div_ceil(3)
    }
}
