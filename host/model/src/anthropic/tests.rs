//! What Anthropic Messages sends and takes.
#![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
use super::*;
use crate::conversation::Tool;

fn decode(events: &[&str]) -> Result<Reply, StreamError> {
    let mut decoder = Decoder::default();
    for data in events {
        decoder.event(&Event {
            name: String::new(),
            data: (*data).into(),
        })?;
    }
    let usage = decoder.usage();
    decoder.finish(usage)
}

const START: &str = r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"output_tokens":1}}}"#;
const END: &str =
    r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":33}}"#;

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
fn the_last_event_ends_it_and_only_the_last_count_of_output_counts() {
    let mut decoder = Decoder::default();
    let mut take = |data: &str| {
        let last = decoder.event(&Event {
            name: String::new(),
            data: data.into(),
        });
        (
            last.unwrap(),
            decoder.usage().output,
            decoder.assembly.bytes,
        )
    };
    assert_eq!(take(START), (false, 0, 0));
    take(
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
    );
    assert_eq!(
        take(
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hmm"}}"#
        ),
        (false, 0, 3)
    );
    let uncounted = r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":null}"#;
    assert_eq!(take(uncounted), (false, 0, 3));
    assert_eq!(take(END), (false, 33, 3));
    assert_eq!(take(r#"{"type":"message_stop"}"#), (true, 33, 3));
}

#[test]
fn results_stand_first_and_tools_that_were_used_are_defined() {
    let used = Part::ToolUse {
        id: "t".into(),
        name: "f".into(),
        input: String::new(),
    };
    let result = Part::ToolResult {
        id: "t".into(),
        text: String::new(),
        is_error: false,
    };
    let text = |text: &str| Part::Text(text.into());
    let turn = |speaker, parts| Turn { speaker, parts };
    let conversation = Conversation {
        system: None,
        turns: vec![
            turn(Speaker::User, vec![text("go"), text(" \n")]),
            turn(Speaker::Assistant, vec![used]),
            turn(Speaker::User, vec![text("and quickly"), result]),
        ],
        tools: vec![],
        max_tokens: 9,
    };
    let body = request("m", &conversation);
    let kinds = |at: usize| {
        let parts = body["messages"][at]["content"].as_array().unwrap();
        parts
            .iter()
            .map(|part| part["type"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(0), ["text"]);
    assert_eq!(kinds(2), ["tool_result", "text"]);
    assert_eq!(
        body["tools"],
        json!([{"name": "f", "input_schema": {"type": "object"}}])
    );
    assert_eq!(body["tool_choice"], json!({"type": "none"}));
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
