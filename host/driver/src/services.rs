//! What a skill's host calls lead to, in one step.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use capability::{Denial, Running};
use confine::{ConfineError, Ending};
use egress::Proxy;
use project::Project;
use sandbox::message::http::{self, Head, HttpError, Piece};
use sandbox::message::model::{Alias, ModelError, Request, Response};
use sandbox::message::process::{self, Command, Invocation, Output, ProcessError, ProjectCommand};
use sandbox::message::release::{Health, ReleaseError, Version};
use sandbox::{Entry, Ran, Services};

use crate::commands::{OnView, Terms, Writes};
use crate::context::Watcher;
use crate::house::House;
use crate::models::StepModels;
use crate::network::{StepNetwork, Unanswered};
use crate::record::CallRecord;
use crate::releases::Releases;

/// The services of one step. The grant was asked before each call.
pub struct StepServices {
    /// The machine's.
    pub house: Arc<House>,
    /// The project's.
    pub project: Arc<Project>,
    /// The view's root, for steps that have one.
    pub root: Option<PathBuf>,
    /// The step's scratch directory.
    pub scratch: PathBuf,
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
    /// What the call does, for the audit trail.
    pub record: CallRecord,
}

#[async_trait]
impl Services for StepServices {
    async fn heard(&self, call: &Entry, denial: Option<&Denial>) -> Result<(), String> {
        self.record.heard(call, denial).await
    }

    async fn run_command(&self, command: Command, terms: Running) -> Result<Ran, ProcessError> {
        let name = match &command.what {
            Invocation::Project(project) => project.name.clone(),
            Invocation::Program(program) => program.program.clone(),
        };
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
        let root = self
            .root
            .as_ref()
            .ok_or_else(|| ProcessError::Unavailable("this step has no files to run on".into()))?;
        let asked = command.timeout_ms.map_or(self.wall, Duration::from_millis);
        let on_view = OnView {
            house: &self.house,
            project: &self.project,
            root,
            scratch: &self.scratch,
            writes: Writes::Discarded,
        };
        let proxy = Proxied {
            proxy: match terms.network {
                true => Some(Proxy::new(self.network.visit()).map_err(|error| not_run(&error))?),
                false => None,
            },
            record: &self.record,
        };
        let granted = terms.wall_ms.map_or(self.wall, Duration::from_millis);
        let asked = Terms {
            wall: asked.min(granted).min(self.wall),
            memory_bytes: terms.memory_bytes,
            proxy: proxy.proxy.as_ref(),
        };
        // Noted before: a command that is under way when its call is given up was run all the same.
        self.record.command(&name, self.house.launcher.attainable());
        let ran = on_view
            .run(&argv, &command.directory, command.stdin, asked)
            .await;
        if let Ok(finished) = &ran {
            self.record.held(&name, finished.level);
        }
        let denials = proxy.recorded().await.map_err(|why| not_run(&why))?;
        let output = match ran {
            Ok(finished) => Output {
                ending: match finished.ending {
                    Ending::Exited(code) => process::Ending::Exited(code),
                    Ending::Signalled(signal) => process::Ending::Signalled(signal),
                    // The contract knows one end that comes from waiting too long.
                    Ending::Deadline | Ending::Idle => process::Ending::Deadline,
                    Ending::DiskFull => return Err(ProcessError::OutOfBudget),
                },
                stdout: String::from_utf8_lossy(&finished.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&finished.stderr).into_owned(),
                truncated: finished.truncated,
                duration_ms: finished.duration.as_millis() as u64,
            },
            Err(ConfineError::NotFound { .. }) => return Err(ProcessError::NotFound),
            Err(error) => return Err(not_run(&error)),
        };
        Ok(Ran { output, denials })
    }

    fn project_command(&self, name: &str) -> Option<ProjectCommand> {
        self.project.commands.get(name).map(|argv| ProjectCommand {
            name: name.to_owned(),
            argv: argv.clone(),
        })
    }

    async fn chat(&self, request: Request) -> Result<Response, ModelError> {
        self.record.model(&request.alias);
        self.models.chat(request).await
    }

    fn alias(&self, name: &str) -> Option<Alias> {
        self.models.alias(name)
    }

    async fn request(&self, request: http::Request) -> Result<Head, HttpError> {
        match self.network.request(request).await {
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

    fn releases(&self) -> Result<&Releases, ReleaseError> {
        self.releases.as_ref().ok_or(ReleaseError::NotConfigured)
    }
}

/// The proxy of a command under way, where it has one. What it refused is counted also when the command is given up.
struct Proxied<'a> {
    proxy: Option<Proxy>,
    record: &'a CallRecord,
}

impl Proxied<'_> {
    /// Puts what was refused into the record, and gives it.
    async fn recorded(mut self) -> Result<Vec<(Denial, u32)>, String> {
        let Some(proxy) = self.proxy.take() else {
            return Ok(vec![]);
        };
        let denials = proxy.denials();
        let mut recorded = Ok(());
        for (denial, times) in &denials {
            recorded = recorded.and(self.record.refused(denial, *times).await);
        }
        recorded.map(|()| denials)
    }
}

impl Drop for Proxied<'_> {
    fn drop(&mut self) {
        for (denial, times) in self.proxy.iter().flat_map(Proxy::denials) {
            self.record.count_refused(&denial, times);
        }
    }
}

/// The log has why; the guest is told that it was not for what it asked.
fn not_run(error: &dyn std::fmt::Display) -> ProcessError {
    tracing::error!(%error, "a command could not be run");
    ProcessError::Unavailable("the host could not run it; its log says why".into())
}
