//! Secrets that a program of the machine's owner prints, such as a password manager's.

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::secret::{RAW_BYTES_MAX, Secret};
use crate::secrets::Unavailable;

/// A program to run as the machine's owner would: no shell, no confinement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerCommand {
    /// Absolute.
    pub program: PathBuf,
    /// Without the program's name.
    pub args: Vec<String>,
    /// Names of moat's variables that it gets beside HOME, USER, LOGNAME and a fixed PATH.
    pub env: Vec<String>,
}

/// Runs programs for this room, which starts none itself.
#[async_trait]
pub trait Programs: fmt::Debug + Send + Sync {
    /// What the program prints, at most `bytes_max` bytes of it, in a buffer that was never smaller.
    ///
    /// # Errors
    /// [`ProgramFailed`], also when it prints more.
    async fn output(
        &self,
        command: &OwnerCommand,
        bytes_max: usize,
    ) -> Result<Zeroizing<Vec<u8>>, ProgramFailed>;
}

/// What a program did instead, in moat's own words: what it printed is never kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProgramFailed(pub String);

/// What a program prints, without the end of its line.
pub(crate) async fn read(
    programs: &dyn Programs,
    command: &OwnerCommand,
) -> Result<Secret, Unavailable> {
    let program = command.program.display().to_string();
    let failed = |failed: ProgramFailed| Unavailable::Program {
        program: program.clone(),
        why: failed.0,
    };
    let printed = programs.output(command, RAW_BYTES_MAX).await;
    let printed = printed.map_err(failed)?;
    Ok(Secret::of(&printed, &format!("what {program} prints"))?)
}
