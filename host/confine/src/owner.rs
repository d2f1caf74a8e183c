//! Programs of the machine's owner, *unconfined*: they run as the owner, with the owner's files and network.
//!
//! For what the owner's own configuration names by an absolute path, such as a password manager, and for nothing else: no word of a skill, a
//! repository or a model may reach a [`OwnerProgram`]. No shell, an environment of the caller's choice only, no input, no terminal, a deadline, a
//! cap on the output. What it writes to its standard error is thrown away: it may hold what the output holds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

/// How long the output of a program that has ended may still be held open by what it left behind; all that it wrote itself is there by then.
const LINGERING: Duration = Duration::from_millis(200);

/// A program of the machine's owner.
#[derive(Debug)]
pub struct OwnerProgram {
    /// Absolute; a file of the owner's or root's that nobody else can write.
    pub program: PathBuf,
    /// Without the program's name.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, OsString>,
    /// Wall clock; at its end the program and its process group are killed.
    pub wall: Duration,
    /// A program that prints more has failed: half of an answer is none.
    pub output_bytes_max: usize,
}

/// Why there is no output. Holds nothing that the program printed.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// Relative, not a plain file, or in other hands.
    #[error("was not run: {0}")]
    Refused(&'static str),
    /// It could not be started or read.
    #[error("cannot be run: {0}")]
    System(#[from] std::io::Error),
    /// It failed.
    #[error("exited with status {0}")]
    Exited(i32),
    /// A signal ended it.
    #[error("was ended by a signal")]
    Signalled,
    /// It did not end.
    #[error("did not end within {seconds} s and was killed")]
    Deadline {
        /// The deadline.
        seconds: u64,
    },
    /// It printed too much.
    #[error("printed more than {bytes_max} bytes and was killed")]
    TooMuch {
        /// The cap.
        bytes_max: usize,
    },
}

/// Runs a program to its end and gives what it printed, in a buffer that leaves no copies. Dropping the future kills it.
///
/// # Errors
/// [`OwnerError`], also when it exits with anything but 0.
pub async fn output(owned: OwnerProgram) -> Result<Zeroizing<Vec<u8>>, OwnerError> {
    check(&owned.program)?;
    let mut process = tokio::process::Command::new(&owned.program)
        .args(&owned.args)
        .env_clear()
        .envs(&owned.env)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own: it ends as one, and a Ctrl-C at our terminal is not for it.
        .process_group(0)
        .spawn()?;
    let group = Group(process.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let output = tokio::time::timeout(owned.wall, take(&mut process, owned.output_bytes_max)).await;
    let (printed, status) = output.unwrap_or(Err(OwnerError::Deadline {
        seconds: owned.wall.as_secs(),
    }))?;
    group.over();
    match status.code() {
        Some(0) => Ok(printed),
        Some(code) => Err(OwnerError::Exited(code)),
        None => Err(OwnerError::Signalled),
    }
}

/// The process group, killed unless it is over. Not afterwards: its number may be another's by then.
struct Group(Option<Pid>);

impl Group {
    fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

async fn take(
    process: &mut tokio::process::Child,
    bytes_max: usize,
) -> Result<(Zeroizing<Vec<u8>>, std::process::ExitStatus), OwnerError> {
    // Never grows: a buffer that does leaves copies behind.
    let mut printed = Zeroizing::new(vec![0; bytes_max + 1]);
    let mut length = 0;
    let mut status = None;
    let Some(mut stdout) = process.stdout.take() else {
        return Err(OwnerError::Refused("it has no output"));
    };
    loop {
        let ended = status.is_some();
        tokio::select! {
            biased;
            read = stdout.read(&mut printed[length..]) => match read? {
                0 if length > bytes_max => return Err(OwnerError::TooMuch { bytes_max }),
                0 => break,
                more => length += more,
            },
            exit = process.wait(), if !ended => status = Some(exit?),
            () = tokio::time::sleep(LINGERING), if ended => break,
        }
    }
    let status = match status {
        Some(status) => status,
        None => process.wait().await?,
    };
    printed.truncate(length);
    Ok((printed, status))
}

/// Whoever can write the program decides what the owner runs.
fn check(program: &Path) -> Result<(), OwnerError> {
    if !program.is_absolute() {
        return Err(OwnerError::Refused("its path is not absolute"));
    }
    let found = std::fs::metadata(program)?;
    if !found.is_file() {
        return Err(OwnerError::Refused("it is no plain file"));
    }
    if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
        return Err(OwnerError::Refused("it belongs to another user"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(OwnerError::Refused(
            "others can write it (mend: chmod go-w, and look at what is in it)",
        ));
    }
    Ok(())
}
