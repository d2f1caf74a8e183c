//! One call of a model: through its provider's door, again while that helps, and with everything it took counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use egress::{Body, BoundSecret, Credential, Door, EgressError, InvalidSecret, Response, Secret};

use crate::config::{Api, Config, KeySource, ModelSpec, Provider};
use crate::conversation::{Conversation, Part};
use crate::error::ModelError;
use crate::reply::{Reply, StreamError, Usage};
use crate::retry::Backoff;
use crate::sse::{Event, Parser};
use crate::till::{Heard, Refusal, Till};
use crate::{anthropic, openai};

/// Of an error's body; the message stands at its beginning.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// Of a provider's words, in an error.
const MESSAGE_CHARS_MAX: usize = 300;

/// The models of this machine.
#[derive(Debug)]
pub struct Models {
    config: Config,
    backoff: Backoff,
    keys: Mutex<BTreeMap<String, Arc<BoundSecret>>>,
    doors: Mutex<BTreeMap<String, Arc<Door>>>,
}

/// How a call ended and what it took, with all calls that were made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The answer.
    pub reply: Result<Reply, ModelError>,
    /// Tokens of all calls; for those that broke off, as far as the provider said, and reckoned beyond that.
    pub usage: Usage,
    /// Calls that were made.
    pub calls: u32,
}

/// Why one call gave no answer.
enum Failed {
    /// The same call may go well.
    Again {
        why: String,
        retry_after: Option<Duration>,
        /// It was under way, and is paid for.
        paid: bool,
    },
    /// It would fail the same way.
    Never(ModelError),
}

impl Models {
    /// Knows the models of a configuration; keys are read when they are first needed.
    pub fn new(config: Config, backoff: Backoff) -> Models {
        Models {
            config,
            backoff,
            keys: Mutex::default(),
            doors: Mutex::default(),
        }
    }

    /// A model by its name.
    pub fn find(&self, model: &str) -> Option<&ModelSpec> {
        self.config.models.get(model)
    }

    /// Whether a request that its provider has had already, by its key, costs nothing a second time.
    pub fn charges_once(&self, spec: &ModelSpec) -> bool {
        let provider = self.config.providers.get(&spec.provider);
        provider.is_some_and(|provider| provider.charges_once)
    }

    /// Names of all models, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.config.models.keys().map(String::as_str)
    }

    /// Whether a model could be called: its provider's key and certificates are there. Calls nobody.
    ///
    /// # Errors
    /// [`ModelError::NotConfigured`], [`ModelError::Setup`].
    pub fn check(&self, model: &str) -> Result<(), ModelError> {
        self.way_to(model).map(|_| ())
    }

    /// Sends a conversation and waits for the whole answer.
    pub async fn chat(
        &self,
        model: &str,
        conversation: &Conversation,
        till: &dyn Till,
    ) -> Exchange {
        let mut exchange = Exchange {
            reply: Err(ModelError::NotConfigured {
                model: model.into(),
            }),
            usage: Usage::default(),
            calls: 0,
        };
        let way = conversation
            .check()
            .and_then(|()| self.way_to(model))
            .and_then(|way| conversation.check_fits(way.1.context_tokens).map(|()| way));
        exchange.reply = match way {
            Ok((provider, spec, door)) => {
                let call = Call {
                    provider,
                    spec,
                    door: &door,
                    conversation,
                    till,
                };
                self.persist(&call, &mut exchange.usage, &mut exchange.calls)
                    .await
            }
            Err(error) => Err(error),
        };
        exchange
    }

    async fn persist(
        &self,
        call: &Call<'_>,
        usage: &mut Usage,
        calls: &mut u32,
    ) -> Result<Reply, ModelError> {
        let mut paid_calls = 0;
        let mut last = String::new();
        loop {
            call.till.open().map_err(|refusal| match refusal {
                Refusal::OutOfBudget => ModelError::OutOfBudget { last },
                Refusal::Unrecorded(why) => ModelError::Unrecorded { why },
            })?;
            *calls += 1;
            let (came, took) = call.once().await;
            *usage = usage.plus(took);
            let closed = call.till.close(&took);
            closed.map_err(|why| ModelError::Unrecorded { why })?;
            let (why, retry_after, paid) = match came {
                Ok(reply) => return Ok(reply),
                Err(Failed::Never(error)) => return Err(error),
                Err(Failed::Again {
                    why,
                    retry_after,
                    paid,
                }) => (why, retry_after, paid),
            };
            paid_calls += u32::from(paid);
            let calls = *calls;
            if paid_calls >= self.backoff.broken_calls {
                return Err(ModelError::Broken { calls, last: why });
            }
            let pause = self.backoff.pause(calls, retry_after, rand::random());
            let Some(pause) = pause.filter(|_| calls < self.backoff.calls) else {
                return Err(ModelError::Unavailable { calls, last: why });
            };
            tracing::info!(model = call.spec.id, why, ?pause, "calling again");
            call.till.heard(Heard::Waiting { why: &why, pause });
            tokio::time::sleep(pause).await;
            last = why;
        }
    }

    /// The keys of all providers, as far as they are there: what none of a guest's requests may hold. They are read now if no call has read them.
    pub fn keys(&self) -> Vec<Arc<BoundSecret>> {
        let providers = self.config.providers.iter();
        providers
            .filter_map(|(name, provider)| self.key(name, provider).ok().flatten())
            .collect()
    }

    /// A provider's key, read once; none where it wants none.
    fn key(
        &self,
        name: &str,
        provider: &Provider,
    ) -> Result<Option<Arc<BoundSecret>>, InvalidSecret> {
        let Some(source) = &provider.key else {
            return Ok(None);
        };
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = keys.get(name) {
            return Ok(Some(Arc::clone(key)));
        }
        let secret = match source {
            KeySource::Env(name) => Secret::from_env(name),
            KeySource::File(path) => Secret::from_file(path),
        }?;
        // Its provider's door alone sends it: no request of a guest may take it anywhere.
        let key = Arc::new(BoundSecret {
            secret,
            hosts: vec![],
        });
        keys.insert(name.to_owned(), Arc::clone(&key));
        Ok(Some(key))
    }

    fn way_to(&self, model: &str) -> Result<(&Provider, &ModelSpec, Arc<Door>), ModelError> {
        let spec = self.find(model).ok_or_else(|| ModelError::NotConfigured {
            model: model.into(),
        })?;
        let name = &spec.provider;
        let provider =
            self.config
                .providers
                .get(name)
                .ok_or_else(|| ModelError::NotConfigured {
                    model: model.into(),
                })?;
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(door) = doors.get(name) {
            return Ok((provider, spec, door.clone()));
        }
        let key = self.key(name, provider).map_err(|error| error.to_string());
        let door = key.and_then(|key| open(provider, key.as_deref()));
        let door = Arc::new(door.map_err(|why| ModelError::Setup {
            provider: name.clone(),
            why,
        })?);
        doors.insert(name.clone(), door.clone());
        Ok((provider, spec, door))
    }
}

fn open(provider: &Provider, key: Option<&BoundSecret>) -> Result<Door, String> {
    let credential = key
        .map(|key| Credential::new(&provider.key_header, &provider.key_format, &key.secret))
        .transpose()
        .map_err(|error| error.to_string())?;
    let authorities = provider
        .ca_file
        .as_ref()
        .map(|path| {
            std::fs::read(path)
                .map_err(|error| format!("{} cannot be read: {error}", path.display()))
        })
        .transpose()?;
    Door::open(
        provider.endpoint.clone(),
        credential,
        authorities.as_deref(),
    )
    .map_err(|error| error.to_string())
}

/// One conversation with one model.
struct Call<'a> {
    provider: &'a Provider,
    spec: &'a ModelSpec,
    door: &'a Door,
    conversation: &'a Conversation,
    till: &'a dyn Till,
}

enum Decoder {
    Anthropic(anthropic::Decoder),
    Openai(openai::Decoder),
}

impl Call<'_> {
    /// Makes one call and says what it took, whatever came of it.
    async fn once(&self) -> (Result<Reply, Failed>, Usage) {
        let (path, headers, body) = match self.provider.api {
            Api::Anthropic => (
                anthropic::PATH,
                anthropic::HEADERS,
                anthropic::request(&self.spec.id, self.conversation),
            ),
            Api::Openai => (
                openai::PATH,
                &[][..],
                openai::request(&self.spec.id, self.provider.output_limit, self.conversation),
            ),
        };
        let key = self.till.key();
        let mut headers = headers.to_vec();
        headers.extend(key.as_deref().map(|key| ("idempotency-key", key)));
        let answered = self
            .door
            .post(path, &headers, body.to_string().into_bytes())
            .await;
        let response = match answered {
            Ok(response) if response.status == 200 => response,
            Ok(response) => return (Err(self.refused(response).await), Usage::default()),
            Err(error) => return self.unanswered(&error),
        };
        let mut decoder = match self.provider.api {
            Api::Anthropic => Decoder::Anthropic(anthropic::Decoder::default()),
            Api::Openai => Decoder::Openai(openai::Decoder::default()),
        };
        let read = self.read(response.body, &mut decoder).await;
        let (counted, begun) = (decoder.counted(), decoder.bytes() > 0);
        let reckoned = decoder.reckoned(self.conversation);
        let (why, paid) = match read.and_then(|()| decoder.finish(reckoned)) {
            Ok(reply) => return (Ok(self.scrubbed(reply)), reckoned),
            Err(StreamError::Overloaded(why)) => (why, begun),
            Err(StreamError::Broken(why)) => (why, true),
        };
        let failed = Failed::Again {
            why: self.words(&why),
            retry_after: None,
            paid,
        };
        (Err(failed), if paid { reckoned } else { counted })
    }

    /// No answer began. Unless the provider was never reached, it may have read all of the input.
    fn unanswered(&self, error: &EgressError) -> (Result<Reply, Failed>, Usage) {
        let paid = !matches!(error, EgressError::Unreachable { .. });
        let failed = Failed::Again {
            why: error.to_string(),
            retry_after: None,
            paid,
        };
        let input = self.conversation.input_tokens_reckoned();
        let usage = Usage {
            input: if paid { input } else { 0 },
            ..Usage::default()
        };
        (Err(failed), usage)
    }

    async fn read(&self, mut body: Body, decoder: &mut Decoder) -> Result<(), StreamError> {
        let mut parser = Parser::default();
        loop {
            let chunk = body.chunk().await;
            let chunk = chunk.map_err(|error| StreamError::broken(error.to_string()))?;
            let Some(chunk) = chunk else { return Ok(()) };
            for event in parser.push(&chunk)? {
                // Some proxies keep the line open by events without data.
                if event.data.trim().is_empty() {
                    continue;
                }
                if decoder.event(&event)? {
                    return Ok(());
                }
            }
            self.till.heard(Heard::Receiving {
                bytes: decoder.bytes(),
            });
        }
    }

    /// An answer that is an error.
    async fn refused(&self, response: Response) -> Failed {
        let status = response.status;
        let retry_after = response.retry_after;
        let body = response.body.beginning(ERROR_BYTES_MAX).await;
        let message = self.words(&message(&body));
        let provider = self.spec.provider.clone();
        // Some providers tell an empty account by the status for "too fast", some by the one for "malformed".
        let out_of_credit =
            body.contains("insufficient_quota") || body.contains("credit balance is too low");
        match status {
            401..=403 => Failed::Never(ModelError::Unauthorised {
                provider,
                status,
                message,
            }),
            400 | 429 if out_of_credit => Failed::Never(ModelError::Unauthorised {
                provider,
                status,
                message,
            }),
            408 | 409 | 425 | 429 | 500.. => Failed::Again {
                why: format!("status {status}: {message}"),
                retry_after,
                paid: false,
            },
            400 | 413 | 422 => Failed::Never(ModelError::Invalid {
                why: format!("status {status}: {message}"),
            }),
            _ => Failed::Never(ModelError::Setup {
                provider,
                why: format!(
                    "{} answers with status {status}: {message}",
                    self.provider.endpoint.as_str()
                ),
            }),
        }
    }

    /// A provider's words: without the key, on one line, cut.
    fn words(&self, text: &str) -> String {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.door
            .scrub(&line)
            .chars()
            .take(MESSAGE_CHARS_MAX)
            .collect()
    }

    /// A provider that repeats the key does not bring it to the guest.
    fn scrubbed(&self, reply: Reply) -> Reply {
        let scrub = |text: String| self.door.scrub(&text);
        let parts = reply
            .parts
            .into_iter()
            .map(|part| match part {
                Part::Text(text) => Part::Text(scrub(text)),
                Part::ToolUse { id, name, input } => Part::ToolUse {
                    id: scrub(id),
                    name: scrub(name),
                    input: scrub(input),
                },
                other @ Part::ToolResult { .. } => other,
            })
            .collect();
        Reply { parts, ..reply }
    }
}

impl Decoder {
    /// True when the stream is done.
    fn event(&mut self, event: &Event) -> Result<bool, StreamError> {
        match self {
            Decoder::Anthropic(decoder) => decoder.event(event),
            Decoder::Openai(decoder) => decoder.event(event),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Decoder::Anthropic(decoder) => decoder.assembly.bytes,
            Decoder::Openai(decoder) => decoder.assembly.bytes,
        }
    }

    /// What the provider counted so far; 0 where it did not.
    fn counted(&self) -> Usage {
        match self {
            Decoder::Anthropic(decoder) => decoder.usage(),
            Decoder::Openai(decoder) => decoder.usage(),
        }
    }

    /// What the call took: as the provider counts, or reckoned from the bytes where it did not (yet).
    fn reckoned(&self, conversation: &Conversation) -> Usage {
        let assembly = match self {
            Decoder::Anthropic(decoder) => &decoder.assembly,
            Decoder::Openai(decoder) => &decoder.assembly,
        };
        let mut usage = self.counted();
        if usage.tokens() == usage.output {
            usage.input = conversation.input_tokens_reckoned();
        }
        if usage.output == 0 {
            usage.output = assembly.tokens_reckoned();
        }
        usage
    }

    fn finish(self, usage: Usage) -> Result<Reply, StreamError> {
        match self {
            Decoder::Anthropic(decoder) => decoder.finish(usage),
            Decoder::Openai(decoder) => decoder.finish(usage),
        }
    }
}

/// The message of an error's body, in the form that both APIs and most gateways have, or the body itself.
fn message(body: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(body).ok();
    parsed
        .as_ref()
        .and_then(|value| {
            let error = value.get("error").unwrap_or(value);
            error
                .get("message")
                .or_else(|| value.get("detail"))
                .or(Some(error))
        })
        .and_then(|value| value.as_str())
        .unwrap_or(body)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn messages_are_found_in_the_usual_places() {
        for (body, wanted) in [
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                "Overloaded",
            ),
            (r#"{"error":{"message":"bad key","code":1}}"#, "bad key"),
            (r#"{"error":"model not found"}"#, "model not found"),
            (r#"{"detail":"nope"}"#, "nope"),
            ("<html>Bad Gateway</html>", "<html>Bad Gateway</html>"),
            ("", ""),
        ] {
            assert_eq!(message(body), wanted);
        }
    }
}
