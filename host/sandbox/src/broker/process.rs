//! `moat:host/process`: commands on the step's view.

use capability::Grant;
use capability::RelPath;
use serde_json::{Value, json};

use crate::broker::{Reply, only, result};
use crate::message::process::{Command, Invocation, Output, ProcessError};
use crate::services::Services;

/// Standard input that a skill may give a command. The engine's own bound on what one host call copies ends the call not far above it.
const STDIN_BYTES_MAX: usize = 256 << 10;

pub(crate) async fn answer(
    grant: &Grant,
    services: &dyn Services,
    function: &str,
    args: Vec<Value>,
) -> Reply {
    match function {
        "run" => match only(args) {
            Some(command) => run(grant, services, command).await,
            None => Reply::Malformed,
        },
        "project-commands" => {
            let offered = grant
                .project_commands()
                .filter_map(|(name, _)| services.project_command(name));
            Reply::Done(json!(offered.collect::<Vec<_>>()))
        }
        _ => Reply::Malformed,
    }
}

async fn run(grant: &Grant, services: &dyn Services, command: Command) -> Reply {
    let asked = match &command.what {
        Invocation::Project(project) => grant.may_run_project(&project.name, &project.extra_args),
        Invocation::Program(program) => grant.may_run_program(&program.program, &program.args),
    };
    let terms = match asked {
        Ok(terms) => terms,
        Err(denial) => {
            return Reply::Denied(result::<Output, _>(Err(ProcessError::Denied)), denial);
        }
    };
    if let Err(why) = well_formed(&command) {
        return Reply::Done(result::<Output, _>(Err(ProcessError::Invalid(why))));
    }
    match services.run_command(command, terms).await {
        Ok(ran) => Reply::Ran(result::<_, ProcessError>(Ok(ran.output)), ran.denials),
        Err(error) => Reply::Done(result::<Output, _>(Err(error))),
    }
}

fn well_formed(command: &Command) -> Result<(), String> {
    let args = match &command.what {
        Invocation::Project(project) => &project.extra_args,
        Invocation::Program(program) => &program.args,
    };
    if args.len() > 1000 || args.iter().map(String::len).sum::<usize>() > 256 * 1024 {
        return Err("too many or too long arguments".into());
    }
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err("an argument has a NUL".into());
    }
    if command.stdin.len() > STDIN_BYTES_MAX {
        return Err(format!(
            "standard input has more than {STDIN_BYTES_MAX} bytes"
        ));
    }
    if !command.directory.is_empty() && command.directory.parse::<RelPath>().is_err() {
        return Err("the directory is no path within the view".into());
    }
    Ok(())
}
