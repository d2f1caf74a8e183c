//! The skill itself: the search over the view's files and the project's tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use moat_sdk::implement::host::process::{Ending, project_commands};
use moat_sdk::implement::{Assignment, Guest, Outcome, SkillError, note, run_project};
use moat_sdk::report::Report;

use crate::executed::Executed;
use crate::focus::{TRACER, focus, is_cargo, traced};
use crate::instrument::{accepted, probes, telling};
use crate::language::Language;
use crate::localise::{Hints, Sources};
use crate::search::{Found, TestRun, Tests, search};
use crate::told::in_vain;

/// Below the manifest's time: what is left is for the end.
const TIME: Duration = Duration::from_secs(25 * 60);

/// What the tests may take while their lines are noted, which slows them down much.
const TRACE_MS: u64 = 60_000;

/// How often functions that cannot be made to tell are left out and the others tried again.
const PROBE_ROUNDS: usize = 4;

const FILES_MAX: usize = 2_000;
const FILE_BYTES_MAX: u64 = 400_000;

struct Skill;

impl Guest for Skill {
    fn implement(assignment: Assignment) -> Result<Outcome, SkillError> {
        note("reading the sources");
        let mut sources = Sources::new();
        gather(Path::new("/"), &mut sources, 0);
        if sources.is_empty() {
            return Ok(Outcome::GaveUp(
                "there are no Rust or Python sources to search".into(),
            ));
        }
        let text = format!("{}\n{}", assignment.item.title, assignment.item.body);
        let hints = Hints {
            suspects: assignment.item.suspects,
            text,
        };
        let refused: BTreeSet<String> = assignment
            .last_diff
            .iter()
            .flat_map(|diff| diff.lines())
            .filter_map(|line| {
                line.strip_prefix('+')
                    .filter(|line| !line.starts_with("++"))
            })
            .map(|line| line.trim().to_owned())
            .collect();
        let argv = project_commands()
            .into_iter()
            .find(|command| command.name == "test")
            .map_or_else(Vec::new, |command| command.argv);
        let mut host = Host {
            begun: Instant::now(),
            argv,
        };
        Ok(match search(sources, &hints, &refused, &mut host) {
            Found::Repair { edits, tried } => {
                let lines: Vec<String> = edits.iter().map(|edit| format!("{}:{}: {}", edit.path, edit.line, edit.what)).collect();
                Outcome::Changed(format!("{}\n\nFound by search: candidate {tried}; every test of the project passes with it.", lines.join("\n")))
            }
            Found::NothingRed => Outcome::GaveUp("all tests pass on the base: no failing test shows the fault, so nothing can guide a search".into()),
            Found::NoGuide => Outcome::GaveUp("the tests fail, but no single failing test can be told from their output".into()),
            Found::Nothing(vain) => Outcome::GaveUp(in_vain(&vain)),
        })
    }
}

/// Reads the sources below a directory, relative to the root.
fn gather(directory: &Path, sources: &mut Sources, depth: usize) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir()
            && depth < 12
            && !matches!(
                name.as_str(),
                "target" | "node_modules" | "__pycache__" | ".git" | ".venv" | "venv"
            )
        {
            gather(&path, sources, depth + 1);
        } else if kind.is_file() && sources.len() < FILES_MAX && Language::of(&name).is_some() {
            let small = entry
                .metadata()
                .is_ok_and(|data| data.len() <= FILE_BYTES_MAX);
            if let (true, Ok(text)) = (small, std::fs::read_to_string(&path)) {
                sources.insert(
                    path.to_string_lossy().trim_start_matches('/').to_owned(),
                    text,
                );
            }
        }
    }
}

struct Host {
    begun: Instant,
    argv: Vec<String>,
}

impl Host {
    fn output(&self, args: &[String], timeout_ms: Option<u64>) -> Option<(bool, String, u64)> {
        if self.begun.elapsed() > TIME {
            return None;
        }
        // A budget that is used up or a command that is refused ends the search as time does.
        let output = run_project("test", args, timeout_ms).ok()?;
        let text = format!("{}\n{}", output.stdout, output.stderr);
        let clean = matches!(output.ending, Ending::Exited(0));
        Some((clean, text, output.duration_ms))
    }

    /// The functions that tests of Rust enter. Those that cannot be made to tell are found by trying.
    fn entered(&mut self, sources: &Sources, focus: &[String]) -> Executed {
        let mut probes = probes(sources);
        let mut executed = Executed::default();
        for _ in 0..PROBE_ROUNDS {
            let paths: BTreeSet<&String> = probes.iter().map(|probe| &probe.path).collect();
            for path in &paths {
                self.write(path, &telling(path, &sources[*path], &probes));
            }
            let told = self.output(focus, Some(TRACE_MS));
            for path in paths {
                self.write(path, &sources[path]);
            }
            let Some((_, text, _)) = told else { break };
            executed = Executed::read(&text);
            let left = accepted(&probes, &text);
            if !executed.is_empty() || left.len() == probes.len() || left.is_empty() {
                break;
            }
            probes = left;
        }
        executed
    }
}

impl Tests for Host {
    fn run(&mut self, args: &[String], timeout_ms: Option<u64>) -> Option<TestRun> {
        let (clean, text, duration_ms) = self.output(args, timeout_ms)?;
        let report = Report::read(&text);
        Some(TestRun {
            // Arguments that chose no test at all must not look like success.
            green: clean
                && report.red().next().is_none()
                && (args.is_empty() || report.ran != Some(0)),
            focus: focus(&self.argv, &report, &text),
            report,
            duration_ms,
        })
    }

    fn executed(&mut self, sources: &Sources, focus: &[String]) -> Executed {
        note("asking what the failing tests execute");
        if is_cargo(&self.argv) {
            return self.entered(sources, focus);
        }
        let Some(args) = traced(&self.argv, focus) else {
            return Executed::default();
        };
        let (name, module) = TRACER;
        let path = format!("/{name}.py");
        if std::fs::exists(&path).unwrap_or(true) || std::fs::write(&path, module).is_err() {
            return Executed::default();
        }
        let told = self.output(&args, Some(TRACE_MS));
        // What could be written can be removed; were it not, it would show in the change for everybody to see.
        let _ = std::fs::remove_file(&path);
        told.map_or_else(Executed::default, |(_, text, _)| Executed::read(&text))
    }

    fn write(&mut self, path: &str, text: &str) {
        // A file that cannot be written keeps its tests red; nothing is believed of this.
        let _ = std::fs::write(Path::new("/").join(path), text);
    }

    fn note(&mut self, text: &str) {
        note(text);
    }
}

moat_sdk::implement::export!(Skill with_types_in moat_sdk::implement);
