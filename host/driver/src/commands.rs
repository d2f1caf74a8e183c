//! Commands on a view: confined, with the variables that are theirs and nobody's secrets.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use confine::{Command, ConfineError, DOOR_PORT, Ending, Finished, Limits, Mount, Network, Tree};
use egress::Proxy;
use project::Project;

use crate::house::House;
use crate::scratch::Scratch;

/// Where a view is seen by commands: always the same, so that nothing depends on where it lies.
pub(crate) const WORKSPACE: &str = "/workspace";

/// Why a command was ended that wrote too much.
pub(crate) const DISK_FULL: &str = "the commands of its step hold more on the disk than `[budget] disk` says, or the disk is nearly full";

/// A command on a view.
pub(crate) struct OnView<'a> {
    pub(crate) house: &'a House,
    /// The project's variables that it sees: all of `[env]` for the project's own commands, what the grant names for programs of a skill's choice.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// The view's files.
    pub(crate) tree: &'a Tree,
    /// For what the commands of this view leave beside it.
    pub(crate) scratch: &'a Scratch,
    /// What becomes of what the command writes there.
    pub(crate) writes: Writes,
    /// Which of the project's scarce resources it has.
    pub(crate) resources: &'a BTreeMap<String, String>,
}

/// Where a command with a network finds the certificate of its proxy.
const CERTIFICATE: &str = "/etc/moat/proxy.pem";

/// On which terms a command runs.
pub(crate) struct Terms<'a> {
    /// Wall clock at most.
    pub(crate) wall: Duration,
    /// How long it may stand still.
    pub(crate) idle: Duration,
    /// Private memory of each of its processes, where it is less than a build may have.
    pub(crate) memory_bytes: Option<u64>,
    /// What the commands of its view may leave on the disk together.
    pub(crate) disk_bytes: u64,
    /// Its way out; absent, it has none.
    pub(crate) proxy: Option<&'a Proxy>,
}

impl Terms<'_> {
    /// Without a network, as the project's own checks are run.
    pub(crate) fn offline(wall: Duration, project: &Project) -> Terms<'static> {
        Terms {
            wall,
            idle: Duration::from_millis(project.idle_ms),
            memory_bytes: None,
            disk_bytes: project.disk_bytes,
            proxy: None,
        }
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::for_builds(self.wall);
        limits.idle = Some(self.idle);
        limits.memory_bytes = [limits.memory_bytes, self.memory_bytes]
            .into_iter()
            .flatten()
            .min();
        limits.disk_bytes = self.disk_bytes;
        limits
    }
}

/// What becomes of what a command writes into the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// The view is thrown away with the command: a gate's.
    ToView,
    /// The view holds what a skill wrote, and a candidate is made of it: lock files, caches and whatever else tests leave is not the
    /// skill's change.
    Discarded,
    /// The same, but what a run that ended well wrote is set aside first.
    SetAside,
}

impl OnView<'_> {
    /// Runs a program by its name.
    pub(crate) async fn run(
        &self,
        argv: &[String],
        directory: &str,
        stdin: Vec<u8>,
        terms: Terms<'_>,
    ) -> Result<Finished, ConfineError> {
        let (program, args) = argv.split_first().ok_or_else(|| ConfineError::NotFound {
            name: String::new(),
        })?;
        let made = |error| ConfineError::Launcher {
            what: "the step's scratch directory",
            error,
        };
        let mut mounts = self
            .house
            .tools
            .mounts(&self.scratch.caches())
            .map_err(made)?;
        let layer = self.scratch.layer();
        mounts.push(match self.writes {
            Writes::ToView => Mount::Tree {
                tree: self.tree.clone(),
                writable: vec![PathBuf::new()],
                inside: WORKSPACE.into(),
            },
            Writes::Discarded | Writes::SetAside => {
                // It is of an earlier command.
                confine::remove_tree(&self.scratch.aside()).map_err(made)?;
                layered(self.tree, self.scratch, &layer).map_err(made)?
            }
        });
        mounts.push(self.scratch.build_mount().map_err(made)?);
        let mut env = self.house.tools.env();
        if terms.proxy.is_some() {
            // What tells tools that there is no network.
            env.retain(|name, _| !matches!(name.as_str(), "CARGO_NET_OFFLINE" | "GOPROXY"));
        }
        env.extend(self.env.clone());
        env.extend(self.resources.clone());
        for (name, value) in [
            ("CARGO_TARGET_DIR", "/build/target"),
            ("GOCACHE", "/build/go"),
            ("npm_config_cache", "/build/npm"),
            ("XDG_CACHE_HOME", "/build/cache"),
        ] {
            env.insert(name.into(), value.into());
        }
        if let Some(proxy) = terms.proxy {
            env.extend(egress::environment(DOOR_PORT, CERTIFICATE));
            mounts.push(Mount::Text {
                inside: CERTIFICATE.into(),
                content: proxy.certificate().to_owned(),
            });
        }
        let command = Command {
            program: self.house.tools.resolve(program)?,
            args: args.to_vec(),
            env,
            directory: Path::new(WORKSPACE).join(directory),
            mounts,
            network: Network::None,
            limits: terms.limits(),
            since: Some(self.scratch.mark()),
            stdin,
            pass: vec![],
        };
        let launcher = &self.house.launcher;
        let finished = match terms.proxy {
            Some(proxy) => {
                let serve = |listener| proxy.serve(listener);
                launcher.run_with_door(command, serve).await
            }
            None => launcher.run(command).await,
        };
        // Half of what it would have installed is worse than nothing.
        if self.writes == Writes::SetAside
            && matches!(&finished, Ok(finished) if finished.ending == Ending::Exited(0))
            && let Err(error) = std::fs::rename(layer.join("upper"), self.scratch.aside())
        {
            tracing::warn!(%error, "what the project's command installed is not kept");
        }
        confine::remove_tree(&layer).map_err(made)?;
        finished
    }
}

/// The view with a layer over it that takes the writes; one that an interrupted command left is cleared first.
///
/// Where the view is a layer itself, it lies beneath this one while the worker has it mounted, to write to it. That is sound because the guest
/// waits for its command: nothing changes beneath this mount, and each command has a new one, which finds all that the guest did before.
///
/// What was installed before lies beneath all of it, where the view has the directory that it is in, and nothing in its place.
fn layered(tree: &Tree, scratch: &Scratch, layer: &Path) -> std::io::Result<Mount> {
    confine::remove_tree(layer)?;
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    std::fs::create_dir_all(&upper)?;
    std::fs::create_dir_all(&work)?;
    let tree = tree.layers();
    let mut lower = tree.clone();
    for (path, root) in scratch.installed() {
        let shown = |path: &Path| repo::show(tree.iter().map(PathBuf::as_path), path);
        if path.parent().is_some_and(shown) && !shown(path) {
            lower.push(root);
        }
    }
    Ok(Mount::Overlay {
        lower,
        upper,
        work,
        inside: WORKSPACE.into(),
    })
}
