//! Project commands on a view: confined, with the project's environment and nobody's secrets.

use std::path::Path;
use std::time::Duration;

use confine::{Command, ConfineError, Finished, Limits, Mount, Network};
use project::Project;

use crate::house::House;

/// Where a view is seen by commands: always the same, so that nothing depends on where it lies.
pub(crate) const WORKSPACE: &str = "/workspace";

/// Where build outputs go: beside the view, so that they are not taken for a change.
const BUILD: &str = "/build";

/// A command on a view.
pub(crate) struct OnView<'a> {
    pub(crate) house: &'a House,
    pub(crate) project: &'a Project,
    /// The view's root on the host.
    pub(crate) root: &'a Path,
    /// The step's scratch directory on the host.
    pub(crate) scratch: &'a Path,
}

impl OnView<'_> {
    /// Runs a program by its name.
    pub(crate) async fn run(
        &self,
        argv: &[String],
        directory: &str,
        stdin: Vec<u8>,
        wall: Duration,
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
            .mounts(&self.scratch.join("caches"))
            .map_err(made)?;
        let build = self.scratch.join("build");
        std::fs::create_dir_all(&build).map_err(made)?;
        mounts.push(Mount::ReadWrite {
            host: self.root.to_owned(),
            inside: WORKSPACE.into(),
        });
        mounts.push(Mount::ReadWrite {
            host: build,
            inside: BUILD.into(),
        });
        let mut env = self.house.tools.env();
        env.extend(self.project.env.clone());
        for (name, value) in [
            ("CARGO_TARGET_DIR", "/build/target"),
            ("GOCACHE", "/build/go"),
            ("npm_config_cache", "/build/npm"),
            ("XDG_CACHE_HOME", "/build/cache"),
        ] {
            env.insert(name.into(), value.into());
        }
        let command = Command {
            program: self.house.tools.resolve(program)?,
            args: args.to_vec(),
            env,
            directory: Path::new(WORKSPACE).join(directory),
            mounts,
            network: Network::None,
            limits: Limits::for_builds(wall),
            stdin,
            pass: vec![],
        };
        self.house.launcher.run(command).await
    }
}
