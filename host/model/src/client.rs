//! One call of a model: through its provider's door, again while that helps, and with everything it took counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use egress::{Body, Credential, Door, EgressError, Response, Secret};

use crate::config::{Api, Config, KeySource, ModelSpec, Provider};
use crate::conversation::{Conversation, Part};
use crate::error::ModelError;
use crate::reply::{Reply, StreamError, Usage};
use crate::retry::Backoff;
use crate::sse::{Event, Parser};
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
    doors: Mutex<BTreeMap<String, Arc<Door>>>,
}

/// What a waiting person may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The answer is coming: so many bytes of it are there.
    Receiving {
        /// Bytes.
        bytes: u64,
    },
    /// The provider could not answer; the next call comes after a pause.
    Waiting {
        /// Why.
        why: &'a str,
        /// How long.
        pause: Duration,
    },
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
        /// It had begun to answer, and is paid for.
        broken: bool,
        usage: Usage,
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
            doors: Mutex::default(),
        }
    }

    /// A model by its name.
    pub fn find(&self, model: &str) -> Option<&ModelSpec> {
        self.config.models.get(model)
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
        heard: &(dyn Fn(Heard<'_>) + Sync),
    ) -> Exchange {
        let mut exchange = Exchange {
            reply: Err(ModelError::NotConfigured {
                model: model.into(),
            }),
            usage: Usage::default(),
            calls: 0,
        };
        let way = conversation.check().and_then(|()| self.way_to(model));
        exchange.reply = match way {
            Ok((provider, spec, door)) => {
                let call = Call {
                    provider,
                    spec,
                    door: &door,
                    conversation,
                    heard,
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
        let mut broken_calls = 0;
        loop {
            *calls += 1;
            match call.once().await {
                Ok(reply) => {
                    *usage = usage.plus(reply.usage);
                    return Ok(reply);
                }
                Err(Failed::Never(error)) => return Err(error),
                Err(Failed::Again {
                    why,
                    retry_after,
                    broken,
                    usage: lost,
                }) => {
                    *usage = usage.plus(lost);
                    broken_calls += u32::from(broken);
                    if broken_calls >= self.backoff.broken_calls {
                        return Err(ModelError::Broken {
                            calls: *calls,
                            last: why,
                        });
                    }
                    let pause = self.backoff.pause(*calls, retry_after, rand::random());
                    let Some(pause) = pause.filter(|_| *calls < self.backoff.calls) else {
                        return Err(ModelError::Unavailable {
                            calls: *calls,
                            last: why,
                        });
                    };
                    tracing::info!(model = call.spec.id, why, ?pause, "calling again");
                    (call.heard)(Heard::Waiting { why: &why, pause });
                    tokio::time::sleep(pause).await;
                }
            }
        }
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
        let door = Arc::new(open(provider).map_err(|why| ModelError::Setup {
            provider: name.clone(),
            why,
        })?);
        doors.insert(name.clone(), door.clone());
        Ok((provider, spec, door))
    }
}

fn open(provider: &Provider) -> Result<Door, String> {
    let secret = match &provider.key {
        Some(KeySource::Env(name)) => Some(Secret::from_env(name)),
        Some(KeySource::File(path)) => Some(Secret::from_file(path)),
        None => None,
    };
    let credential = secret
        .transpose()
        .map_err(|error| error.to_string())?
        .map(|secret| Credential::new(&provider.key_header, &provider.key_format, secret))
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
    heard: &'a (dyn Fn(Heard<'_>) + Sync),
}

enum Decoder {
    Anthropic(anthropic::Decoder),
    Openai(openai::Decoder),
}

impl Call<'_> {
    async fn once(&self) -> Result<Reply, Failed> {
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
        let answered = self
            .door
            .post(path, headers, body.to_string().into_bytes())
            .await;
        let response = answered.map_err(|error| Failed::Again {
            why: error.to_string(),
            retry_after: None,
            broken: false,
            usage: Usage::default(),
        })?;
        if response.status != 200 {
            return Err(self.refused(response).await);
        }
        let mut decoder = match self.provider.api {
            Api::Anthropic => Decoder::Anthropic(anthropic::Decoder::default()),
            Api::Openai => Decoder::Openai(openai::Decoder::default()),
        };
        let read = self.read(response.body, &mut decoder).await;
        let usage = decoder.usage(self.conversation);
        read.and_then(|()| decoder.finish(usage))
            .map(|reply| self.scrubbed(reply))
            .map_err(|error| {
                let (why, broken) = match error {
                    StreamError::Overloaded(why) => (why, false),
                    StreamError::Broken(why) => (why, true),
                };
                Failed::Again {
                    why: self.words(&why),
                    retry_after: None,
                    broken,
                    usage,
                }
            })
    }

    async fn read(&self, mut body: Body, decoder: &mut Decoder) -> Result<(), StreamError> {
        let mut parser = Parser::default();
        loop {
            let chunk = body.chunk().await.map_err(|error| match error {
                EgressError::TimedOut { .. } => StreamError::Overloaded(error.to_string()),
                _ => StreamError::broken(error.to_string()),
            })?;
            let Some(chunk) = chunk else { return Ok(()) };
            for event in parser.push(&chunk)? {
                if decoder.event(&event)? {
                    return Ok(());
                }
            }
            (self.heard)(Heard::Receiving {
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
        // Some providers tell an empty account by the status for "too fast".
        let out_of_credit = body.contains("insufficient_quota");
        match status {
            401..=403 => Failed::Never(ModelError::Unauthorised {
                provider,
                status,
                message,
            }),
            429 if out_of_credit => Failed::Never(ModelError::Unauthorised {
                provider,
                status,
                message,
            }),
            408 | 409 | 425 | 429 | 500.. => Failed::Again {
                why: format!("status {status}: {message}"),
                retry_after,
                broken: false,
                usage: Usage::default(),
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
            Decoder::Anthropic(decoder) => decoder.event(event).map(|()| false),
            Decoder::Openai(decoder) => decoder.event(event),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Decoder::Anthropic(decoder) => decoder.assembly.bytes,
            Decoder::Openai(decoder) => decoder.assembly.bytes,
        }
    }

    /// What the call took: as the provider counts, or reckoned from the bytes where it did not (yet).
    fn usage(&self, conversation: &Conversation) -> Usage {
        let (counted, assembly) = match self {
            Decoder::Anthropic(decoder) => (decoder.usage(), &decoder.assembly),
            Decoder::Openai(decoder) => (decoder.usage(), &decoder.assembly),
        };
        let reckoned = Usage {
            input: conversation.input_tokens_reckoned(),
            output: assembly.tokens_reckoned(),
            ..Usage::default()
        };
        match counted {
            Some(counted) if counted.output > 1 => counted,
            Some(counted) => Usage {
                output: reckoned.output.max(counted.output),
                ..counted
            },
            None => reckoned,
        }
    }

    fn finish(self, usage: Usage) -> Result<Reply, StreamError> {
        match self {
            Decoder::Anthropic(decoder) => decoder.finish(),
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
