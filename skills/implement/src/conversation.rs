//! The conversation with the model, kept within what it can hold.
//!
//! Providers refuse a use of a tool without its result right after it, and the other way round, so turns are only shortened or left out in pairs.
//! It is shortened rarely and then by a lot: each time, what the provider has cached of it is lost.

use crate::clip;
use crate::host::{Content, Message, Speaker, ToolResult};

/// What stands in the place of an older answer.
const LEFT_OUT: &str = "[left out to save room; use the tool again if you need this]";

/// Told once, beside the first message, when whole turns are gone.
const TURNS_LEFT_OUT: &str = "[Earlier turns of this conversation were left out to save room. The files are as those turns left them.]";

/// Messages at the end that stay whole while anything else can go: the last two exchanges.
const RECENT: usize = 4;

/// To what part of the room it is shortened, in tenths.
const SHORTENED_TENTHS: usize = 6;

/// What an answer among the recent ones is cut to when nothing else is left.
const RECENT_BYTES: usize = 2_000;

/// Bytes of a token before anything is measured. Code has from 2 to 4.
const BYTES_PER_TOKEN: usize = 3;

/// Beside the texts: quotes, names and braces of a part.
const PART_BYTES: usize = 40;

/// The first message and every turn since.
#[derive(Debug, Clone)]
pub struct Conversation {
    messages: Vec<Message>,
    /// Tokens of the messages at most.
    tokens_max: usize,
    /// System prompt and tools, which are sent with the messages.
    fixed_bytes: usize,
    /// As measured: a hundredth of a byte a token.
    hundredths: usize,
    turns_are_gone: bool,
}

/// It does not fit, however much is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

impl Conversation {
    /// Begins a conversation. `tokens_max` is what all input may have, `fixed_bytes` what is sent beside the messages.
    pub fn new(first: String, tokens_max: usize, fixed_bytes: usize) -> Conversation {
        Conversation {
            messages: vec![Message {
                speaker: Speaker::User,
                content: vec![Content::Text(first)],
            }],
            tokens_max,
            fixed_bytes,
            hundredths: BYTES_PER_TOKEN * 100,
            turns_are_gone: false,
        }
    }

    /// All messages; they begin and end with the skill's.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Adds the model's turn and the skill's answer to it. `answer` holds a result for each use of a tool in `said`, in the same order.
    ///
    /// Of a model that said nothing no turn is kept: providers refuse empty ones.
    pub fn exchange(&mut self, said: Vec<Content>, answer: Vec<Content>) {
        if said.is_empty() {
            if let Some(last) = self.messages.last_mut() {
                last.content.extend(answer);
            }
            return;
        }
        self.messages.push(Message {
            speaker: Speaker::Assistant,
            content: said,
        });
        self.messages.push(Message {
            speaker: Speaker::User,
            content: answer,
        });
    }

    /// Learns from the provider's count what a token of this conversation has. Called before the next [`Conversation::exchange`].
    pub fn measured(&mut self, input_tokens: u64) {
        let bytes = self.bytes() + self.fixed_bytes;
        let tokens = usize::try_from(input_tokens).unwrap_or(usize::MAX);
        // A provider that counts otherwise, or not at all, must not starve or flood it.
        if let Some(hundredths) = bytes.saturating_mul(100).checked_div(tokens) {
            self.hundredths = hundredths.clamp(150, BYTES_PER_TOKEN * 100);
        }
    }

    /// Bytes that the messages may have.
    pub fn room_bytes(&self) -> usize {
        (self.tokens_max.saturating_mul(self.hundredths) / 100).saturating_sub(self.fixed_bytes)
    }

    /// Shortens it if it has grown too large; says whether it did.
    ///
    /// # Errors
    /// [`TooLarge`] when the first message and the last turns alone are too much.
    pub fn fit(&mut self) -> Result<bool, TooLarge> {
        let room = self.room_bytes();
        if self.bytes() <= room {
            return Ok(false);
        }
        let wanted = room / 10 * SHORTENED_TENTHS;
        self.leave_out_answers(wanted);
        self.leave_out_turns(wanted);
        if self.bytes() > room {
            self.cut_recent_answers();
        }
        if self.bytes() > room {
            return Err(TooLarge);
        }
        Ok(true)
    }

    fn leave_out_answers(&mut self, wanted: usize) {
        let mut bytes = self.bytes();
        let older = self.messages.len().saturating_sub(RECENT).max(1);
        for result in self.messages[1..older].iter_mut().flat_map(results) {
            if bytes <= wanted {
                return;
            }
            if result.text.len() > LEFT_OUT.len() {
                bytes -= result.text.len() - LEFT_OUT.len();
                result.text = LEFT_OUT.into();
            }
        }
    }

    fn leave_out_turns(&mut self, wanted: usize) {
        let mut gone = 0;
        let mut bytes = self.bytes();
        // The first message, then pairs: the model's turn and the answer to it.
        while bytes > wanted && self.messages.len() - gone > 1 + RECENT {
            bytes -= self.messages[gone + 1..gone + 3]
                .iter()
                .map(size)
                .sum::<usize>();
            gone += 2;
        }
        self.messages.drain(1..1 + gone);
        if gone > 0 && !self.turns_are_gone {
            self.turns_are_gone = true;
            self.messages[0]
                .content
                .push(Content::Text(TURNS_LEFT_OUT.into()));
        }
    }

    fn cut_recent_answers(&mut self) {
        for result in self.messages[1..].iter_mut().flat_map(results) {
            if result.text.len() > RECENT_BYTES {
                result.text = clip::middle(&result.text, RECENT_BYTES);
            }
        }
    }

    fn bytes(&self) -> usize {
        self.messages.iter().map(size).sum()
    }
}

fn results(message: &mut Message) -> impl Iterator<Item = &mut ToolResult> {
    message.content.iter_mut().filter_map(|part| match part {
        Content::ToolResult(result) => Some(result),
        Content::Text(_) | Content::ToolUse(_) => None,
    })
}

fn size(message: &Message) -> usize {
    let part = |part: &Content| match part {
        Content::Text(text) => text.len(),
        Content::ToolUse(tool) => tool.id.len() + tool.name.len() + tool.input.len(),
        Content::ToolResult(result) => result.id.len() + result.text.len(),
    };
    message
        .content
        .iter()
        .map(|one| part(one) + PART_BYTES)
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use proptest::prelude::*;

    use super::*;
    use crate::host::ToolUse;

    /// A turn: words, and tools with the sizes of their inputs and results.
    type Turn = (usize, Vec<(usize, usize)>);

    fn turns() -> impl Strategy<Value = Vec<Turn>> {
        let tools = proptest::collection::vec((0usize..2000, 0usize..9000), 0..4);
        proptest::collection::vec((0usize..500, tools), 0..30)
    }

    fn play(conversation: &mut Conversation, turn: &Turn, number: usize) {
        let mut said = Vec::new();
        if turn.0 > 0 {
            said.push(Content::Text("w".repeat(turn.0)));
        }
        let mut answer = Vec::new();
        for (at, (input, result)) in turn.1.iter().enumerate() {
            let id = format!("{number}-{at}");
            said.push(Content::ToolUse(ToolUse {
                id: id.clone(),
                name: "read_file".into(),
                input: "i".repeat(*input),
            }));
            answer.push(Content::ToolResult(ToolResult {
                id,
                text: "r".repeat(*result),
                is_error: false,
            }));
        }
        if answer.is_empty() {
            answer.push(Content::Text("use a tool".into()));
        }
        conversation.exchange(said, answer);
    }

    fn ids(message: &Message, uses: bool) -> Vec<&str> {
        message
            .content
            .iter()
            .filter_map(|part| match part {
                Content::ToolUse(tool) if uses => Some(tool.id.as_str()),
                Content::ToolResult(result) if !uses => Some(result.id.as_str()),
                _ => None,
            })
            .collect()
    }

    /// What every provider asks of a conversation.
    fn is_sound(messages: &[Message]) -> Result<(), TestCaseError> {
        for (at, message) in messages.iter().enumerate() {
            let speaker = if at % 2 == 0 {
                Speaker::User
            } else {
                Speaker::Assistant
            };
            prop_assert_eq!(message.speaker, speaker);
            prop_assert!(!message.content.is_empty());
            let asked = at.checked_sub(1).map(|before| ids(&messages[before], true));
            prop_assert_eq!(ids(message, false), asked.unwrap_or_default());
        }
        prop_assert_eq!(messages.len() % 2, 1);
        Ok(())
    }

    proptest! {
        #[test]
        fn shortening_keeps_pairs_the_first_message_and_the_last_turns(turns in turns(), tokens in 200usize..20_000, measured in proptest::option::of(1u64..50_000)) {
            let mut conversation = Conversation::new("the work item".into(), tokens, 100);
            for (number, turn) in turns.iter().enumerate() {
                if let Some(measured) = measured {
                    conversation.measured(measured);
                }
                play(&mut conversation, turn, number);
                let before = conversation.clone();
                let fitted = conversation.fit();
                is_sound(conversation.messages())?;
                prop_assert_eq!(&conversation.messages()[0].content[0], &Content::Text("the work item".into()));
                let small = before.bytes() <= before.room_bytes();
                match fitted {
                    Ok(shortened) => {
                        prop_assert_eq!(shortened, !small);
                        prop_assert!(conversation.bytes() <= conversation.room_bytes());
                    }
                    Err(TooLarge) => {
                        prop_assert!(!small && conversation.messages().len() <= 1 + RECENT);
                        break;
                    }
                }
                if small {
                    prop_assert_eq!(conversation.messages(), before.messages());
                }
                // The last turn is there, whole or cut, and never just left out.
                let last = conversation.messages().last().unwrap();
                prop_assert_eq!(ids(last, false), ids(before.messages().last().unwrap(), false));
                prop_assert!(last.content.iter().all(|part| !matches!(part, Content::ToolResult(result) if result.text == LEFT_OUT)));
            }
        }
    }

    #[test]
    fn empty_turns_of_the_model_leave_no_empty_message() {
        let mut conversation = Conversation::new("x".into(), 1000, 0);
        conversation.exchange(vec![], vec![Content::Text("go on".into())]);
        assert_eq!(conversation.messages().len(), 1);
        assert_eq!(conversation.messages()[0].content.len(), 2);
    }

    #[test]
    fn recent_answers_are_cut_when_nothing_else_is_left() {
        let mut conversation = Conversation::new("x".into(), 4_000, 0);
        for number in 0..2 {
            play(&mut conversation, &(10, vec![(10, 9_000)]), number);
        }
        assert_eq!(conversation.fit(), Ok(true));
        assert_eq!(conversation.messages().len(), 5);
        let mut inputs = Conversation::new("x".into(), 4_000, 0);
        play(&mut inputs, &(10, vec![(13_000, 10)]), 0);
        assert_eq!(inputs.fit(), Err(TooLarge), "an input cannot be cut");
    }

    #[test]
    fn the_providers_count_lowers_the_room_within_bounds() {
        let mut conversation = Conversation::new("x".repeat(10_000), 100_000, 0);
        let before = conversation.room_bytes();
        conversation.measured(0);
        conversation.measured(10);
        assert_eq!(conversation.room_bytes(), before);
        conversation.measured(5_000);
        assert!(conversation.room_bytes() < before * 7 / 10);
        conversation.measured(u64::MAX);
        assert_eq!(conversation.room_bytes(), before / 2);
    }
}
