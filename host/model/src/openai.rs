//! The wire format of OpenAI-compatible chat completions, as OpenAI, gateways, vLLM, llama.cpp and Ollama speak it.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::OutputLimit;
use crate::conversation::{Conversation, Part, Speaker, Turn, input_object, schema};
use crate::reply::{Assembly, Reply, Stop, StreamError, Usage};
use crate::sse::Event;

pub(crate) const PATH: &str = "chat/completions";

/// Writes the request.
pub(crate) fn request(model: &str, limit: OutputLimit, conversation: &Conversation) -> Value {
    let mut messages = Vec::new();
    if let Some(system) = conversation.system.as_ref().filter(|text| !text.is_empty()) {
        messages.push(json!({ "role": "system", "content": system }));
    }
    for turn in &conversation.turns {
        match turn.speaker {
            Speaker::User => user(turn, &mut messages),
            Speaker::Assistant => messages.push(assistant(turn)),
        }
    }
    let limit = match limit {
        OutputLimit::MaxTokens => "max_tokens",
        OutputLimit::MaxCompletionTokens => "max_completion_tokens",
    };
    let mut body = json!({
        "model": model,
        "stream": true,
        "stream_options": { "include_usage": true },
        "messages": messages,
    });
    body[limit] = json!(conversation.max_tokens);
    if !conversation.tools.is_empty() {
        let tools = conversation.tools.iter().map(|tool| {
            json!({ "type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": schema(&tool.input_schema),
            } })
        });
        body["tools"] = Value::from_iter(tools);
    }
    body
}

/// Tool results are messages of their own, before what else the user says.
fn user(turn: &Turn, messages: &mut Vec<Value>) {
    for part in &turn.parts {
        if let Part::ToolResult { id, text, is_error } = part {
            // The format has no mark for errors.
            let content = match is_error {
                true => format!("Error: {text}"),
                false => text.clone(),
            };
            messages.push(json!({ "role": "tool", "tool_call_id": id, "content": content }));
        }
    }
    let text = texts(turn);
    if !text.is_empty() {
        messages.push(json!({ "role": "user", "content": text }));
    }
}

fn assistant(turn: &Turn) -> Value {
    let calls: Vec<Value> = turn
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::ToolUse { id, name, input } => Some(json!({ "id": id, "type": "function",
                "function": { "name": name, "arguments": input_object(input).to_string() } })),
            _ => None,
        })
        .collect();
    let text = texts(turn);
    let mut message = json!({ "role": "assistant", "content": text });
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
        if text.is_empty() {
            message["content"] = Value::Null;
        }
    }
    message
}

fn texts(turn: &Turn) -> String {
    let texts: Vec<&str> = turn
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    texts.join("\n\n")
}

/// Puts a reply together from the events of one stream.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pub(crate) assembly: Assembly,
    usage: Option<Usage>,
    stop: Option<Stop>,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Counts>,
    error: Option<Trouble>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    index: Option<usize>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Counts {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<Cached>,
}

#[derive(Deserialize)]
struct Cached {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Trouble {
    Whole { message: String },
    Text(String),
}

/// The text is part 0; the calls of tools follow.
const TEXT: usize = 0;

impl Decoder {
    /// Takes an event; true when it is the last.
    pub(crate) fn event(&mut self, event: &Event) -> Result<bool, StreamError> {
        if event.data.trim() == "[DONE]" {
            return Ok(true);
        }
        let chunk: Chunk = serde_json::from_str(&event.data)
            .map_err(|error| StreamError::broken(format!("an event makes no sense: {error}")))?;
        if let Some(Trouble::Whole { message } | Trouble::Text(message)) = chunk.error {
            return Err(StreamError::Overloaded(message));
        }
        if let Some(counts) = chunk.usage {
            let cached = counts
                .prompt_tokens_details
                .and_then(|details| details.cached_tokens)
                .unwrap_or(0);
            self.usage = Some(Usage {
                input: counts.prompt_tokens.saturating_sub(cached),
                output: counts.completion_tokens,
                cache_read: cached,
                cache_write: 0,
            });
        }
        if let Some(choice) = chunk.choices.into_iter().next() {
            self.choice(choice)?;
        }
        Ok(false)
    }

    fn choice(&mut self, choice: Choice) -> Result<(), StreamError> {
        for text in [choice.delta.content, choice.delta.refusal.clone()]
            .into_iter()
            .flatten()
        {
            if !self.assembly.has(TEXT) {
                self.assembly.begin(TEXT, Part::Text(String::new()))?;
            }
            self.assembly.extend(TEXT, &text)?;
        }
        for call in choice.delta.tool_calls.into_iter().flatten() {
            self.call(call)?;
        }
        if choice.delta.refusal.is_some_and(|text| !text.is_empty()) {
            self.stop = Some(Stop::Refusal);
        }
        if let Some(reason) = choice.finish_reason
            && self.stop != Some(Stop::Refusal)
        {
            self.stop = Some(match reason.as_str() {
                "tool_calls" | "function_call" => Stop::ToolUse,
                "length" => Stop::MaxTokens,
                "content_filter" => Stop::Refusal,
                _ => Stop::EndTurn,
            });
        }
        Ok(())
    }

    /// Some servers send a call in one piece without an index, some without an id.
    fn call(&mut self, call: Call) -> Result<(), StreamError> {
        let function = call.function.unwrap_or(Function {
            name: None,
            arguments: None,
        });
        let next = (TEXT + 1..)
            .find(|index| !self.assembly.has(*index))
            .unwrap_or(TEXT + 1);
        let index = match call.index {
            Some(index) => index.saturating_add(TEXT + 1),
            None if function.name.is_some() => next,
            None => next.saturating_sub(1),
        };
        if !self.assembly.has(index) {
            let name = function
                .name
                .filter(|name| !name.is_empty())
                .ok_or_else(|| StreamError::broken("a tool call has no name"))?;
            let id = call
                .id
                .filter(|id| !id.is_empty())
                .unwrap_or_else(|| format!("call-{index}"));
            let input = String::new();
            self.assembly
                .begin(index, Part::ToolUse { id, name, input })?;
        }
        match function.arguments {
            Some(arguments) => self.assembly.extend(index, &arguments),
            None => Ok(()),
        }
    }

    /// What the call took, if the server said so.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// `reckoned` stands in where the server counts no tokens.
    pub(crate) fn finish(self, reckoned: Usage) -> Result<Reply, StreamError> {
        let stop = self
            .stop
            .ok_or_else(|| StreamError::broken("the stream ended before the answer did"))?;
        let parts = self.assembly.finish();
        let uses_tools = parts
            .iter()
            .any(|part| matches!(part, Part::ToolUse { .. }));
        Ok(Reply {
            // Some servers say "stop" although they call tools.
            stop: match stop {
                Stop::EndTurn if uses_tools => Stop::ToolUse,
                stop => stop,
            },
            parts,
            usage: self.usage.unwrap_or(reckoned),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    const RECKONED: Usage = Usage {
        input: 1,
        output: 2,
        cache_read: 0,
        cache_write: 0,
    };

    fn decode(events: &[&str]) -> Result<Reply, StreamError> {
        let mut decoder = Decoder::default();
        for data in events {
            let event = Event {
                name: String::new(),
                data: (*data).into(),
            };
            if decoder.event(&event)? {
                break;
            }
        }
        decoder.finish(RECKONED)
    }

    fn tool(id: &str, name: &str, input: &str) -> Part {
        Part::ToolUse {
            id: id.into(),
            name: name.into(),
            input: input.into(),
        }
    }

    #[test]
    fn a_stream_becomes_a_reply() {
        let reply = decode(&[
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            r#"{"choices":[{"delta":{"content":"I look."}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"read_file","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"path\":"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"a\"}"}},{"index":1,"id":"c2","function":{"name":"list_files","arguments":"{}"}}]}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":60}}}"#,
            "[DONE]",
        ])
        .unwrap();
        assert_eq!(
            reply,
            Reply {
                parts: vec![
                    Part::Text("I look.".into()),
                    tool("c1", "read_file", "{\"path\":\"a\"}"),
                    tool("c2", "list_files", "{}")
                ],
                stop: Stop::ToolUse,
                usage: Usage {
                    input: 40,
                    output: 20,
                    cache_read: 60,
                    cache_write: 0
                },
            }
        );
    }

    #[test]
    fn servers_that_leave_things_out_are_understood() {
        let reply = decode(&[
            r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"a","arguments":"{}"}},{"function":{"name":"b","arguments":"{}"}}]},"finish_reason":"stop"}]}"#,
        ])
        .unwrap();
        assert_eq!(
            reply.parts,
            [tool("call-1", "a", "{}"), tool("call-2", "b", "{}")]
        );
        assert_eq!((reply.stop, reply.usage), (Stop::ToolUse, RECKONED));
    }

    #[test]
    fn what_breaks_off_or_makes_no_sense_is_no_reply() {
        let hello = r#"{"choices":[{"delta":{"content":"hello"}}]}"#;
        for events in [
            &[][..],
            &[hello],
            &[hello, "[DONE]"],
            &["<html>"],
            &[
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}"#,
            ],
            &[
                r#"{"choices":[{"delta":{"tool_calls":[{"index":18446744073709551615,"function":{"name":"a"}}]}}]}"#,
            ],
        ] {
            assert!(
                matches!(decode(events), Err(StreamError::Broken(_))),
                "{events:?}"
            );
        }
        let error = r#"{"error":{"message":"busy","type":"server_error"}}"#;
        assert!(matches!(
            decode(&[hello, error]),
            Err(StreamError::Overloaded(_))
        ));
    }

    #[test]
    fn a_request_has_the_forms_that_servers_want() {
        let turn = |speaker, parts| Turn { speaker, parts };
        let conversation = Conversation {
            system: Some("be brief".into()),
            turns: vec![
                turn(Speaker::User, vec![Part::Text("go".into())]),
                turn(Speaker::Assistant, vec![tool("c", "f", "{\"a\":1}")]),
                turn(
                    Speaker::User,
                    vec![
                        Part::Text("and quickly".into()),
                        Part::ToolResult {
                            id: "c".into(),
                            text: "no".into(),
                            is_error: true,
                        },
                    ],
                ),
            ],
            tools: vec![],
            max_tokens: 9,
        };
        let body = request("m", OutputLimit::MaxCompletionTokens, &conversation);
        assert_eq!(
            body,
            json!({
                "model": "m", "stream": true, "stream_options": {"include_usage": true}, "max_completion_tokens": 9,
                "messages": [
                    {"role": "system", "content": "be brief"},
                    {"role": "user", "content": "go"},
                    {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
                    {"role": "tool", "tool_call_id": "c", "content": "Error: no"},
                    {"role": "user", "content": "and quickly"},
                ],
            })
        );
    }
}
