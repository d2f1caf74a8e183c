//! What a skill's host calls lead to, in one step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use capability::{Denial, Grant, Running};
use confine::{ConfineError, Ending, Tree};
use egress::Proxy;
use project::Project;
use sandbox::message::effects::{Effect, EffectsError, Standing};
use sandbox::message::http::{self, Head, HttpError, Piece};
use sandbox::message::model::{Alias, ModelError, Request, Response};
use sandbox::message::process::{self, Command, Invocation, Output, ProcessError, ProjectCommand};
use sandbox::message::release::{Health, ReleaseError, Version};
use sandbox::{Answered, Entry, Ran, Services};
use serde_json::Value;

use crate::builds;
use crate::commands::{self, OnView, Terms, Writes};
use crate::context::Watcher;
use crate::effects::{self, StepAccount};
use crate::house::House;
use crate::keys::Keys;
use crate::models::StepModels;
use crate::network::{StepNetwork, Unanswered};
use crate::record::CallRecord;
use crate::releases::Releases;
use crate::scheduler::Party;
use crate::scratch::Scratch;

/// SIGKILL.
const KILLED: i32 = 9;

/// The project's variables that a grant names, with their values.
pub fn granted_env(project: &Project, grant: &Grant) -> BTreeMap<String, String> {
    grant
        .env()
        .filter_map(|name| Some((name.to_owned(), project.env.get(name)?.clone())))
        .collect()
}

/// The services of one step. The grant was asked before each call.
pub struct StepServices {
    /// The machine's.
    pub house: Arc<House>,
    /// The project's.
    pub project: Arc<Project>,
    /// The project's variables that the grant names.
    pub env: BTreeMap<String, String>,
    /// The view's files, for steps that have some.
    pub tree: Option<Tree>,
    /// For what its commands leave beside the view.
    pub scratch: Arc<Scratch>,
    /// For the deploy step.
    pub releases: Option<Releases>,
    /// Models by alias.
    pub models: StepModels,
    /// Requests.
    pub network: StepNetwork,
    /// The most that a command may take.
    pub wall: Duration,
    /// Hears notes.
    pub watcher: Arc<dyn Watcher>,
    /// The skill's account of what it does outside; none for a call by hand.
    pub account: Option<StepAccount>,
    /// By which the other side knows a request that it has had already.
    pub keys: Keys,
    /// What the call does, for the audit trail.
    pub record: CallRecord,
    /// On whose account it is done, where others wait for the same.
    pub party: Party,
}

#[async_trait]
impl Services for StepServices {
    async fn heard(&self, call: &Entry, denial: Option<&Denial>) -> Result<(), String> {
        self.record.heard(call, denial).await
    }

    fn replayed(&self, answered: &Answered, args: &[Value]) {
        let call = &answered.question;
        match (call.interface.as_str(), call.function.as_str(), args) {
            ("moat:host/process", "run", [command]) => {
                if let Ok(command) = serde_json::from_value::<Command>(command.clone()) {
                    let level = self.house.launcher.attainable();
                    self.record.command(name(&command.what), level);
                }
            }
            ("moat:host/model", "chat", [request]) => {
                self.record
                    .model(request["alias"].as_str().unwrap_or_default());
            }
            _ => {}
        }
        for (denial, times) in &answered.denials {
            self.record.count_refused(denial, *times);
        }
        self.network.used_before(answered.traffic);
    }

    fn requested_before(&self, request: http::Request, number: u64, received: u64) {
        self.network.requested_before(request, number, received);
    }

    fn received_before(&self, number: u64, bytes: u64) {
        self.network.received_before(number, bytes);
    }

    async fn run_command(&self, command: Command, terms: Running) -> Result<Ran, ProcessError> {
        let name = name(&command.what).to_owned();
        let project_name = match &command.what {
            Invocation::Project(project) => Some(project.name.clone()),
            Invocation::Program(_) => None,
        };
        // A command of the project is what moat.toml says, variables included, whoever runs it; a program is the skill's choice.
        let env = match &command.what {
            Invocation::Project(_) => &self.project.env,
            Invocation::Program(_) => &self.env,
        };
        // Nothing of how it is run is the skill's choice.
        let is_projects_own = matches!(&command.what, Invocation::Project(project) if project.name == builds::COMMAND && project.extra_args.is_empty())
            && command.stdin.is_empty()
            && matches!(command.directory.as_str(), "" | ".")
            && !terms.network;
        let argv = match command.what {
            Invocation::Project(project) => {
                let mut argv = self
                    .project
                    .commands
                    .get(&project.name)
                    .cloned()
                    .ok_or(ProcessError::NotFound)?;
                argv.extend(project.extra_args);
                argv
            }
            Invocation::Program(program) => std::iter::once(program.program)
                .chain(program.args)
                .collect(),
        };
        let tree = self
            .tree
            .as_ref()
            .ok_or_else(|| ProcessError::Unavailable("this step has no files to run on".into()))?;
        let asked = command.timeout_ms.map_or(self.wall, Duration::from_millis);
        let held = (self.house.scheduler)
            .command(&self.project, &self.party, project_name.as_deref())
            .await
            .map_err(|error| not_run(&error))?;
        let on_view = OnView {
            house: &self.house,
            env,
            tree,
            scratch: &self.scratch,
            writes: match is_projects_own && self.scratch.sets_aside() {
                true => Writes::SetAside,
                false => Writes::Discarded,
            },
            resources: &held.env,
        };
        let mut proxied = Proxied {
            proxy: match terms.network {
                true => {
                    let proxy = Proxy::new(self.network.visit());
                    Some(Arc::new(proxy.map_err(|error| not_run(&error))?))
                }
                false => None,
            },
            record: &self.record,
            counted: BTreeMap::new(),
        };
        let granted = terms.wall_ms.map_or(self.wall, Duration::from_millis);
        let proxy = proxied.proxy.clone();
        let asked = Terms {
            wall: asked.min(granted).min(self.wall),
            idle: Duration::from_millis(self.project.idle_ms),
            memory_bytes: terms.memory_bytes,
            disk_bytes: self.project.disk_bytes,
            proxy: proxy.as_deref(),
        };
        // Noted before: a command that is under way when its call is given up was run all the same.
        self.record.command(&name, self.house.launcher.attainable());
        let before = self.network.traffic();
        let was_pure = self.scratch.is_pure();
        self.scratch.mix();
        let run = on_view.run(&argv, &command.directory, command.stdin, asked);
        let ran = proxied.told_at_once(run).await;
        let ran = ran.map_err(|why| not_run(&why))?;
        let is_whole = matches!(&ran, Ok(finished) if matches!(finished.ending, Ending::Exited(_)));
        if was_pure && is_projects_own && is_whole {
            self.scratch.hold_pure();
        }
        if let Ok(finished) = &ran {
            self.record.held(&name, finished.level);
        }
        let denials = proxied.recorded().await.map_err(|why| not_run(&why))?;
        let output = match ran {
            Ok(finished) => Output {
                ending: match finished.ending {
                    Ending::Exited(code) => process::Ending::Exited(code),
                    Ending::Signalled(signal) => process::Ending::Signalled(signal),
                    // The contract knows one end that comes from waiting too long.
                    Ending::Deadline | Ending::Idle => process::Ending::Deadline,
                    Ending::DiskFull => {
                        let note = format!("{name} was ended: {}", commands::DISK_FULL);
                        self.watcher.note(&note);
                        return Err(ProcessError::OutOfBudget);
                    }
                },
                stdout: String::from_utf8_lossy(&finished.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&finished.stderr).into_owned(),
                truncated: finished.truncated,
                duration_ms: finished.duration.as_millis() as u64,
            },
            Err(ConfineError::NotFound { .. }) => return Err(ProcessError::NotFound),
            Err(ConfineError::Lost { .. }) => killed(),
            Err(error) => return Err(not_run(&error)),
        };
        let traffic = self.network.since(before);
        Ok(Ran {
            output,
            denials,
            traffic,
        })
    }

    fn project_command(&self, name: &str) -> Option<ProjectCommand> {
        self.project.commands.get(name).map(|argv| ProjectCommand {
            name: name.to_owned(),
            argv: argv.clone(),
        })
    }

    async fn chat(&self, request: Request, number: u64) -> Result<Response, ModelError> {
        let held = (self.house.scheduler)
            .model(&self.project, &self.party, &request.alias)
            .await;
        let _held = held.map_err(|error| {
            tracing::error!(%error, "a model could not be called");
            ModelError::Unavailable("the host could not call it; its log says why".into())
        })?;
        self.record.model(&request.alias);
        self.models.chat(request, number).await
    }

    fn alias(&self, name: &str) -> Option<Alias> {
        self.models.alias(name)
    }

    async fn request(&self, request: http::Request, number: u64) -> Result<Head, HttpError> {
        let key = || self.keys.key(number, 1);
        match self.network.request(request, number, key).await {
            Ok(head) => Ok(head),
            Err(unanswered) => Err(self.unanswered(unanswered).await),
        }
    }

    async fn read_body(&self, id: u64) -> Result<Piece, HttpError> {
        match self.network.read_body(id).await {
            Ok(piece) => Ok(piece),
            Err(unanswered) => Err(self.unanswered(unanswered).await),
        }
    }

    fn close_body(&self, id: u64) {
        self.network.close_body(id);
    }

    fn note(&self, text: String) {
        self.watcher.note(&text);
    }

    async fn intend(
        &self,
        key: String,
        what: String,
        number: u64,
    ) -> Result<Standing, EffectsError> {
        self.account()?.intend(key, what, number).await
    }

    async fn confirm(&self, key: String, outcome: String) -> Result<(), EffectsError> {
        self.account()?.confirm(key, outcome).await
    }

    async fn withdraw(&self, key: String) -> Result<(), EffectsError> {
        self.account()?.withdraw(key).await
    }

    async fn effects(&self) -> Result<Vec<Effect>, EffectsError> {
        self.account()?.all().await
    }

    async fn versions(&self) -> Result<Vec<Version>, ReleaseError> {
        self.releases()?.versions()
    }

    async fn stage(&self) -> Result<String, ReleaseError> {
        self.releases()?.stage()
    }

    async fn activate(&self, name: String) -> Result<(), ReleaseError> {
        self.releases()?.activate(&self.house, &name).await
    }

    async fn deactivate(&self) -> Result<(), ReleaseError> {
        self.releases()?.deactivate().await
    }

    async fn probe(&self) -> Result<Health, ReleaseError> {
        self.releases()?.probe().await
    }
}

/// A command as the record names it.
fn name(what: &Invocation) -> &str {
    match what {
        Invocation::Project(project) => &project.name,
        Invocation::Program(program) => &program.program,
    }
}

impl StepServices {
    /// Records what the door refused by itself, and gives what the guest may know.
    async fn unanswered(&self, unanswered: Unanswered) -> HttpError {
        if let Some(denial) = unanswered.refused
            && let Err(error) = self.record.refused(&denial, 1).await
        {
            // It was refused all the same; the end of the call finds the trail as it is.
            tracing::error!(%error, "a refusal is not in the audit trail");
        }
        unanswered.case
    }

    fn account(&self) -> Result<&StepAccount, EffectsError> {
        self.account.as_ref().ok_or_else(effects::none)
    }

    fn releases(&self) -> Result<&Releases, ReleaseError> {
        self.releases.as_ref().ok_or(ReleaseError::NotConfigured)
    }
}

/// The proxy of a command under way, where it has one. What it refused is counted also when the command is given up.
struct Proxied<'a> {
    proxy: Option<Arc<Proxy>>,
    record: &'a CallRecord,
    /// What is in the record already.
    counted: BTreeMap<Denial, u32>,
}

impl Proxied<'_> {
    /// Waits for the command, and puts what is refused to it for the first time into the trail meanwhile. While that waits for the disk, the
    /// command's requests wait as well.
    ///
    /// # Errors
    /// When the trail takes nothing more; the command is given up then.
    async fn told_at_once<T>(&mut self, run: impl Future<Output = T>) -> Result<T, String> {
        let Some(proxy) = self.proxy.clone() else {
            return Ok(run.await);
        };
        let mut run = std::pin::pin!(run);
        loop {
            let news = tokio::select! {
                ran = &mut run => return Ok(ran),
                news = proxy.news() => news,
            };
            for denial in news {
                *self.counted.entry(denial.clone()).or_insert(0) += 1;
                self.record.refused(&denial, 1).await?;
            }
        }
    }

    /// How often something was refused beyond what is in the record.
    fn uncounted(&self, denials: Vec<(Denial, u32)>) -> impl Iterator<Item = (Denial, u32)> {
        denials.into_iter().filter_map(|(denial, times)| {
            let counted = self.counted.get(&denial).copied().unwrap_or(0);
            let more = times.saturating_sub(counted);
            (more > 0).then_some((denial, more))
        })
    }

    /// Puts what was refused into the record, and gives it.
    async fn recorded(mut self) -> Result<Vec<(Denial, u32)>, String> {
        let Some(proxy) = self.proxy.take() else {
            return Ok(vec![]);
        };
        let denials = proxy.denials();
        let mut recorded = Ok(());
        for (denial, times) in self.uncounted(denials.clone()) {
            recorded = recorded.and(self.record.refused(&denial, times).await);
        }
        recorded.map(|()| denials)
    }
}

impl Drop for Proxied<'_> {
    fn drop(&mut self) {
        let denials = self.proxy.take().map(|proxy| proxy.denials());
        for (denial, times) in self.uncounted(denials.unwrap_or_default()) {
            self.record.count_refused(&denial, times);
        }
    }
}

/// Of a command that was killed from outside with all that it had started, as a machine does that runs out of memory.
fn killed() -> Output {
    Output {
        ending: process::Ending::Signalled(KILLED),
        stdout: String::new(),
        stderr: "it was killed from outside, and what it had printed is lost".into(),
        truncated: false,
        duration_ms: 0,
    }
}

/// The log has why; the guest is told that it was not for what it asked.
fn not_run(error: &dyn std::fmt::Display) -> ProcessError {
    tracing::error!(%error, "a command could not be run");
    ProcessError::Unavailable("the host could not run it; its log says why".into())
}
