//! Programs of the machine's owner that print a secret: `egress` wants them, `confine` runs them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use confine::owner::{OwnerProgram, output};
use egress::store::{OwnerCommand, ProgramFailed, Programs};
use zeroize::Zeroizing;

/// A password manager answers in a second or two, also over a network; one that asks a person never does, and nobody is there.
const WALL: Duration = Duration::from_secs(30);

/// What a program needs to find its own configuration.
const ENV: [&str; 3] = ["HOME", "USER", "LOGNAME"];

/// Not ours: what is on it may depend on where moat was started.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Runs them unconfined, as their owner would.
#[derive(Debug)]
pub(crate) struct OwnerPrograms;

#[async_trait::async_trait]
impl Programs for OwnerPrograms {
    async fn output(
        &self,
        command: &OwnerCommand,
        bytes_max: usize,
    ) -> Result<Zeroizing<Vec<u8>>, ProgramFailed> {
        let mut env: BTreeMap<String, OsString> = ENV
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?)))
            .collect();
        env.insert("PATH".into(), PATH.into());
        for name in &command.env {
            let value = std::env::var_os(name).ok_or_else(|| {
                ProgramFailed(format!(
                    "was not run: it is to have the variable {name}, which moat does not have"
                ))
            })?;
            env.insert(name.clone(), value);
        }
        let program = OwnerProgram {
            program: command.program.clone(),
            args: command.args.clone(),
            env,
            wall: WALL,
            output_bytes_max: bytes_max,
        };
        output(program)
            .await
            .map_err(|error| ProgramFailed(error.to_string()))
    }
}
