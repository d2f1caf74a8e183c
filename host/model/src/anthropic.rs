//! The wire format of Anthropic Messages, version 2023-06-01: request bodies and streamed events.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::conversation::{Conversation, Part, Speaker, input_object, schema};
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
            let parts: Vec<Value> = turn.parts.iter().filter_map(part).collect();
            json!({ "role": role, "content": parts })
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
    }
    body
}

/// Empty texts are refused by the API.
fn part(part: &Part) -> Option<Value> {
    match part {
        Part::Text(text) if text.is_empty() => None,
        Part::Text(text) => Some(json!({ "type": "text", "text": text })),
        Part::ToolUse { id, name, input } => Some(
            json!({ "type": "tool_use", "id": id, "name": name, "input": input_object(input) }),
        ),
        Part::ToolResult { id, text, is_error } => Some(
            json!({ "type": "tool_result", "tool_use_id": id, "content": text, "is_error": is_error }),
        ),
    }
}

/// Puts a reply together from the events of one stream.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pub(crate) assembly: Assembly,
    usage: Usage,
    counted: bool,
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
        #[serde(default)]
        usage: Counts,
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
    #[serde(default)]
    usage: Counts,
}

#[derive(Deserialize, Default)]
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
    pub(crate) fn event(&mut self, event: &Event) -> Result<(), StreamError> {
        let message: Message = serde_json::from_str(&event.data)
            .map_err(|error| StreamError::broken(format!("an event makes no sense: {error}")))?;
        match message {
            Message::Start { message } => self.count(&message.usage),
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
                Delta::Other => {}
            },
            Message::Ending { delta, usage } => {
                self.count(&usage);
                if let Some(reason) = delta.stop_reason {
                    self.stop = Some(stop(&reason));
                }
            }
            Message::Stop => self.ended = true,
            Message::Error { error } => return Err(trouble(error)),
            Message::Other => {}
        }
        Ok(())
    }

    /// Later counts are cumulative: they replace earlier ones.
    fn count(&mut self, counts: &Counts) {
        let set = |slot: &mut u64, count: Option<u64>| {
            if let Some(count) = count {
                *slot = count;
            }
        };
        self.counted |= counts.input_tokens.is_some();
        set(&mut self.usage.input, counts.input_tokens);
        set(&mut self.usage.output, counts.output_tokens);
        set(
            &mut self.usage.cache_write,
            counts.cache_creation_input_tokens,
        );
        set(&mut self.usage.cache_read, counts.cache_read_input_tokens);
    }

    /// What the call took so far, as far as the provider said.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.counted.then_some(self.usage)
    }

    pub(crate) fn finish(self) -> Result<Reply, StreamError> {
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
            usage: self.usage,
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use crate::conversation::{Tool, Turn};

    fn decode(events: &[&str]) -> Result<Reply, StreamError> {
        let mut decoder = Decoder::default();
        for data in events {
            decoder.event(&Event {
                name: String::new(),
                data: (*data).into(),
            })?;
        }
        decoder.finish()
    }

    const START: &str = r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"output_tokens":1}}}"#;
    const END: &str = r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":33}}"#;

    #[test]
    fn a_stream_becomes_a_reply() {
        let reply = decode(&[
            START,
            r#"{"type":"ping"}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"I "}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"look."}}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t1","name":"read_file","input":{}}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"path\":"}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"\"a.py\"}"}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"t2","name":"list_files","input":{}}}"#,
            END,
            r#"{"type":"message_stop"}"#,
        ])
        .unwrap();
        let tool = |id: &str, name: &str, input: &str| Part::ToolUse {
            id: id.into(),
            name: name.into(),
            input: input.into(),
        };
        assert_eq!(
            reply,
            Reply {
                parts: vec![
                    Part::Text("I look.".into()),
                    tool("t1", "read_file", "{\"path\":\"a.py\"}"),
                    tool("t2", "list_files", "{}"),
                ],
                stop: Stop::ToolUse,
                usage: Usage {
                    input: 10,
                    output: 33,
                    cache_read: 7,
                    cache_write: 5
                },
            }
        );
    }

    #[test]
    fn what_breaks_off_or_makes_no_sense_is_no_reply() {
        let broken = |events: &[&str]| matches!(decode(events), Err(StreamError::Broken(_)));
        assert!(broken(&[]));
        assert!(broken(&[START]));
        assert!(broken(&[START, END]));
        assert!(broken(&[START, "{"]));
        assert!(broken(&[START, "[]"]));
        assert!(broken(&[
            START,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#
        ]));
        assert!(broken(&[
            r#"{"type":"content_block_start","index":99999999,"content_block":{"type":"text","text":""}}"#
        ]));
        let overloaded =
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert!(matches!(
            decode(&[START, overloaded]),
            Err(StreamError::Overloaded(_))
        ));
    }

    #[test]
    fn a_request_has_the_forms_that_the_api_wants() {
        let conversation = Conversation {
            system: Some("be brief".into()),
            turns: vec![
                Turn {
                    speaker: Speaker::User,
                    parts: vec![Part::Text("go".into())],
                },
                Turn {
                    speaker: Speaker::Assistant,
                    parts: vec![
                        Part::Text(String::new()),
                        Part::ToolUse {
                            id: "t".into(),
                            name: "f".into(),
                            input: "{oops".into(),
                        },
                    ],
                },
                Turn {
                    speaker: Speaker::User,
                    parts: vec![Part::ToolResult {
                        id: "t".into(),
                        text: "no".into(),
                        is_error: true,
                    }],
                },
            ],
            tools: vec![Tool {
                name: "f".into(),
                description: "d".into(),
                input_schema: "{\"type\":\"object\"}".into(),
            }],
            max_tokens: 100,
        };
        let body = request("m-1", &conversation);
        assert_eq!(
            body,
            json!({
                "model": "m-1", "max_tokens": 100, "stream": true,
                "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
                "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "go"}]},
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"unreadable": "{oops"}}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "no", "is_error": true, "cache_control": {"type": "ephemeral"}}]},
                ],
            })
        );
    }
}
