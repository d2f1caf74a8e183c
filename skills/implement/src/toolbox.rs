//! Does what a tool call asks for: files of the view, commands of the project. The calls that end the loop are not here.

use crate::clip;
use crate::edit;
use crate::glob::Glob;
use crate::host::{Command, CommandError, Ending, Host, Output};
use crate::path::FilePath;
use crate::search::search;
use crate::tool::{Call, EditFile, ListFiles, ReadFile, RunCommand, WriteFile};
use crate::view::View;

/// Lines of one read.
const LINES_MAX: usize = 400;

/// Text of one read or listing.
const TEXT_BYTES_MAX: usize = 32 << 10;

/// Output of one command: beginning and end.
pub const OUTPUT_BYTES_MAX: usize = 16 << 10;

/// Paths of one listing.
const PATHS_MAX: usize = 500;

/// One line of a read; a longer one is generated.
const LINE_CHARS_MAX: usize = 2_000;

/// A command that hangs must leave the model time to hear of it.
const COMMAND_MS_MAX: u64 = 15 * 60_000;

/// Below the manifest's time: a skill that is ended from outside leaves no reason behind.
pub const TIME_MS_MAX: u64 = 55 * 60_000;

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For the model.
    pub text: String,
    /// Whether it says what went wrong.
    pub is_error: bool,
    /// What makes it the same as another answer: of commands only how they ended, since their output tells times.
    pub gist: String,
}

impl Answer {
    /// All went well.
    pub fn done(text: impl Into<String>) -> Answer {
        let text = text.into();
        Answer {
            gist: text.clone(),
            text,
            is_error: false,
        }
    }

    /// It did not; the model reads why.
    pub fn wrong(text: impl Into<String>) -> Answer {
        Answer {
            is_error: true,
            ..Answer::done(text)
        }
    }
}

/// The budget of the step is used up: nothing more can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfBudget;

/// Does a call. `finish` and `give_up` are the loop's and answer an error here.
///
/// # Errors
/// [`OutOfBudget`]; whatever else goes wrong is an answer.
pub fn perform(
    call: &Call,
    view: &mut View,
    commands: &[Command],
    host: &mut impl Host,
) -> Result<Answer, OutOfBudget> {
    let told = match call {
        Call::ListFiles(list) => list_files(view, list),
        Call::ReadFile(read) => read_file(view, read),
        Call::Search(wanted) => search(view, &wanted.pattern, wanted.glob.as_deref()),
        Call::EditFile(wanted) => edit_file(view, wanted),
        Call::WriteFile(wanted) => write_file(view, wanted),
        Call::DeleteFile(wanted) => FilePath::new(&wanted.path)
            .and_then(|path| view.delete(&path).map(|()| format!("deleted {path}"))),
        Call::RunCommand(run) => return run_command(commands, run, host),
        Call::Finish(_) | Call::GiveUp(_) => Err("it ends the work and does nothing else".into()),
    };
    Ok(match told {
        Ok(text) => Answer::done(text),
        Err(text) => Answer::wrong(text),
    })
}

fn list_files(view: &View, list: &ListFiles) -> Result<String, String> {
    let glob = list.glob.as_deref().map(Glob::new).transpose()?;
    let mut listing = view.list();
    listing
        .paths
        .retain(|path| glob.as_ref().is_none_or(|glob| glob.matches(path)));
    let paths = &listing.paths;
    let size: usize = paths.iter().map(|path| path.len() + 1).sum();
    let mut text = if paths.len() <= PATHS_MAX && size <= TEXT_BYTES_MAX {
        format!("{} files\n{}", paths.len(), paths.join("\n"))
    } else {
        format!(
            "{} files, too many to list; by folder (give a glob to see files):\n{}",
            paths.len(),
            clip::head(&folders(paths), TEXT_BYTES_MAX)
        )
    };
    if listing.cut {
        text.push_str("\n[cut: the repository has more files than are looked at]");
    }
    Ok(text)
}

/// Numbers of files by folder, as deep as fits.
fn folders(paths: &[String]) -> String {
    let at_depth = |depth: usize| {
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for path in paths {
            let parts: Vec<&str> = path.split('/').collect();
            let shown = depth.min(parts.len() - 1);
            *counts
                .entry(format!("{}/", parts[..shown].join("/")))
                .or_insert(0) += 1;
        }
        counts
    };
    let mut counts = at_depth(1);
    for depth in 2..8 {
        let deeper = at_depth(depth);
        if deeper.len() > PATHS_MAX / 2 || deeper.len() == counts.len() {
            break;
        }
        counts = deeper;
    }
    let line = |(folder, count): (&String, &usize)| match folder.as_str() {
        "/" => format!("{count} in the root"),
        folder => format!("{count} in {folder}"),
    };
    counts.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn read_file(view: &View, read: &ReadFile) -> Result<String, String> {
    let path = FilePath::new(&read.path)?;
    let text = match view.read(&path) {
        Err(error) if !view.has(&path) => return Err(format!("{error}{}", namesakes(view, &path))),
        other => other?,
    };
    if text.is_empty() {
        return Ok(format!("{path} is empty"));
    }
    let from = read.from_line.unwrap_or(1).max(1) as usize;
    let wanted = read
        .lines
        .map_or(LINES_MAX, |lines| (lines as usize).clamp(1, LINES_MAX));
    let all = text.lines().count();
    if from > all {
        return Err(format!(
            "{path} has {all} lines, and line {from} was asked for"
        ));
    }
    let mut out = String::new();
    let mut last = from - 1;
    for (at, line) in text.lines().enumerate().skip(from - 1).take(wanted) {
        let line = numbered(at + 1, line);
        if out.len() + line.len() > TEXT_BYTES_MAX {
            break;
        }
        out.push_str(&line);
        last = at + 1;
    }
    let mut notes = vec![format!("{path}, lines {from} to {last} of {all}")];
    if edit::has_crlf(&text) {
        notes.push("line ends are CRLF".into());
    }
    if !text.ends_with('\n') && last == all {
        notes.push("no line break at its end".into());
    }
    if last < all {
        notes.push(format!("for more read from_line {}", last + 1));
    }
    Ok(format!("[{}]\n{out}", notes.join("; ")))
}

fn numbered(number: usize, line: &str) -> String {
    match line.char_indices().nth(LINE_CHARS_MAX) {
        Some((end, _)) => format!("{number}\t{} [cut: the line goes on]\n", &line[..end]),
        None => format!("{number}\t{line}\n"),
    }
}

/// Files of the same name elsewhere.
fn namesakes(view: &View, path: &FilePath) -> String {
    let end = format!("/{}", path.name());
    let paths = view.list().paths;
    let found: Vec<&str> = paths
        .iter()
        .filter(|one| one.ends_with(&end) || *one == path.name())
        .take(5)
        .map(String::as_str)
        .collect();
    if found.is_empty() {
        String::new()
    } else {
        format!("; there is {}", found.join(", "))
    }
}

fn edit_file(view: &mut View, wanted: &EditFile) -> Result<String, String> {
    let path = FilePath::new(&wanted.path)?;
    let text = match view.read(&path) {
        Err(error) if !view.has(&path) => return Err(format!("{error}{}", namesakes(view, &path))),
        other => other?,
    };
    let changed = edit::replace(&text, &wanted.old, &wanted.new)
        .map_err(|error| format!("{path}: {error}"))?;
    view.write(&path, &changed)?;
    Ok(format!("edited {path}"))
}

fn write_file(view: &mut View, wanted: &WriteFile) -> Result<String, String> {
    let path = FilePath::new(&wanted.path)?;
    let (content, what) = match view.read(&path) {
        Ok(existing) => (edit::like(&existing, &wanted.content), "replaced"),
        Err(_) if view.has(&path) => (wanted.content.clone(), "replaced"),
        Err(_) => (wanted.content.clone(), "wrote the new file"),
    };
    view.write(&path, &content)?;
    Ok(format!("{what} {path}, {} lines", content.lines().count()))
}

fn run_command(
    commands: &[Command],
    run: &RunCommand,
    host: &mut impl Host,
) -> Result<Answer, OutOfBudget> {
    if !commands.iter().any(|command| command.name == run.name) {
        let names: Vec<&str> = commands
            .iter()
            .map(|command| command.name.as_str())
            .collect();
        let asked = clip::line(&run.name, 64);
        return Ok(Answer::wrong(format!(
            "there is no command {asked:?}; the commands are {}",
            names.join(", ")
        )));
    }
    let args = run.extra_args.clone().unwrap_or_default();
    if let Some(why) = args
        .iter()
        .any(|arg| arg.contains('\0'))
        .then_some("an argument has a NUL")
    {
        return Ok(Answer::wrong(why));
    }
    let timeout_ms = command_ms(host);
    match host.run(&run.name, &args, timeout_ms) {
        Ok(output) => Ok(shown(&output)),
        Err(CommandError::OutOfBudget) => Err(OutOfBudget),
        Err(error) => Ok(Answer::wrong(not_run(&error, !args.is_empty()))),
    }
}

/// How long a command may take now.
pub fn command_ms(host: &mut impl Host) -> u64 {
    let left = TIME_MS_MAX.saturating_sub(host.elapsed_ms());
    COMMAND_MS_MAX.min(left.max(1000))
}

/// Why a command was not run, in words.
pub fn not_run(error: &CommandError, with_args: bool) -> String {
    match error {
        CommandError::Denied if with_args => {
            "that is not granted; this command may have to be run without extra_args".into()
        }
        CommandError::Denied => "that is not granted".into(),
        CommandError::NotFound => {
            "the project has no such command, or its program is not on this machine".into()
        }
        CommandError::Invalid(why) => format!("the host refused it: {}", clip::line(why, 300)),
        CommandError::OutOfBudget => "the budget of this step is used up".into(),
        CommandError::Unavailable(why) => {
            format!("it could not be started: {}", clip::line(why, 300))
        }
    }
}

/// What a command showed.
pub fn shown(output: &Output) -> Answer {
    let ending = ended(output.ending);
    let mut text = format!("it {ending}\n");
    let streams = [("stdout", &output.stdout), ("stderr", &output.stderr)];
    let filled = streams
        .iter()
        .filter(|(_, stream)| !stream.trim().is_empty())
        .count();
    for (name, stream) in streams
        .iter()
        .filter(|(_, stream)| !stream.trim().is_empty())
    {
        let clean = moat_sdk::report::without_escapes(stream);
        text.push_str(&format!(
            "--- {name}\n{}\n",
            clip::middle(clean.trim_end(), OUTPUT_BYTES_MAX / filled)
        ));
    }
    if filled == 0 {
        text.push_str("and printed nothing");
    }
    Answer {
        text,
        // Red tests are an answer, not a misuse of the tool.
        is_error: false,
        gist: ending,
    }
}

fn ended(ending: Ending) -> String {
    match ending {
        Ending::Exited(0) => "ended well: exit status 0".into(),
        Ending::Exited(code) => format!("failed: exit status {code}"),
        Ending::Signalled(signal) => format!("was ended by signal {signal}"),
        Ending::Deadline => "was ended by the host because it took too long".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use tempfile::TempDir;

    use super::*;

    fn sample() -> (TempDir, View) {
        let directory = TempDir::new().unwrap();
        std::fs::create_dir(directory.path().join("src")).unwrap();
        let long: String = (1..=1000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(directory.path().join("src/long.txt"), long).unwrap();
        let view = View::new(directory.path());
        (directory, view)
    }

    fn read(path: &str, from_line: Option<u32>, lines: Option<u32>) -> ReadFile {
        ReadFile {
            path: path.into(),
            from_line,
            lines,
        }
    }

    #[test]
    fn reads_are_numbered_capped_and_say_how_to_go_on() {
        let (directory, view) = sample();
        let text = read_file(&view, &read("src/long.txt", None, None)).unwrap();
        assert!(
            text.contains("lines 1 to 400 of 1000; for more read from_line 401"),
            "{text}"
        );
        assert!(text.contains("\n1\tline 1\n") && text.ends_with("400\tline 400\n"));
        let text = read_file(&view, &read("src/long.txt", Some(999), Some(9))).unwrap();
        assert!(
            text.ends_with("999\tline 999\n1000\tline 1000\n") && !text.contains("more"),
            "{text}"
        );
        assert!(read_file(&view, &read("src/long.txt", Some(1001), None)).is_err());
        let error = read_file(&view, &read("lib/long.txt", None, None)).unwrap_err();
        assert!(error.contains("there is src/long.txt"), "{error}");
        std::fs::write(directory.path().join("wide"), "x".repeat(100_000)).unwrap();
        let text = read_file(&view, &read("wide", None, None)).unwrap();
        assert!(text.len() < TEXT_BYTES_MAX && text.contains("[cut: the line goes on]"));
        let broad = format!("{}\n", "y".repeat(999)).repeat(100);
        std::fs::write(directory.path().join("broad"), broad).unwrap();
        let text = read_file(&view, &read("broad", None, None)).unwrap();
        assert!(text.len() < TEXT_BYTES_MAX + 200 && text.contains("for more read from_line 33"));
        std::fs::write(directory.path().join("dos"), "a\r\nb").unwrap();
        let text = read_file(&view, &read("dos", None, None)).unwrap();
        assert!(
            text.ends_with("1\ta\n2\tb\n") && text.contains("no line break"),
            "{text}"
        );
    }

    #[test]
    fn long_listings_become_folders() {
        let (directory, view) = sample();
        for n in 0..400 {
            std::fs::create_dir_all(directory.path().join(format!("big/d{}", n % 3))).unwrap();
            std::fs::write(directory.path().join(format!("big/d{}/{n}.py", n % 3)), "").unwrap();
            std::fs::write(directory.path().join(format!("src/{n}.rs")), "").unwrap();
        }
        let text = list_files(&view, &ListFiles { glob: None }).unwrap();
        assert!(
            text.contains("401 in src/") && text.contains("134 in big/d0/"),
            "{text}"
        );
        let text = list_files(
            &view,
            &ListFiles {
                glob: Some("src/1.*".into()),
            },
        )
        .unwrap();
        assert_eq!(text, "1 files\nsrc/1.rs");
    }

    #[test]
    fn output_is_cut_in_its_middle_and_freed_of_escapes() {
        let output = Output {
            ending: Ending::Exited(1),
            stdout: format!("\x1b[31mbegin\x1b[0m{}end", "x".repeat(100_000)),
            stderr: String::new(),
        };
        let answer = shown(&output);
        assert!(answer.text.contains("exit status 1") && answer.text.contains("stdout\nbegin"));
        assert!(answer.text.trim_end().ends_with("end") && answer.text.contains("[cut: "));
        assert!(answer.text.len() < OUTPUT_BYTES_MAX + 200);
    }
}
