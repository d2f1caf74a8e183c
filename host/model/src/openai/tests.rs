//! What OpenAI-compatible servers send and take.
#![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
use super::*;

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
    let usage = decoder.usage();
    decoder.finish(usage)
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
    assert_eq!((reply.stop, reply.usage), (Stop::ToolUse, Usage::default()));
}

#[test]
fn calls_that_share_an_index_are_told_apart_by_their_ids() {
    let reply = decode(&[
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"x","function":{"name":"a","arguments":"{\"n\":"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"x","function":{"arguments":"1}"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"y","function":{"name":"b","arguments":"{\"n\":"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"2}"}}]},"finish_reason":"tool_calls"}]}"#,
    ])
    .unwrap();
    assert_eq!(
        reply.parts,
        [tool("x", "a", "{\"n\":1}"), tool("y", "b", "{\"n\":2}")]
    );
}

#[test]
fn servers_that_send_other_forms_are_understood() {
    let reply = decode(&[
        r#"{"choices":null,"usage":null}"#,
        r#"{"choices":[{"delta":{"reasoning_content":"hmm"},"finish_reason":""}]}"#,
        r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[]},{"type":"text","text":"yes"}]}}]}"#,
        r#"{"choices":[{"delta":{"content":null,"tool_calls":[{"index":0,"id":"x","function":{"name":"a","arguments":{"n":1}}}]}}]}"#,
        r#"{"choices":[{"delta":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":5,"completion_tokens":null,"prompt_tokens_details":{"cached_tokens":9}}}"#,
    ])
    .unwrap();
    assert_eq!(
        reply.parts,
        [Part::Text("yes".into()), tool("x", "a", "{\"n\":1}")]
    );
    assert_eq!((reply.usage.input, reply.usage.cache_read), (0, 5));
    let open = [
        r#"{"choices":[{"delta":{"content":"half"},"finish_reason":""}]}"#,
        "[DONE]",
    ];
    assert!(matches!(decode(&open), Err(StreamError::Broken(_))));
}

#[test]
fn what_breaks_off_or_makes_no_sense_is_no_reply() {
    let hello = r#"{"choices":[{"delta":{"content":"hello"}}]}"#;
    for events in [
        &[][..],
        &[hello],
        &[hello, "[DONE]"],
        &["<html>"],
        &[r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}"#],
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
