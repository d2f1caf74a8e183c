//! Errors on their way to people: what happened, why, and which exit code it is.

use driver::{ApprovalError, DriveError, HouseError, OpenError};

use crate::archive::ArchiveError;
use crate::exit::Exit;
use crate::show::text::clean;

/// The text and the exit code of an error.
pub fn tell(error: &anyhow::Error) -> (String, Exit) {
    let mut text = format!("error: {}\n", clean(&error.to_string()));
    for cause in error.chain().skip(1) {
        let cause = clean(&cause.to_string());
        if !text.contains(&cause) {
            text.push_str(&format!("  because: {cause}\n"));
        }
    }
    // Whoever met it: the journal says so itself, git and the compiler only repeat the system's words.
    if text.contains("No space left on device") || text.contains("Disk quota exceeded") {
        text.push_str("  mend: make room on that disk, or set MOAT_HOME to a directory on another one, and run again\n");
    }
    (text, exit(error))
}

fn exit(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if cause.is::<confine::ConfineError>() || cause.is::<sandbox::LoadError>() {
            return Exit::Refused;
        }
        if let Some(ApprovalError::Widens { .. } | ApprovalError::Damaged { .. }) =
            cause.downcast_ref::<ApprovalError>()
        {
            return Exit::Refused;
        }
        if let Some(OpenError::Approval(error)) = cause.downcast_ref::<OpenError>() {
            return match error {
                ApprovalError::Unusable { .. } | ApprovalError::Trail(_) => Exit::Failed,
                _ => Exit::Refused,
            };
        }
        if cause.is::<capability::ConfigError>()
            || cause.is::<repo::SourceError>()
            || cause.is::<OpenError>()
            || cause.is::<catalog::PackageError>()
        {
            return Exit::Usage;
        }
        if let Some(error) = cause.downcast_ref::<DriveError>() {
            return match error {
                DriveError::StillBlocked(_) => Exit::Waiting,
                DriveError::NoSuchRun { .. } | DriveError::NotNow(_) => Exit::Usage,
                _ => Exit::Failed,
            };
        }
        if let Some(HouseError::Config(_)) = cause.downcast_ref::<HouseError>() {
            return Exit::Refused;
        }
        if cause.is::<flow::id::InvalidId>() || cause.is::<ArchiveError>() {
            return Exit::Usage;
        }
    }
    Exit::Failed
}
