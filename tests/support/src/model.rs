//! A model provider that follows a script, in the wire formats of Anthropic Messages and OpenAI-compatible chat.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::http::{self, Request, Server, begin_stream, chunk, end_stream, whole};

/// What the model says.
#[derive(Debug, Clone)]
pub enum Say {
    /// Words.
    Text(String),
    /// A tool use: its name and its input.
    Tool(&'static str, Value),
}

/// How one request is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A whole answer.
    Says(Vec<Say>),
    /// The model stops for another reason than having said all, such as `max_tokens` or `refusal`.
    Stops(&'static str, Vec<Say>),
    /// An error, with the seconds of its `retry-after`, if any.
    Status(u16, Option<u32>, String),
    /// An error whose body is no JSON.
    Garbled(u16, String),
    /// The stream ends in the middle of the answer.
    BreaksOff(Vec<Say>),
    /// The stream says that the provider is overloaded.
    OverloadedInStream,
    /// A stream of events that are none.
    Garbage(String),
    /// Nothing at all, for ever: the connection just stays.
    Silence,
}

/// A request as the script sees it.
pub struct Turn<'a> {
    /// How many requests came before.
    pub number: usize,
    /// By which it is known to be one that came before.
    pub key: &'a str,
    /// The body.
    pub body: &'a Value,
    /// All texts that the user and the tools said last: what an obedient model would obey.
    pub last: String,
}

pub fn text(text: &str) -> Say {
    Say::Text(text.into())
}

/// Starts a provider. `script` answers each request.
pub fn provider(script: impl Fn(&Turn<'_>) -> Answer + Send + Sync + 'static) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |request, stream| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let turn = Turn {
            number: count.fetch_add(1, Ordering::SeqCst),
            key: request.header("idempotency-key").unwrap_or_default(),
            last: last_words(&body),
            body: &body,
        };
        let anthropic = request.target.ends_with("/v1/messages");
        answer(&script(&turn), anthropic, request, stream);
    })
}

/// Answers each request by the next of a list; the last one is repeated.
pub fn script(answers: Vec<Answer>) -> Server {
    provider(move |turn| answers[turn.number.min(answers.len() - 1)].clone())
}

fn last_words(body: &Value) -> String {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let after = messages
        .iter()
        .rposition(|message| message["role"] == "assistant")
        .map_or(0, |at| at + 1);
    let mut words = Vec::new();
    for message in &messages[after..] {
        match &message["content"] {
            Value::String(text) => words.push(text.clone()),
            Value::Array(parts) => words.extend(parts.iter().filter_map(|part| {
                part["text"]
                    .as_str()
                    .or(part["content"].as_str())
                    .map(str::to_owned)
            })),
            _ => {}
        }
    }
    words.join("\n")
}

fn answer(answer: &Answer, anthropic: bool, request: &Request, stream: &mut TcpStream) {
    assert_eq!(request.method, "POST");
    let events = |says: &[Say], stop: &str| {
        if anthropic {
            anthropic_events(says, stop)
        } else {
            openai_events(says, stop)
        }
    };
    match answer {
        Answer::Says(says) => {
            let tools = says.iter().any(|say| matches!(say, Say::Tool(..)));
            send(
                stream,
                &events(says, if tools { "tool_use" } else { "end_turn" }),
            );
        }
        Answer::Stops(stop, says) => send(stream, &events(says, stop)),
        Answer::Status(status, retry_after, message) => {
            let seconds = retry_after.map(|seconds| seconds.to_string());
            let headers: Vec<(&str, &str)> = seconds
                .iter()
                .map(|seconds| ("retry-after", seconds.as_str()))
                .collect();
            let body =
                json!({ "type": "error", "error": { "type": "stand_in", "message": message } });
            whole(stream, *status, &headers, &body.to_string());
        }
        Answer::Garbled(status, body) => whole(stream, *status, &[], body),
        Answer::BreaksOff(says) => {
            let events = events(says, "end_turn");
            begin_stream(stream);
            for event in &events[..events.len() * 2 / 3] {
                chunk(stream, event);
            }
        }
        Answer::OverloadedInStream => {
            let error = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
            send(stream, &[format!("event: error\ndata: {error}\n\n")]);
        }
        Answer::Garbage(text) => send(stream, std::slice::from_ref(text)),
        Answer::Silence => std::thread::park(),
    }
}

/// In small pieces that do not end where events do.
fn send(stream: &mut TcpStream, events: &[String]) {
    begin_stream(stream);
    let all: Vec<char> = events.concat().chars().collect();
    for piece in all.chunks(977) {
        http::chunk(stream, &String::from_iter(piece));
    }
    end_stream(stream);
}

fn anthropic_events(says: &[Say], stop: &str) -> Vec<String> {
    let event = |value: Value| {
        format!(
            "event: {}\ndata: {value}\n\n",
            value["type"].as_str().unwrap()
        )
    };
    let usage = json!({"input_tokens": 100, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 1000, "output_tokens": 4});
    let mut events = vec![
        event(
            json!({"type": "message_start", "message": {"id": "msg", "role": "assistant", "content": [], "usage": usage}}),
        ),
        event(json!({"type": "ping"})),
    ];
    for (index, say) in says.iter().enumerate() {
        let (block, delta) = match say {
            Say::Text(text) => (
                json!({"type": "text", "text": ""}),
                json!({"type": "text_delta", "text": text}),
            ),
            Say::Tool(name, input) => (
                json!({"type": "tool_use", "id": format!("toolu_{index}"), "name": name, "input": {}}),
                json!({"type": "input_json_delta", "partial_json": input.to_string()}),
            ),
        };
        events.push(event(
            json!({"type": "content_block_start", "index": index, "content_block": block}),
        ));
        events.push(event(
            json!({"type": "content_block_delta", "index": index, "delta": delta}),
        ));
        events.push(event(json!({"type": "content_block_stop", "index": index})));
    }
    events.push(event(json!({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 50}})));
    events.push(event(json!({"type": "message_stop"})));
    events
}

fn openai_events(says: &[Say], stop: &str) -> Vec<String> {
    let event = |value: Value| format!("data: {value}\n\n");
    let delta = |delta: Value| {
        event(
            json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]}),
        )
    };
    let mut events = vec![delta(json!({"role": "assistant", "content": ""}))];
    let mut tools = 0;
    for say in says {
        match say {
            Say::Text(text) => events.push(delta(json!({"content": text}))),
            Say::Tool(name, input) => {
                events.push(delta(json!({"tool_calls": [{"index": tools, "id": format!("call_{tools}"), "type": "function", "function": {"name": name, "arguments": ""}}]})));
                events.push(delta(json!({"tool_calls": [{"index": tools, "function": {"arguments": input.to_string()}}]})));
                tools += 1;
            }
        }
    }
    let reason = match stop {
        "tool_use" => "tool_calls",
        "max_tokens" => "length",
        "refusal" => "content_filter",
        _ => "stop",
    };
    events.push(event(
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}),
    ));
    events.push(event(json!({"choices": [], "usage": {"prompt_tokens": 1110, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 1000}}})));
    events.push("data: [DONE]\n\n".into());
    events
}
