//! The wire format of Anthropic Messages, version 2023-06-01: request bodies and streamed events.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::conversation::{Conversation, Part, Speaker, Turn, input_object, schema};
use crate::reply::{Assembly, Reply, Stop, StreamError, Usage};
use crate::sse::Event;

pub(crate) const PATH: &str = "v1/messages";
pub(crate) const HEADERS: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];

/// Writes the request. Cache marks stand after the tools and system prompt, and after the last turn: a loop that only
/// grows its conversation reads all but its newest turn from the cache.
pub(crate) fn request(model: &str, conversation: &Conversation) -> Value {
    let mut turns: Vec<Value> = conversation
        .turns
        .iter()
        .map(|turn| {
            let role = match turn.speaker {
                Speaker::User => "user",
                Speaker::Assistant => "assistant",
            };
            json!({ "role": role, "content": content(turn) })
        })
        .collect();
    if let Some(last) = turns
        .last_mut()
        .and_then(|turn| turn["content"].as_array_mut())
        .and_then(|parts| parts.last_mut())
    {
        last["cache_control"] = json!({ "type": "ephemeral" });
    }
    let mut body = json!({
        "model": model,
        "max_tokens": conversation.max_tokens,
        "stream": true,
        "messages": turns,
    });
    if let Some(system) = conversation.system.as_ref().filter(|text| !text.is_empty()) {
        body["system"] =
            json!([{ "type": "text", "text": system, "cache_control": { "type": "ephemeral" } }]);
    }
    if !conversation.tools.is_empty() {
        let tools = conversation.tools.iter().map(|tool| {
            json!({ "name": tool.name, "description": tool.description, "input_schema": schema(&tool.input_schema) })
        });
        body["tools"] = Value::from_iter(tools);
    } else if let names = tools_used(conversation)
        && !names.is_empty()
    {
        let tools = names
            .iter()
            .map(|name| json!({ "name": name, "input_schema": { "type": "object" } }));
        body["tools"] = Value::from_iter(tools);
        body["tool_choice"] = json!({ "type": "none" });
    }
    body
}

/// Tools that were used: the API takes no history with tools that the request does not define.
fn tools_used(conversation: &Conversation) -> BTreeSet<&str> {
    let parts = conversation.turns.iter().flat_map(|turn| &turn.parts);
    parts
        .filter_map(|part| match part {
            Part::ToolUse { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect()
}

/// A turn's parts. The API wants results of tools before everything else, and no text of nothing but white space.
fn content(turn: &Turn) -> Vec<Value> {
    let is_result = |part: &&Part| matches!(part, Part::ToolResult { .. });
    let results = turn.parts.iter().filter(is_result);
    let others = turn.parts.iter().filter(|part| !is_result(part));
    results
        .chain(others)
        .filter(|part| !part.says_nothing())
        .map(part)
        .collect()
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({ "type": "text", "text": text }),
        Part::ToolUse { id, name, input } => {
            json!({ "type": "tool_use", "id": id, "name": name, "input": input_object(input) })
        }
        Part::ToolResult { id, text, is_error } => {
            json!({ "type": "tool_result", "tool_use_id": id, "content": text, "is_error": is_error })
        }
    }
}

/// Puts a reply together from the events of one stream.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pub(crate) assembly: Assembly,
    usage: Usage,
    stop: Option<Stop>,
    ended: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Message {
    #[serde(rename = "message_start")]
    Start {
        message: Started,
    },
    ContentBlockStart {
        index: usize,
        content_block: Block,
    },
    ContentBlockDelta {
        index: usize,
        delta: Delta,
    },
    #[serde(rename = "message_delta")]
    Ending {
        delta: Ending,
        usage: Option<Counts>,
    },
    #[serde(rename = "message_stop")]
    Stop,
    Error {
        error: Trouble,
    },
    /// Pings, ends of blocks, and what a newer API may add: by its own rules, clients pass over unknown events.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Started {
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        #[serde(default)]
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Ending {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Trouble {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    message: String,
}

impl Decoder {
    /// Takes an event; true when it is the last.
    pub(crate) fn event(&mut self, event: &Event) -> Result<bool, StreamError> {
        let message: Message = serde_json::from_str(&event.data)
            .map_err(|error| StreamError::broken(format!("an event makes no sense: {error}")))?;
        match message {
            Message::Start { message } => {
                if let Some(counts) = message.usage {
                    // The first count of output is that of a token or two; the whole one comes at the end.
                    self.count(&Counts {
                        output_tokens: None,
                        ..counts
                    });
                }
            }
            Message::ContentBlockStart {
                index,
                content_block,
            } => match content_block {
                Block::Text { text } => {
                    self.assembly.begin(index, Part::Text(String::new()))?;
                    self.assembly.extend(index, &text)?;
                }
                Block::ToolUse { id, name } => {
                    let input = String::new();
                    self.assembly
                        .begin(index, Part::ToolUse { id, name, input })?;
                }
                Block::Other => {}
            },
            Message::ContentBlockDelta { index, delta } => match delta {
                Delta::Text { text } => self.assembly.extend(index, &text)?,
                Delta::Input { partial_json } => self.assembly.extend(index, &partial_json)?,
                Delta::Thinking { thinking } => self.assembly.pass_over(&thinking),
                Delta::Other => {}
            },
            Message::Ending { delta, usage } => {
                if let Some(counts) = usage {
                    self.count(&counts);
                }
                if let Some(reason) = delta.stop_reason {
                    self.stop = Some(stop(&reason));
                }
            }
            Message::Stop => self.ended = true,
            Message::Error { error } => return Err(trouble(error)),
            Message::Other => {}
        }
        Ok(self.ended)
    }

    /// Later counts are cumulative: they replace earlier ones.
    fn count(&mut self, counts: &Counts) {
        let set = |slot: &mut u64, count: Option<u64>| {
            if let Some(count) = count {
                *slot = count;
            }
        };
        set(&mut self.usage.input, counts.input_tokens);
        set(&mut self.usage.output, counts.output_tokens);
        set(
            &mut self.usage.cache_write,
            counts.cache_creation_input_tokens,
        );
        set(&mut self.usage.cache_read, counts.cache_read_input_tokens);
    }

    /// What the call took so far; 0 where the provider did not say.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    pub(crate) fn finish(self, usage: Usage) -> Result<Reply, StreamError> {
        let stop = match (self.ended, self.stop) {
            (true, Some(stop)) => stop,
            _ => {
                return Err(StreamError::broken(
                    "the stream ended before the answer did",
                ));
            }
        };
        Ok(Reply {
            parts: self.assembly.finish(),
            stop,
            usage,
        })
    }
}

fn stop(reason: &str) -> Stop {
    match reason {
        "tool_use" => Stop::ToolUse,
        "max_tokens" | "model_context_window_exceeded" => Stop::MaxTokens,
        "refusal" => Stop::Refusal,
        _ => Stop::EndTurn,
    }
}

fn trouble(error: Trouble) -> StreamError {
    let text = format!("{}: {}", error.kind, error.message);
    match error.kind.as_str() {
        "overloaded_error" | "rate_limit_error" | "api_error" | "timeout_error" => {
            StreamError::Overloaded(text)
        }
        _ => StreamError::Broken(text),
    }
}

#[cfg(test)]
mod tests;
