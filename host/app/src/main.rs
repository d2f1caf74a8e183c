//! The `moat` program: command line in, words for people out.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the one room that talks to people"
)]
#![allow(unreachable_pub, reason = "a program has no outside")]

mod archive;
mod board;
mod cli;
mod exit;
mod failure;
mod screen;
mod show;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // This program is also its own launcher and worker; both must begin before anything else does.
    confine::enter_if_asked();
    if let Err(error) = confine::shield() {
        eprintln!("error: this process cannot be kept from being looked into: {error}");
        return exit::Exit::Refused.into();
    }
    sandbox::enter_worker_if_asked();
    end_quietly_with_the_reader();
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            let help = matches!(
                error.kind(),
                clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion
            );
            return if help {
                exit::Exit::Done.into()
            } else {
                exit::Exit::Usage.into()
            };
        }
    };
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("MOAT_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .without_time()
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads can be started: {error}");
            return exit::Exit::Failed.into();
        }
    };
    match runtime.block_on(cli::run(arguments)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let (text, exit) = failure::tell(&error);
            eprint!("{text}");
            exit.into()
        }
    }
}

/// `moat runs | head` closes the pipe when it has seen enough. `println!` panics then, which would look like a defect.
fn end_quietly_with_the_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic
            .payload_as_str()
            .is_some_and(|said| said.contains("Broken pipe"))
        {
            std::process::exit(1);
        }
        usual(panic);
    }));
}
