//! A skill's model calls: the alias resolved, money set aside before, settled after, and what went wrong kept for the run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flow::event::Cause;
use flow::money::{Reservation, Spend};
use model::{Conversation, Heard, ModelError, ModelSpec, Models, Part, Reply, Speaker, Stop, Turn};
use project::Project;
use sandbox::message::model as wire;

use crate::context::Watcher;

/// An answer shorter than this is of no use: the budget is as good as used up.
const OUTPUT_TOKENS_MIN: u64 = 256;

/// How often a watching person hears that an answer is coming.
const PACE: Duration = Duration::from_millis(250);

/// Where money and tokens are set aside: a run's journal, or the budget of a single call.
pub trait Meter: Send + Sync {
    /// What is left.
    fn remaining(&self) -> Reservation;
    /// Sets something aside and gives the call's number; the error says why not.
    ///
    /// # Errors
    /// When the record cannot be made, or less is left than is asked for.
    fn reserve(&self, alias: &str, model: &str, wanted: Reservation) -> Result<u64, String>;
    /// Puts what the call took in its place.
    ///
    /// # Errors
    /// When the record cannot be made.
    fn settle(&self, call: u64, spend: Spend) -> Result<(), String>;
}

/// The models of one step.
pub struct StepModels {
    models: Arc<Models>,
    project: Arc<Project>,
    meter: Arc<dyn Meter>,
    watcher: Arc<dyn Watcher>,
    trouble: Mutex<Option<Trouble>>,
}

/// What went wrong last, in words for people, and who must act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Who must act.
    pub cause: Cause,
    /// What happened.
    pub what: String,
}

impl StepModels {
    /// Knows the project's aliases and the machine's models.
    pub fn new(
        models: Arc<Models>,
        project: Arc<Project>,
        meter: Arc<dyn Meter>,
        watcher: Arc<dyn Watcher>,
    ) -> StepModels {
        StepModels {
            models,
            project,
            meter,
            watcher,
            trouble: Mutex::default(),
        }
    }

    /// What went wrong last, if the last call went wrong. The skill hears less of it.
    pub fn trouble(&self) -> Option<Trouble> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, alias: &str) -> Option<(&str, &ModelSpec)> {
        let name = self.project.models.get(alias)?;
        Some((name, self.models.find(name)?))
    }

    /// Tells about an alias, if the project and the machine configure it.
    pub(crate) fn alias(&self, alias: &str) -> Option<wire::Alias> {
        self.find(alias).map(|(_, spec)| wire::Alias {
            name: alias.to_owned(),
            context_tokens: spec.context_tokens,
        })
    }

    /// Calls the model behind an alias.
    pub(crate) async fn chat(
        &self,
        request: wire::Request,
    ) -> Result<wire::Response, wire::ModelError> {
        let answered = self.call(request).await;
        match answered {
            Ok(reply) => {
                *self.lock() = None;
                Ok(response(reply))
            }
            Err(refused) => {
                tracing::warn!(what = refused.trouble.what, "a model call failed");
                *self.lock() = Some(refused.trouble);
                Err(refused.answer)
            }
        }
    }

    async fn call(&self, request: wire::Request) -> Result<Reply, Refused> {
        let alias = request.alias.clone();
        let (name, spec) = self.find(&alias).ok_or_else(|| not_configured(&alias))?;
        let mut conversation = conversation(request);
        conversation.check().map_err(refused)?;
        let input = conversation.input_tokens_at_most();
        let left = self.meter.remaining();
        let fits = spec.price.output_that_fits(&left, input);
        let output = u64::from(conversation.max_tokens.min(spec.output_tokens)).min(fits);
        if output < OUTPUT_TOKENS_MIN.min(u64::from(conversation.max_tokens)) {
            return Err(out_of_budget(&left));
        }
        conversation.max_tokens = u32::try_from(output).unwrap_or(u32::MAX);
        let reservation = spec.price.at_most(input, output);
        let who = format!("{}/{}", spec.provider, spec.id);
        let call = self
            .meter
            .reserve(&alias, &who, reservation)
            .map_err(unrecorded)?;
        let exchange = self
            .models
            .chat(name, &conversation, &self.listener(&alias))
            .await;
        let spend = Spend {
            money: spec.price.cost(&exchange.usage),
            tokens: exchange.usage.tokens(),
            calls: exchange.calls,
        };
        self.meter.settle(call, spend).map_err(unrecorded)?;
        exchange.reply.map_err(refused)
    }

    fn listener(&self, alias: &str) -> impl Fn(Heard<'_>) + Sync {
        let alias = alias.to_owned();
        let last = Mutex::new(None::<Instant>);
        move |heard| match heard {
            Heard::Waiting { why, pause } => self.watcher.note(&format!(
                "{alias}: {why}; again in {:.0} s",
                pause.as_secs_f64()
            )),
            Heard::Receiving { bytes } => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.is_none_or(|last| last.elapsed() >= PACE) {
                    *last = Some(Instant::now());
                    self.watcher
                        .note(&format!("{alias} answers: {bytes} bytes so far"));
                }
            }
        }
    }
}

/// What the skill hears, and what people hear.
struct Refused {
    answer: wire::ModelError,
    trouble: Trouble,
}

fn refuse(answer: wire::ModelError, cause: Cause, what: impl Into<String>) -> Refused {
    let what = what.into();
    Refused {
        answer,
        trouble: Trouble { cause, what },
    }
}

fn not_configured(alias: &str) -> Refused {
    refuse(
        wire::ModelError::NotConfigured,
        Cause::Setup,
        format!(
            "no model stands behind the alias `{alias}`: [models] of moat.toml names it, and models.toml of moat's state directory has the model"
        ),
    )
}

fn out_of_budget(left: &Reservation) -> Refused {
    refuse(
        wire::ModelError::OutOfBudget,
        Cause::Budget,
        format!(
            "models: {} and {} tokens are left, which is not enough for another call",
            left.money, left.tokens
        ),
    )
}

fn unrecorded(why: String) -> Refused {
    refuse(
        wire::ModelError::Unavailable("the call could not be recorded".into()),
        Cause::Setup,
        format!("a model call could not be recorded: {why}"),
    )
}

/// The skill hears the kind of failure and a provider's words; what concerns keys and addresses is for people.
fn refused(error: ModelError) -> Refused {
    let what = error.to_string();
    match error {
        ModelError::NotConfigured { .. } => {
            refuse(wire::ModelError::NotConfigured, Cause::Setup, what)
        }
        ModelError::Setup { .. } | ModelError::Unauthorised { .. } => refuse(
            wire::ModelError::Unavailable("the provider cannot be used".into()),
            Cause::Setup,
            what,
        ),
        ModelError::Invalid { why } => refuse(wire::ModelError::Invalid(why), Cause::Skill, what),
        ModelError::Unavailable { last, .. } => {
            refuse(wire::ModelError::Unavailable(last), Cause::Passing, what)
        }
        ModelError::Broken { last, .. } => {
            refuse(wire::ModelError::Broken(last), Cause::Passing, what)
        }
    }
}

fn conversation(request: wire::Request) -> Conversation {
    let part = |content| match content {
        wire::Content::Text(text) => Part::Text(text),
        wire::Content::ToolUse(one) => Part::ToolUse {
            id: one.id,
            name: one.name,
            input: one.input,
        },
        wire::Content::ToolResult(one) => Part::ToolResult {
            id: one.id,
            text: one.text,
            is_error: one.is_error,
        },
    };
    let turn = |message: wire::Message| Turn {
        speaker: match message.speaker {
            wire::Speaker::User => Speaker::User,
            wire::Speaker::Assistant => Speaker::Assistant,
        },
        parts: message.content.into_iter().map(part).collect(),
    };
    let tool = |tool: wire::Tool| model::Tool {
        name: tool.name,
        description: tool.description,
        input_schema: tool.input_schema,
    };
    Conversation {
        system: request.system,
        turns: request.messages.into_iter().map(turn).collect(),
        tools: request.tools.into_iter().map(tool).collect(),
        max_tokens: request.max_tokens,
    }
}

fn response(reply: Reply) -> wire::Response {
    let content = |part| match part {
        Part::Text(text) => wire::Content::Text(text),
        Part::ToolUse { id, name, input } => {
            wire::Content::ToolUse(wire::ToolUse { id, name, input })
        }
        Part::ToolResult { id, text, is_error } => {
            wire::Content::ToolResult(wire::ToolResult { id, text, is_error })
        }
    };
    wire::Response {
        content: reply.parts.into_iter().map(content).collect(),
        stop: match reply.stop {
            Stop::EndTurn => wire::StopReason::EndTurn,
            Stop::ToolUse => wire::StopReason::ToolUse,
            Stop::MaxTokens => wire::StopReason::MaxTokens,
            Stop::Refusal => wire::StopReason::Refusal,
        },
        usage: wire::Usage {
            input: reply.usage.input,
            output: reply.usage.output,
            cache_read: reply.usage.cache_read,
            cache_write: reply.usage.cache_write,
        },
    }
}

/// The budget of a single call outside of any run: counted in memory.
#[derive(Debug)]
pub struct CallMeter(Mutex<Counted>);

#[derive(Debug)]
struct Counted {
    left: Reservation,
    calls: u64,
    spend: Spend,
}

impl CallMeter {
    /// Begins with a budget.
    pub fn new(budget: Reservation) -> CallMeter {
        CallMeter(Mutex::new(Counted {
            left: budget,
            calls: 0,
            spend: Spend::default(),
        }))
    }

    /// What was spent.
    pub fn spend(&self) -> Spend {
        self.state().spend
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter for CallMeter {
    fn remaining(&self) -> Reservation {
        self.state().left
    }

    fn reserve(&self, _alias: &str, _model: &str, wanted: Reservation) -> Result<u64, String> {
        let mut state = self.state();
        if wanted.money > state.left.money || wanted.tokens > state.left.tokens {
            return Err("less is left".into());
        }
        state.calls += 1;
        Ok(state.calls)
    }

    /// A call that is dropped is not settled: it ends the whole, so nothing can be spent after it.
    fn settle(&self, _call: u64, spend: Spend) -> Result<(), String> {
        let mut state = self.state();
        state.left = Reservation {
            money: state.left.money.less(spend.money),
            tokens: state.left.tokens.saturating_sub(spend.tokens),
        };
        state.spend = state.spend.plus(spend);
        Ok(())
    }
}
