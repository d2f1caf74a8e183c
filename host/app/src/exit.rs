//! Exit codes: part of the interface, so that scripts can act on them.

use std::process::ExitCode;

use flow::run::{End, Run, Stage};

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done what was asked.
    Done,
    /// 1: it failed, or the run is parked.
    Failed,
    /// 2: the command line or a file is wrong; nothing was done.
    Usage,
    /// 3: policy, grant or machine does not allow it; nothing was done.
    Refused,
    /// 4: a person must answer, or give a grant, first.
    Waiting,
}

impl Exit {
    /// The code that a run's state stands for.
    pub fn of_run(run: &Run) -> Exit {
        match &run.stage {
            Stage::Ended(End::Merged | End::Deployed | End::Joined) => Exit::Done,
            Stage::Ended(End::Declined(_) | End::Cancelled) => Exit::Failed,
            _ if run.blocked().is_some() => Exit::Waiting,
            _ if run.parked.is_some() => Exit::Failed,
            _ => match flow::next(run) {
                flow::run::Action::AwaitAnswer { .. } | flow::run::Action::Tend { .. } => {
                    Exit::Waiting
                }
                _ => Exit::Failed,
            },
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::Waiting => 4,
        })
    }
}
