//! Calls over the real wire formats, to a provider on loopback that fails in every way that providers do.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use std::sync::Mutex;
use std::time::Duration;

use model::{
    Backoff, Config, Conversation, Exchange, Heard, ModelError, Models, Part, Refusal, Speaker,
    Stop, Till, Tool, Turn, Usage,
};
use serde_json::{Value, json};
use support::http::Server;
use support::model::{Answer, Say, script, text};

const QUICK: Backoff = Backoff {
    base: Duration::from_millis(2),
    longest: Duration::from_millis(10),
    patience: Duration::from_secs(5),
    calls: 4,
    broken_calls: 2,
};

const KEY: &str = "sk-canary-93cf";

fn models(server: &Server, api: &str, key_file: &std::path::Path) -> Models {
    std::fs::write(key_file, format!("{KEY}\n")).unwrap();
    let path = if api == "openai" { "/v1" } else { "" };
    let config = format!(
        "[provider.p]\napi = \"{api}\"\nurl = \"http://127.0.0.1:{}{path}\"\nkey-file = {:?}\n\
         [model.m]\nprovider = \"p\"\nid = \"vendor-1\"\ncontext-tokens = 1000\noutput-tokens = 100\nprice = {{ input = 1, output = 2 }}\n",
        server.port, key_file
    );
    Models::new(Config::parse(&config, "models.toml").unwrap(), QUICK)
}

fn conversation() -> Conversation {
    Conversation {
        system: Some("be brief".into()),
        turns: vec![Turn {
            speaker: Speaker::User,
            parts: vec![Part::Text("hello".into())],
        }],
        tools: vec![Tool {
            name: "look".into(),
            description: "looks".into(),
            input_schema: "{\"type\":\"object\"}".into(),
        }],
        max_tokens: 77,
    }
}

/// A till that lets so many calls pass; without a number, all.
#[derive(Default)]
struct Purse {
    calls_max: Option<usize>,
    waits: Mutex<usize>,
    log: Mutex<Vec<Option<Usage>>>,
}

impl Till for Purse {
    fn open(&self) -> Result<(), Refusal> {
        let mut log = self.log.lock().unwrap();
        if self.calls_max.is_some_and(|most| log.len() / 2 >= most) {
            return Err(Refusal::OutOfBudget);
        }
        log.push(None);
        Ok(())
    }

    fn close(&self, took: &Usage) -> Result<(), String> {
        self.log.lock().unwrap().push(Some(*took));
        Ok(())
    }

    fn heard(&self, heard: Heard<'_>) {
        if let Heard::Waiting { .. } = heard {
            *self.waits.lock().unwrap() += 1;
        }
    }
}

struct Called {
    exchange: Exchange,
    server: Server,
    waits: usize,
    /// What was set aside and what was taken, in order.
    log: Vec<Option<Usage>>,
}

fn call(api: &str, answers: Vec<Answer>) -> Called {
    call_with(api, answers, Purse::default())
}

fn call_with(api: &str, answers: Vec<Answer>, till: Purse) -> Called {
    let dir = tempfile::tempdir().unwrap();
    let server = script(answers);
    let models = models(&server, api, &dir.path().join("key"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let exchange = runtime.block_on(models.chat("m", &conversation(), &till));
    let (waits, log) = (
        *till.waits.lock().unwrap(),
        till.log.lock().unwrap().clone(),
    );
    Called {
        exchange,
        server,
        waits,
        log,
    }
}

fn good() -> Answer {
    Answer::Says(vec![text("done"), Say::Tool("look", json!({"at": "ünï"}))])
}

#[test]
fn both_apis_give_the_same_reply_and_get_the_key_in_their_header() {
    for (api, target, header, value) in [
        ("anthropic", "/v1/messages", "x-api-key", KEY.to_owned()),
        (
            "openai",
            "/v1/chat/completions",
            "authorization",
            format!("Bearer {KEY}"),
        ),
    ] {
        let called = call(api, vec![good()]);
        let reply = called.exchange.reply.unwrap();
        assert_eq!(reply.parts.len(), 2, "{api}");
        assert_eq!(reply.parts[0], Part::Text("done".into()));
        let Part::ToolUse { name, input, .. } = &reply.parts[1] else {
            panic!("{api}: {:?}", reply.parts)
        };
        assert_eq!(
            (name.as_str(), serde_json::from_str::<Value>(input).unwrap()),
            ("look", json!({"at": "ünï"}))
        );
        assert_eq!(reply.stop, Stop::ToolUse);
        assert_eq!(called.exchange.usage.tokens(), 1160, "{api}");
        assert_eq!((called.exchange.calls, called.waits), (1, 0));
        let seen = called.server.seen();
        assert_eq!(seen[0].target, target);
        assert_eq!(seen[0].header(header), Some(value.as_str()));
        let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
        assert_eq!(
            (body["model"].as_str(), body["max_tokens"].as_u64()),
            (Some("vendor-1"), Some(77))
        );
        assert!(!String::from_utf8_lossy(&seen[0].body).contains(KEY));
    }
}

#[test]
fn overload_is_waited_for_and_paid_once() {
    for api in ["anthropic", "openai"] {
        let called = call(
            api,
            vec![
                Answer::Status(529, None, "Overloaded".into()),
                Answer::Status(429, Some(0), "slowly".into()),
                Answer::OverloadedInStream,
                good(),
            ],
        );
        assert!(called.exchange.reply.is_ok(), "{:?}", called.exchange);
        assert_eq!((called.exchange.calls, called.waits), (4, 3));
    }
}

#[test]
fn overload_without_end_is_an_error_after_a_bounded_number_of_calls() {
    let called = call(
        "anthropic",
        vec![Answer::Status(529, None, "Overloaded".into())],
    );
    assert_eq!(
        called.exchange.reply,
        Err(ModelError::Unavailable {
            calls: 4,
            last: "status 529: Overloaded".into()
        })
    );
    assert_eq!(
        (called.server.seen().len(), called.exchange.usage),
        (4, Usage::default())
    );
    let later = call(
        "openai",
        vec![Answer::Status(503, Some(9999), "later".into())],
    );
    assert!(matches!(
        later.exchange.reply,
        Err(ModelError::Unavailable { calls: 1, .. })
    ));
}

#[test]
fn answers_that_break_off_are_counted_and_given_up_soon() {
    for api in ["anthropic", "openai"] {
        let broken = || Answer::BreaksOff(vec![text(&"x".repeat(300)), text("y")]);
        let called = call(api, vec![broken(), good()]);
        assert!(called.exchange.reply.is_ok(), "{:?}", called.exchange);
        assert!(
            called.exchange.usage.tokens() > 1160,
            "{api}: what broke off is paid for as well"
        );
        let called = call(api, vec![broken()]);
        assert!(
            matches!(
                called.exchange.reply,
                Err(ModelError::Broken { calls: 2, .. })
            ),
            "{:?}",
            called.exchange
        );
    }
}

/// A count of output that stands at the beginning of a stream is not that of the whole.
#[test]
fn what_broke_off_is_reckoned_by_what_came() {
    for api in ["anthropic", "openai"] {
        let broken = || Answer::BreaksOff(vec![text(&"x".repeat(3000)), text("y"), text("z")]);
        let log = call(api, vec![broken(), good()]).log;
        let took = log[1].unwrap();
        assert!(
            took.output >= 1000 && took.tokens() > took.output,
            "{api}: {took:?}"
        );
    }
}

/// Some servers that speak either format count nothing.
#[test]
fn where_nothing_is_counted_tokens_are_reckoned_from_bytes() {
    let uncounted = [
        (
            "anthropic",
            "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}}\n\n\
            data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"hello there\"}}\n\n\
            data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
        (
            "openai",
            ": a comment\r\n\r\ndata:\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"hello there\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}}\r\n\r\ndata: [DONE]\r\n\r\n",
        ),
    ];
    for (api, stream) in uncounted {
        let called = call(api, vec![Answer::Garbage(stream.into())]);
        let usage = called.exchange.reply.unwrap().usage;
        assert!(usage.input > 0 && usage.output == 4, "{api}: {usage:?}");
        assert_eq!(called.log, [None, Some(usage)]);
    }
}

/// Money is set aside for each call, not once for all of them: three answers that break off cost three.
#[test]
fn every_call_is_set_aside_before_and_settled_after() {
    let broken = || Answer::BreaksOff(vec![text(&"x".repeat(300)), text("y")]);
    let called = call("anthropic", vec![broken(), good()]);
    assert!(
        matches!(called.log.as_slice(), [None, Some(_), None, Some(_)]),
        "{:?}",
        called.log
    );
    let till = Purse {
        calls_max: Some(1),
        ..Purse::default()
    };
    let called = call_with("anthropic", vec![broken(), good()], till);
    assert!(matches!(
        called.exchange.reply,
        Err(ModelError::OutOfBudget { .. })
    ));
    assert_eq!((called.server.seen().len(), called.exchange.calls), (1, 1));
}

#[test]
fn what_is_larger_than_the_context_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let server = script(vec![good()]);
    let models = models(&server, "anthropic", &dir.path().join("key"));
    let mut large = conversation();
    large.turns[0].parts = vec![Part::Text("word ".repeat(1000))];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let exchange = runtime.block_on(models.chat("m", &large, &Purse::default()));
    assert!(matches!(exchange.reply, Err(ModelError::Invalid { .. })));
    assert_eq!((server.seen().len(), exchange.calls), (0, 0));
}

#[test]
fn garbage_is_broken() {
    for garbage in [
        "data: {\"type\": \"message_start\"",
        "data: {}\n\n",
        "<html>hello</html>",
        "data: null\n\n",
        "",
        "data: {\"choices\": 7}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ] {
        for api in ["anthropic", "openai"] {
            let called = call(api, vec![Answer::Garbage(garbage.into())]);
            assert!(
                matches!(called.exchange.reply, Err(ModelError::Broken { .. })),
                "{api} {garbage:?}: {:?}",
                called.exchange
            );
        }
    }
}

#[test]
fn what_would_fail_again_is_not_called_again() {
    let refused = |status, message: &str| {
        let called = call(
            "anthropic",
            vec![Answer::Status(status, None, message.into())],
        );
        assert_eq!(called.server.seen().len(), 1, "{status}");
        called.exchange.reply.unwrap_err()
    };
    assert!(matches!(
        refused(401, "bad key"),
        ModelError::Unauthorised { status: 401, .. }
    ));
    assert!(matches!(
        refused(429, "insufficient_quota"),
        ModelError::Unauthorised { .. }
    ));
    assert!(matches!(
        refused(400, "Your credit balance is too low to go on"),
        ModelError::Unauthorised { .. }
    ));
    assert!(matches!(refused(400, "no"), ModelError::Invalid { .. }));
    assert!(matches!(refused(404, "no"), ModelError::Setup { .. }));
    assert!(matches!(refused(302, "there"), ModelError::Setup { .. }));
}

#[test]
fn a_provider_that_repeats_the_key_does_not_bring_it_back() {
    let error = call(
        "anthropic",
        vec![Answer::Status(401, None, format!("key {KEY} is unknown"))],
    );
    let error = error.exchange.reply.unwrap_err();
    assert!(!format!("{error} {error:?}").contains(KEY), "{error}");
    let echo = Answer::Says(vec![
        text(&format!("your key is {KEY}")),
        Say::Tool("look", json!({"key": KEY})),
    ]);
    for api in ["anthropic", "openai"] {
        let called = call(api, vec![echo.clone()]);
        let reply = format!("{:?}", called.exchange.reply.unwrap());
        assert!(
            !reply.contains(KEY) && reply.contains("[secret]"),
            "{reply}"
        );
    }
}

/// The key in base64, but for what shares bits with what stands beside it.
const BASE64: &str = "c2stY2FuYXJ5LTkzY2";

/// The key as a provider may give it back, and what of it must not come through.
fn spellings() -> Vec<(String, String)> {
    let each = |spell: fn(u8) -> String| KEY.bytes().map(spell).collect::<String>();
    let hex = each(|byte| format!("{byte:02x}"));
    let percent = each(|byte| format!("%{byte:02X}"));
    vec![
        (format!("{BASE64}Y="), BASE64.into()),
        (hex.to_uppercase(), hex.to_uppercase()),
        (hex.clone(), hex),
        (percent.clone(), percent),
    ]
}

#[test]
fn a_key_comes_back_in_no_spelling_and_from_no_cut() {
    for (spelling, core) in spellings() {
        let echo = Answer::Says(vec![
            text(&format!("your key is {spelling}")),
            Say::Tool("look", json!({"key": spelling})),
        ]);
        let unknown = Answer::Status(401, None, format!("key {spelling} is unknown"));
        for api in ["anthropic", "openai"] {
            let reply = format!(
                "{:?}",
                call(api, vec![echo.clone()]).exchange.reply.unwrap()
            );
            assert!(!reply.contains(&core), "{reply}");
            assert_eq!(reply.matches("[secret]").count(), 2, "{reply}");
            let error = call(api, vec![unknown.clone()]).exchange.reply.unwrap_err();
            let error = format!("{error} {error:?}");
            assert!(
                !error.contains(&core) && error.contains("[secret]"),
                "{error}"
            );
        }
    }
    // Word by word: no piece of the stream holds it, and what is put together does.
    let (one, other) = KEY.split_at(7);
    let words = Answer::Says(vec![text("it is "), text(one), text(other), text(".")]);
    let reply = format!("{:?}", call("openai", vec![words]).exchange.reply.unwrap());
    assert!(reply.contains("it is [secret]."), "{reply}");
    // Across the place where an error is cut off.
    for length in 1..KEY.len() {
        let blank = " ".repeat(16 * 1024 - "key ".len() - length);
        let cut = call(
            "openai",
            vec![Answer::Garbled(401, format!("key {blank}{KEY} is unknown"))],
        );
        let error = format!("{:?}", cut.exchange.reply.unwrap_err());
        assert!(!error.contains("sk"), "{length}: {error}");
    }
}

#[test]
fn keys_are_known_before_any_call_and_are_the_same_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let server = script(vec![good()]);
    let models = models(&server, "openai", &path);
    std::fs::remove_file(&path).unwrap();
    assert!(models.keys().is_empty(), "what is not there is not known");
    std::fs::write(&path, KEY).unwrap();
    let known = models.keys();
    assert_eq!(known.len(), 1);
    assert!(
        known[0].hosts.is_empty(),
        "no guest's request takes it anywhere"
    );
    // The call is made with the key that is looked out for, whatever the file says by then.
    std::fs::write(&path, "sk-another-key").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let called = runtime.block_on(models.chat("m", &conversation(), &Purse::default()));
    assert!(called.reply.is_ok());
    let bearer = format!("Bearer {KEY}");
    assert_eq!(
        server.seen()[0].header("authorization"),
        Some(bearer.as_str())
    );
    assert!(std::sync::Arc::ptr_eq(&known[0], &models.keys()[0]));
}

#[test]
fn limits_and_refusals_are_told_apart() {
    for api in ["anthropic", "openai"] {
        for (stop, wanted) in [("max_tokens", Stop::MaxTokens), ("refusal", Stop::Refusal)] {
            let called = call(api, vec![Answer::Stops(stop, vec![text("well")])]);
            assert_eq!(called.exchange.reply.unwrap().stop, wanted, "{api}");
        }
    }
}

#[test]
fn nobody_there_and_nothing_configured_are_errors_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let server = script(vec![good()]);
    let key = dir.path().join("key");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let known = models(&server, "openai", &key);
    let ask = |models: &Models, name: &str| {
        runtime
            .block_on(models.chat(name, &conversation(), &Purse::default()))
            .reply
            .unwrap_err()
    };
    assert!(matches!(
        ask(&known, "other"),
        ModelError::NotConfigured { .. }
    ));
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(ask(&known, "m"), ModelError::Setup { .. }));
    assert!(server.seen().is_empty());
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let text = format!(
        "[provider.p]\napi = \"openai\"\nurl = \"http://127.0.0.1:{closed}\"\n[model.m]\nprovider = \"p\"\nid = \"x\"\ncontext-tokens = 1000\noutput-tokens = 100\nprice = {{ input = 0, output = 0 }}\n"
    );
    let nobody = Models::new(Config::parse(&text, "models.toml").unwrap(), QUICK);
    assert!(matches!(
        ask(&nobody, "m"),
        ModelError::Unavailable { calls: 4, .. }
    ));
}
