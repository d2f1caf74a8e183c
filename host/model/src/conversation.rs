//! What is asked of a model: turns, tools and the rules that every provider has for them.

use std::collections::BTreeSet;

use crate::error::ModelError;

/// More is a mistake of the skill: the largest context of any model is smaller.
const BYTES_MAX: usize = 16 << 20;

/// Providers refuse more.
const TOOLS_MAX: usize = 128;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// One part of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Words.
    Text(String),
    /// The model asks for a tool.
    ToolUse {
        /// Its id.
        id: String,
        /// The tool.
        name: String,
        /// JSON, as the model wrote it.
        input: String,
    },
    /// The answer to a tool use.
    ToolResult {
        /// The tool use's id.
        id: String,
        /// The answer.
        text: String,
        /// Whether it is an error.
        is_error: bool,
    },
}

impl Part {
    /// Providers refuse texts of nothing but white space: they are not sent.
    pub(crate) fn says_nothing(&self) -> bool {
        matches!(self, Part::Text(text) if text.trim().is_empty())
    }
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Whose.
    pub speaker: Speaker,
    /// Its parts.
    pub parts: Vec<Part>,
}

/// A tool on offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Letters, digits, `_` and `-`; at most 64.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its input, as text.
    pub input_schema: String,
}

/// All that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The system prompt.
    pub system: Option<String>,
    /// The turns, the user's first.
    pub turns: Vec<Turn>,
    /// Tools on offer.
    pub tools: Vec<Tool>,
    /// Output tokens at most.
    pub max_tokens: u32,
}

impl Conversation {
    /// Checks what every provider would refuse, before anything is paid for it.
    ///
    /// # Errors
    /// [`ModelError::Invalid`].
    pub fn check(&self) -> Result<(), ModelError> {
        let refuse = |why: &str| Err(ModelError::Invalid { why: why.into() });
        match self.turns.first() {
            None => return refuse("a conversation has at least one turn"),
            Some(first) if first.speaker != Speaker::User => {
                return refuse("the first turn is the user's");
            }
            Some(_) => {}
        }
        if self.bytes() > BYTES_MAX {
            return refuse("the conversation is larger than any model takes");
        }
        if self.tools.len() > TOOLS_MAX {
            return refuse("there are more than 128 tools");
        }
        for tool in &self.tools {
            if !is_tool_name(&tool.name) {
                return refuse("a tool's name has letters, digits, `_` and `-`, at most 64");
            }
            if schema(&tool.input_schema).is_none() {
                return refuse("a tool's input schema is a JSON object");
            }
        }
        self.check_turns()
    }

    /// Refuses what is surely larger than a model's context: beyond it a provider refuses, or has other prices.
    ///
    /// # Errors
    /// [`ModelError::Invalid`].
    pub(crate) fn check_fits(&self, context_tokens: u32) -> Result<(), ModelError> {
        let tokens = self.input_tokens_reckoned() + u64::from(self.max_tokens);
        if tokens <= u64::from(context_tokens) {
            return Ok(());
        }
        Err(ModelError::Invalid {
            why: format!(
                "the conversation has some {tokens} tokens with its answer, and the model holds {context_tokens}"
            ),
        })
    }

    /// Each tool use is answered in the turn after it, and nothing else is answered: providers refuse the rest.
    fn check_turns(&self) -> Result<(), ModelError> {
        let refuse = |why: &str| Err(ModelError::Invalid { why: why.into() });
        let mut open: BTreeSet<&str> = BTreeSet::new();
        for turn in &self.turns {
            if turn.parts.iter().all(Part::says_nothing) {
                return refuse("every turn says something");
            }
            let mut asked = BTreeSet::new();
            for part in &turn.parts {
                match (part, turn.speaker) {
                    (Part::Text(_), _) => {}
                    (Part::ToolUse { id, name, .. }, Speaker::Assistant) => {
                        if !is_tool_name(name) || id.is_empty() || !asked.insert(id.as_str()) {
                            return refuse("a tool use has a tool's name and an id of its own");
                        }
                    }
                    (Part::ToolResult { id, .. }, Speaker::User) => {
                        if !open.remove(id.as_str()) {
                            return refuse("a tool result answers a tool use of the turn before");
                        }
                    }
                    _ => return refuse("the model uses tools, and the user answers them"),
                }
            }
            if !open.is_empty() {
                return refuse("every tool use is answered in the next turn");
            }
            open = asked;
        }
        if open.is_empty() {
            Ok(())
        } else {
            refuse("every tool use is answered in the next turn")
        }
    }

    /// Every text that is sent.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let parts = self.turns.iter().flat_map(|turn| &turn.parts);
        let parts = parts.flat_map(|part| match part {
            Part::Text(text) => [text.as_str(), "", ""],
            Part::ToolUse { id, name, input } => [&**id, &**name, &**input],
            Part::ToolResult { id, text, .. } => [&**id, &**text, ""],
        });
        let tools = self.tools.iter();
        let tools = tools.flat_map(|tool| [&*tool.name, &tool.description, &tool.input_schema]);
        parts.chain(tools).chain(self.system.as_deref())
    }

    fn bytes(&self) -> usize {
        self.texts().map(str::len).sum()
    }

    /// Input tokens at most, for setting money aside. Words have some four bytes a token, and no common tokenizer needs
    /// more than one for two bytes of them; but some give each digit one of its own, and rare characters one a byte.
    /// Each part costs a few more for its frame.
    pub fn input_tokens_at_most(&self) -> u64 {
        let of_words = |byte: &u8| byte.is_ascii_alphabetic() || byte.is_ascii_whitespace();
        let words: usize = self
            .texts()
            .map(|text| text.bytes().filter(|byte| of_words(byte)).count())
            .sum();
        let parts: usize = self.turns.iter().map(|turn| turn.parts.len() + 1).sum();
        (self.bytes() - words / 2 + 32 * (parts + self.tools.len()) + 512) as u64
    }

    /// Input tokens of a call whose provider did not count them.
    pub(crate) fn input_tokens_reckoned(&self) -> u64 {
        self.bytes().div_ceil(4) as u64
    }
}

fn is_tool_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// A text as a JSON object, if it is one.
pub(crate) fn object(text: &str) -> Option<serde_json::Value> {
    serde_json::from_str::<serde_json::Value>(text)
        .ok()
        .filter(serde_json::Value::is_object)
}

/// A tool's schema as JSON, if it is an object. Its type must be stated: a skill that left it out can mean no other.
pub(crate) fn schema(text: &str) -> Option<serde_json::Value> {
    object(text).map(|mut schema| {
        if schema.get("type").is_none() {
            schema["type"] = "object".into();
        }
        schema
    })
}

/// A tool's input as the object that providers want; what the model wrote otherwise is kept as a text in one.
pub(crate) fn input_object(text: &str) -> serde_json::Value {
    if text.trim().is_empty() {
        return serde_json::json!({});
    }
    object(text).unwrap_or_else(|| serde_json::json!({ "unreadable": text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(parts: Vec<Part>) -> Turn {
        Turn {
            speaker: Speaker::User,
            parts,
        }
    }

    fn asks(id: &str) -> Turn {
        Turn {
            speaker: Speaker::Assistant,
            parts: vec![Part::ToolUse {
                id: id.into(),
                name: "read".into(),
                input: "{}".into(),
            }],
        }
    }

    fn answers(id: &str) -> Turn {
        user(vec![Part::ToolResult {
            id: id.into(),
            text: "x".into(),
            is_error: false,
        }])
    }

    fn verdict(turns: Vec<Turn>) -> bool {
        let conversation = Conversation {
            system: None,
            turns,
            tools: vec![],
            max_tokens: 10,
        };
        conversation.check().is_ok()
    }

    #[test]
    fn tool_uses_and_results_stand_in_pairs() {
        let hello = || user(vec![Part::Text("hello".into())]);
        assert!(verdict(vec![hello()]));
        assert!(verdict(vec![hello(), asks("1"), answers("1")]));
        assert!(!verdict(vec![]));
        assert!(!verdict(vec![asks("1"), answers("1")]));
        assert!(!verdict(vec![hello(), asks("1")]));
        assert!(!verdict(vec![hello(), asks("1"), hello()]));
        assert!(!verdict(vec![hello(), asks("1"), answers("2")]));
        assert!(!verdict(vec![hello(), answers("1")]));
        assert!(!verdict(vec![
            hello(),
            asks("1"),
            answers("1"),
            answers("1")
        ]));
        assert!(!verdict(vec![user(asks("1").parts)]));
    }

    #[test]
    fn digits_and_rare_characters_are_set_aside_for_by_the_byte() {
        let at_most = |text: &str| {
            let turns = vec![user(vec![Part::Text(text.repeat(10_000))])];
            let conversation = Conversation {
                system: None,
                turns,
                tools: vec![],
                max_tokens: 1,
            };
            conversation.input_tokens_at_most()
        };
        assert!((5_000..7_000).contains(&at_most("a")));
        assert!(at_most("7") >= 10_000 && at_most("\u{1F980}") >= 40_000);
    }

    #[test]
    fn a_turn_says_something() {
        let says = |texts: &[&str]| {
            let parts = texts.iter().map(|text| Part::Text((*text).into()));
            verdict(vec![user(parts.collect())])
        };
        assert!(says(&["", "hello"]));
        assert!(!says(&[]) && !says(&["", " \n"]));
    }

    #[test]
    fn tools_have_sound_names_and_schemas() {
        let with = |name: &str, schema: &str| {
            let tools = vec![Tool {
                name: name.into(),
                description: String::new(),
                input_schema: schema.into(),
            }];
            let conversation = Conversation {
                system: None,
                turns: vec![user(vec![Part::Text("x".into())])],
                tools,
                max_tokens: 1,
            };
            conversation.check().is_ok()
        };
        assert!(with("read_file", "{\"type\":\"object\"}"));
        for (name, schema) in [("", "{}"), ("a b", "{}"), ("a", "[]"), ("a", "{")] {
            assert!(!with(name, schema), "{name} {schema}");
        }
    }
}
