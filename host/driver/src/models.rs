//! A skill's model calls: the alias resolved, money set aside before, settled after, and what went wrong kept for the run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flow::effect::Asking;
use flow::event::Cause;
use flow::money::{Reservation, Spend};
use model::{
    Conversation, Heard, ModelError, ModelSpec, Models, Part, Price, Refusal, Reply, Speaker, Stop,
    Till, Turn,
};
use project::Project;
use sandbox::message::model as wire;

use crate::context::Watcher;
use crate::keys::Keys;

/// An answer shorter than this is of no use: the budget is as good as used up.
const OUTPUT_TOKENS_MIN: u64 = 256;

/// How often a watching person hears that an answer is coming.
const PACE: Duration = Duration::from_millis(250);

/// Where money and tokens are set aside: a run's journal, or the budget of a single call.
pub trait Meter: Send + Sync {
    /// What is left.
    fn remaining(&self) -> Reservation;
    /// Sets something aside and gives the call's number; `asking` is what it is for, where that may come again. The error says why not.
    ///
    /// # Errors
    /// When the record cannot be made, or less is left than is asked for.
    fn reserve(
        &self,
        alias: &str,
        model: &str,
        wanted: Reservation,
        asking: Option<Asking>,
    ) -> Result<u64, String>;
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
    keys: Keys,
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
        keys: Keys,
        watcher: Arc<dyn Watcher>,
    ) -> StepModels {
        StepModels {
            models,
            project,
            meter,
            keys,
            watcher,
            trouble: Mutex::default(),
        }
    }

    /// What went wrong last, if the last call went wrong. The skill hears less of it.
    pub fn trouble(&self) -> Option<Trouble> {
        lock(&self.trouble).clone()
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

    /// Calls the model behind an alias, for this host call.
    pub(crate) async fn chat(
        &self,
        request: wire::Request,
        number: u64,
    ) -> Result<wire::Response, wire::ModelError> {
        let answered = self.call(request, number).await;
        match answered {
            Ok(reply) => {
                *lock(&self.trouble) = None;
                Ok(response(reply))
            }
            Err(refused) => {
                tracing::warn!(what = refused.trouble.what, "a model call failed");
                *lock(&self.trouble) = Some(refused.trouble);
                Err(refused.answer)
            }
        }
    }

    async fn call(&self, request: wire::Request, number: u64) -> Result<Reply, Refused> {
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
        let till = StepTill {
            meter: self.meter.as_ref(),
            watcher: self.watcher.as_ref(),
            who: format!("{}/{}", spec.provider, spec.id),
            price: spec.price,
            most: spec.price.at_most(input, output),
            keys: &self.keys,
            charges_once: self.models.charges_once(spec),
            number,
            again: AtomicU32::new(0),
            under_way: Mutex::default(),
            told: Mutex::default(),
            alias,
        };
        let exchange = self.models.chat(name, &conversation, &till).await;
        exchange.reply.map_err(refused)
    }
}

/// The way of one conversation's calls, the repeated ones too, through the meter.
struct StepTill<'a> {
    meter: &'a dyn Meter,
    watcher: &'a dyn Watcher,
    alias: String,
    who: String,
    price: Price,
    /// Of one call.
    most: Reservation,
    keys: &'a Keys,
    charges_once: bool,
    number: u64,
    /// How often it was tried so far.
    again: AtomicU32,
    under_way: Mutex<Option<u64>>,
    told: Mutex<Option<Instant>>,
}

impl Till for StepTill<'_> {
    fn open(&self) -> Result<(), Refusal> {
        let left = self.meter.remaining();
        if self.most.money > left.money || self.most.tokens > left.tokens {
            return Err(Refusal::OutOfBudget);
        }
        let again = self.again.fetch_add(1, Ordering::Relaxed) + 1;
        // Where a call that is made again is charged again, it is another call.
        let asking = self.keys.asking(self.number, again);
        let asking = asking.filter(|_| self.charges_once);
        let call = self
            .meter
            .reserve(&self.alias, &self.who, self.most, asking);
        *lock(&self.under_way) = Some(call.map_err(Refusal::Unrecorded)?);
        Ok(())
    }

    fn close(&self, took: &model::Usage) -> Result<(), String> {
        let Some(call) = lock(&self.under_way).take() else {
            return Err("no call is under way".into());
        };
        let spend = Spend {
            money: self.price.cost(took),
            tokens: took.tokens(),
            calls: 1,
        };
        self.meter.settle(call, spend)
    }

    fn key(&self) -> Option<String> {
        Some(
            self.keys
                .key(self.number, self.again.load(Ordering::Relaxed)),
        )
    }

    fn heard(&self, heard: Heard<'_>) {
        let alias = &self.alias;
        match heard {
            Heard::Waiting { why, pause } => self.watcher.note(&format!(
                "{alias}: {why}; again in {:.0} s",
                pause.as_secs_f64()
            )),
            Heard::Receiving { bytes } => {
                let mut told = lock(&self.told);
                if told.is_none_or(|told| told.elapsed() >= PACE) {
                    *told = Some(Instant::now());
                    self.watcher
                        .note(&format!("{alias} answers: {bytes} bytes so far"));
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        ModelError::OutOfBudget { .. } => refuse(
            wire::ModelError::OutOfBudget,
            Cause::Budget,
            format!("models: {what}"),
        ),
        ModelError::Unrecorded { .. } => refuse(
            wire::ModelError::Unavailable("the call could not be recorded".into()),
            Cause::Setup,
            what,
        ),
        // What the transport says may name hosts of the organisation.
        ModelError::Unavailable { .. } => refuse(
            wire::ModelError::Unavailable("the provider is overloaded or unreachable".into()),
            Cause::Passing,
            what,
        ),
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
    budget: Reservation,
    /// What is set aside for calls under way; a call that was dropped stays.
    reserved: BTreeMap<u64, Reservation>,
    calls: u64,
    spend: Spend,
}

impl Counted {
    fn left(&self) -> Reservation {
        let spent = Reservation {
            money: self.spend.money,
            tokens: self.spend.tokens,
        };
        let taken = std::iter::once(&spent).chain(self.reserved.values());
        taken.fold(self.budget, |left, one| Reservation {
            money: left.money.less(one.money),
            tokens: left.tokens.saturating_sub(one.tokens),
        })
    }
}

impl CallMeter {
    /// Begins with a budget.
    pub fn new(budget: Reservation) -> CallMeter {
        CallMeter(Mutex::new(Counted {
            budget,
            reserved: BTreeMap::new(),
            calls: 0,
            spend: Spend::default(),
        }))
    }

    /// What was spent.
    pub fn spend(&self) -> Spend {
        self.state().spend
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Counted> {
        lock(&self.0)
    }
}

impl Meter for CallMeter {
    fn remaining(&self) -> Reservation {
        self.state().left()
    }

    fn reserve(
        &self,
        _alias: &str,
        _model: &str,
        wanted: Reservation,
        _asking: Option<Asking>,
    ) -> Result<u64, String> {
        let mut state = self.state();
        let left = state.left();
        if wanted.money > left.money || wanted.tokens > left.tokens {
            return Err("less is left".into());
        }
        state.calls += 1;
        let call = state.calls;
        state.reserved.insert(call, wanted);
        Ok(call)
    }

    fn settle(&self, call: u64, spend: Spend) -> Result<(), String> {
        let mut state = self.state();
        if state.reserved.remove(&call).is_none() {
            return Err(format!("call {call} was not reserved"));
        }
        state.spend = state.spend.plus(spend);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use flow::money::Micros;

    use super::*;

    #[test]
    fn a_call_that_is_under_way_or_was_dropped_is_not_left_to_others() {
        let of = |money, tokens| Reservation {
            money: Micros(money),
            tokens,
        };
        let meter = CallMeter::new(of(100, 100));
        let call = meter.reserve("a", "m", of(60, 60), None).unwrap();
        assert_eq!(meter.remaining(), of(40, 40));
        assert!(meter.reserve("a", "m", of(60, 10), None).is_err());
        let dropped = meter.reserve("a", "m", of(10, 10), None).unwrap();
        let spend = Spend {
            money: Micros(20),
            tokens: 30,
            calls: 1,
        };
        meter.settle(call, spend).unwrap();
        assert!(meter.settle(call, spend).is_err());
        assert_eq!((meter.remaining(), meter.spend()), (of(70, 60), spend));
        assert_ne!(dropped, call);
    }
}
