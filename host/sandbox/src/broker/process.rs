//! `moat:host/process`: commands on the step's view.

use capability::RelPath;
use serde_json::{Value, json};

use crate::broker::{Again, Go, Reply, Turn, Unanswered, only, result};
use crate::message::process::{Command, Invocation, Output, ProcessError};

/// Standard input that a skill may give a command. The engine's own bound on what one host call copies ends the call not far above it.
const STDIN_BYTES_MAX: usize = 256 << 10;

pub(crate) async fn answer(
    turn: &mut Turn<'_>,
    function: &str,
    args: Vec<Value>,
) -> Result<Reply, Unanswered> {
    Ok(match function {
        "run" => match only(args) {
            Some(command) => return run(turn, command).await,
            None => Reply::Malformed,
        },
        "project-commands" => {
            let offered = turn
                .grant
                .project_commands()
                .filter_map(|(name, _)| turn.services.project_command(name));
            Reply::Done(json!(offered.collect::<Vec<_>>()))
        }
        _ => Reply::Malformed,
    })
}

async fn run(turn: &mut Turn<'_>, command: Command) -> Result<Reply, Unanswered> {
    let grant = turn.grant;
    let asked = match &command.what {
        Invocation::Project(project) => grant.may_run_project(&project.name, &project.extra_args),
        Invocation::Program(program) => grant.may_run_program(&program.program, &program.args),
    };
    let failed = |error| result::<Output, _>(Err(error));
    let terms = match asked {
        Ok(terms) => terms,
        Err(denial) => return Ok(Reply::Denied(failed(ProcessError::Denied), denial)),
    };
    if let Err(why) = well_formed(&command) {
        return Ok(Reply::Done(failed(ProcessError::Invalid(why))));
    }
    // Without a network it changes nothing but a layer that is thrown away.
    let again = match terms.network {
        true => Again::Never,
        false => Again::Freely,
    };
    let go = turn.about_to(again, || told(&command)).await?;
    if go == Go::Happened {
        let why = "it was interrupted, and did what it does outside: its output is lost";
        return Ok(Reply::Done(failed(ProcessError::Unavailable(why.into()))));
    }
    Ok(match turn.services.run_command(command, terms).await {
        Ok(ran) => Reply::Ran(
            result::<_, ProcessError>(Ok(ran.output)),
            ran.denials,
            ran.traffic,
        ),
        Err(error) => Reply::Done(failed(error)),
    })
}

/// The command, for a person who has to say whether it happened.
fn told(command: &Command) -> String {
    let (name, args) = match &command.what {
        Invocation::Project(project) => (&project.name, &project.extra_args),
        Invocation::Program(program) => (&program.program, &program.args),
    };
    format!(
        "the command `{name} {}`, which has a network",
        args.join(" ")
    )
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
