//! Releases of one repository: directories, an atomic switch, and the service that runs from the current one.
//!
//! ```text
//! releases/<name>/        the tree of a commit
//! releases/<name>.commit  the commit's id; written last, so a release without it is half-written and is made anew
//! releases/current        a symbolic link to a name, replaced by rename
//! releases/service.json   the running service, by process id and start time
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use confine::{Command, Limits, Mount, Network, ServiceHandle, Started};
use flow::id::{CommitId, TreeId};
use journal::Effect;
use project::Deploy;
use repo::Mirror;
use sandbox::message::release::{Health, ReleaseError, Version};

use crate::commands::WORKSPACE;
use crate::house::{House, private_dir};
use crate::lease::Held;

/// One probe's time.
const PROBE: Duration = Duration::from_secs(2);

/// The releases of one repository, seen from one run.
#[derive(Debug, Clone)]
pub struct Releases {
    /// Where they are.
    pub directory: PathBuf,
    /// Where trees come from.
    pub mirror: Mirror,
    /// How to run them.
    pub deploy: Deploy,
    /// What the run merged.
    pub target: (CommitId, TreeId),
    /// The run's lease, where a run changes them.
    pub held: Option<Arc<Held>>,
}

fn failed(what: &str) -> impl Fn(std::io::Error) -> ReleaseError {
    move |error| ReleaseError::Failed(format!("{what}: {error}"))
}

impl Releases {
    fn commit_file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.commit"))
    }

    /// The current release's name.
    pub fn current(&self) -> Option<String> {
        fs::read_link(self.directory.join("current"))
            .ok()?
            .to_str()
            .map(str::to_owned)
    }

    pub(crate) fn versions(&self) -> Result<Vec<Version>, ReleaseError> {
        let current = self.current();
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
            other => other.map_err(failed("listing releases"))?,
        };
        let mut found: Vec<(std::time::SystemTime, Version)> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry
                    .file_name()
                    .to_str()?
                    .strip_suffix(".commit")?
                    .to_owned();
                let commit = fs::read_to_string(entry.path()).ok()?;
                let at = entry.metadata().ok()?.modified().ok()?;
                Some((
                    at,
                    Version {
                        active: current.as_ref() == Some(&name),
                        name,
                        commit: commit.trim().to_owned(),
                    },
                ))
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.name.cmp(&b.1.name)));
        Ok(found.into_iter().map(|(_, version)| version).collect())
    }

    /// A moat that has lost the run changes nothing here, and nobody takes the run over while something is changed.
    fn effect(&self) -> Result<Option<Effect>, ReleaseError> {
        let effect = self.held.as_ref().map(|held| held.effect()).transpose();
        effect.map_err(|error| ReleaseError::Failed(error.to_string()))
    }

    pub(crate) fn stage(&self) -> Result<String, ReleaseError> {
        let _effect = self.effect()?;
        let (commit, tree) = &self.target;
        let name = format!("release-{}", commit.short());
        if self.commit_file(&name).exists() {
            return Ok(name);
        }
        private_dir(&self.directory).map_err(failed("making the release directory"))?;
        let directory = self.directory.join(&name);
        if directory.exists() {
            fs::remove_dir_all(&directory).map_err(failed("clearing a half-written release"))?;
        }
        let written = self.mirror.materialise(tree, &directory, &|_, _| true);
        written.map_err(|error| ReleaseError::Failed(format!("writing the release: {error}")))?;
        fs::write(self.commit_file(&name), commit.as_str())
            .map_err(failed("marking the release"))?;
        Ok(name)
    }

    pub(crate) async fn activate(&self, house: &House, name: &str) -> Result<(), ReleaseError> {
        let _effect = self.effect()?;
        // Only names that the host gave are known here, so this is no path of the guest's making.
        if !self.versions()?.iter().any(|version| version.name == name) {
            return Err(ReleaseError::NotFound);
        }
        if self.current().as_deref() == Some(name)
            && self.service().is_some_and(|service| service.alive())
        {
            return Ok(());
        }
        self.stop().await?;
        let draft = self.directory.join("current.new");
        if let Err(error) = fs::remove_file(&draft)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(failed("switching")(error));
        }
        std::os::unix::fs::symlink(name, &draft).map_err(failed("switching"))?;
        fs::rename(&draft, self.directory.join("current")).map_err(failed("switching"))?;
        let started = self.start(house, name).await?;
        let text = serde_json::to_string(started.handle())
            .map_err(|error| ReleaseError::Failed(error.to_string()))?;
        fs::write(self.directory.join("service.json"), text)
            .map_err(failed("noting the service"))?;
        // Not before it is noted: a service that nobody knows of could be stopped by nobody. One that has ended is found out when it is probed.
        let _ = started.release();
        self.prune(name)
    }

    pub(crate) async fn deactivate(&self) -> Result<(), ReleaseError> {
        let _effect = self.effect()?;
        self.stop().await?;
        match fs::remove_file(self.directory.join("current")) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(failed("switching off")(error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) async fn probe(&self) -> Result<Health, ReleaseError> {
        if !self.service().is_some_and(|service| service.alive()) {
            return Ok(Health::Exited);
        }
        Ok(match egress::probe(&self.deploy.health, PROBE).await {
            Ok(answer) if answer.status == self.deploy.expect_status => Health::Healthy,
            Ok(answer) => Health::Unhealthy(format!("it answers {}", answer.status)),
            Err(egress::EgressError::NotHttp) => Health::Unhealthy("it does not speak HTTP".into()),
            Err(_) => Health::Unreachable,
        })
    }

    /// The service that was started last.
    pub fn service(&self) -> Option<ServiceHandle> {
        serde_json::from_str(&fs::read_to_string(self.directory.join("service.json")).ok()?).ok()
    }

    /// Stops the service, if one runs.
    ///
    /// # Errors
    /// When it cannot be noted that none runs.
    pub async fn stop(&self) -> Result<(), ReleaseError> {
        if let Some(service) = self.service() {
            service.stop().await;
            fs::remove_file(self.directory.join("service.json"))
                .map_err(failed("noting that the service is stopped"))?;
        }
        Ok(())
    }

    async fn start(&self, house: &House, name: &str) -> Result<Started, ReleaseError> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("service.log"))
            .map_err(failed("opening the service's log"))?;
        let scratch = self.directory.join("scratch");
        let mut mounts = house
            .tools
            .mounts(&scratch)
            .map_err(failed("preparing the service"))?;
        mounts.push(Mount::ReadOnly {
            host: self.directory.join(name),
            inside: WORKSPACE.into(),
        });
        let unavailable = |error: confine::ConfineError| {
            ReleaseError::Failed(format!("starting the service: {error}"))
        };
        let (program, args) = self
            .deploy
            .start
            .split_first()
            .ok_or_else(|| ReleaseError::Failed("nothing to start".into()))?;
        let command = Command {
            program: house.tools.resolve(program).map_err(unavailable)?,
            args: args.to_vec(),
            env: house.tools.env(),
            directory: Path::new(WORKSPACE).to_owned(),
            mounts,
            network: Network::Host,
            limits: Limits::for_builds(Duration::MAX),
            since: None,
            stdin: vec![],
            pass: vec![],
        };
        house
            .launcher
            .start_service(command, log)
            .await
            .map_err(unavailable)
    }

    /// Keeps the newest releases beside the current one.
    fn prune(&self, current: &str) -> Result<(), ReleaseError> {
        let versions = self.versions()?;
        let others: Vec<&Version> = versions
            .iter()
            .filter(|version| version.name != current)
            .collect();
        let excess = others.len().saturating_sub(self.deploy.keep as usize);
        for version in &others[..excess] {
            // The mark first: a crash in between leaves a half-written release, never a marked one without files.
            fs::remove_file(self.commit_file(&version.name))
                .map_err(failed("removing an old release"))?;
            fs::remove_dir_all(self.directory.join(&version.name))
                .map_err(failed("removing an old release"))?;
        }
        Ok(())
    }
}
