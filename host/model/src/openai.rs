//! The wire format of OpenAI-compatible chat completions, as OpenAI, gateways, vLLM, llama.cpp and Ollama speak it.

use std::collections::BTreeMap;

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
        .filter(|part| !part.says_nothing())
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
    /// Where the call with an index of the stream stands.
    calls: BTreeMap<usize, usize>,
    usage: Usage,
    stop: Option<Stop>,
}

#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Counts>,
    error: Option<Trouble>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct Delta {
    content: Option<Content>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

/// Most servers send a text; some send parts, thoughts among them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Value>),
}

impl Content {
    fn text(self) -> String {
        match self {
            Content::Text(text) => text,
            Content::Parts(parts) => parts
                .iter()
                .filter(|part| part["type"] == "text")
                .filter_map(|part| part["text"].as_str())
                .collect(),
        }
    }
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
    /// A text of JSON, or with some servers the JSON itself.
    arguments: Option<Value>,
}

#[derive(Deserialize)]
struct Counts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
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
            let input = counts.prompt_tokens.unwrap_or(0);
            let cached = counts
                .prompt_tokens_details
                .and_then(|details| details.cached_tokens)
                .unwrap_or(0)
                .min(input);
            self.usage = Usage {
                input: input - cached,
                output: counts.completion_tokens.unwrap_or(0),
                cache_read: cached,
                cache_write: 0,
            };
        }
        if let Some(choice) = chunk.choices.into_iter().flatten().next() {
            self.choice(choice)?;
        }
        Ok(false)
    }

    fn choice(&mut self, choice: Choice) -> Result<(), StreamError> {
        let delta = choice.delta.unwrap_or_default();
        for thought in [delta.reasoning_content, delta.reasoning].iter().flatten() {
            self.assembly.pass_over(thought);
        }
        for text in [delta.content.map(Content::text), delta.refusal.clone()]
            .into_iter()
            .flatten()
        {
            if !self.assembly.has(TEXT) {
                self.assembly.begin(TEXT, Part::Text(String::new()))?;
            }
            self.assembly.extend(TEXT, &text)?;
        }
        for call in delta.tool_calls.into_iter().flatten() {
            self.call(call)?;
        }
        if delta.refusal.is_some_and(|text| !text.is_empty()) {
            self.stop = Some(Stop::Refusal);
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty())
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

    /// Some servers send a call in one piece without an index, some without an id, and some give all calls the index 0.
    fn call(&mut self, call: Call) -> Result<(), StreamError> {
        let function = call.function.unwrap_or(Function {
            name: None,
            arguments: None,
        });
        let next = (TEXT + 1..)
            .find(|index| !self.assembly.has(*index))
            .unwrap_or(TEXT + 1);
        let id = call.id.unwrap_or_default();
        let index = match call.index {
            Some(index) => match self.calls.get(&index) {
                Some(known) if id.is_empty() || !self.assembly.has_other_id(*known, &id) => *known,
                _ => {
                    self.calls.insert(index, next);
                    next
                }
            },
            None if function.name.is_some() => next,
            None => next.saturating_sub(1),
        };
        if !self.assembly.has(index) {
            let name = function
                .name
                .filter(|name| !name.is_empty())
                .ok_or_else(|| StreamError::broken("a tool call has no name"))?;
            let id = match id.is_empty() {
                true => format!("call-{index}"),
                false => id,
            };
            let input = String::new();
            self.assembly
                .begin(index, Part::ToolUse { id, name, input })?;
        }
        match function.arguments {
            Some(Value::String(arguments)) => self.assembly.extend(index, &arguments),
            Some(arguments @ Value::Object(_)) => {
                self.assembly.extend(index, &arguments.to_string())
            }
            _ => Ok(()),
        }
    }

    /// What the call took so far; 0 where the server did not say.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    pub(crate) fn finish(self, usage: Usage) -> Result<Reply, StreamError> {
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
            usage,
        })
    }
}

#[cfg(test)]
mod tests;
