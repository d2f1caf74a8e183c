//! The skill itself: the search over the view's files and the project's tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use moat_sdk::implement::host::process::Ending;
use moat_sdk::implement::{Assignment, Guest, Outcome, SkillError, note, run_project};
use moat_sdk::report::Report;

use crate::language::Language;
use crate::localise::{Hints, Sources};
use crate::search::{Found, TestRun, Tests, search};

/// Below the manifest's time: what is left is for the end.
const TIME: Duration = Duration::from_secs(25 * 60);

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
        let mut host = Host {
            begun: Instant::now(),
        };
        Ok(match search(sources, &hints, &refused, &mut host) {
            Found::Repair { edits, tried } => {
                let lines: Vec<String> = edits.iter().map(|edit| format!("{}:{}: {}", edit.path, edit.line, edit.what)).collect();
                Outcome::Changed(format!("{}\n\nFound by search: candidate {tried}; every test of the project passes with it.", lines.join("\n")))
            }
            Found::NothingRed => Outcome::GaveUp("all tests pass on the base: no failing test shows the fault, so nothing can guide a search".into()),
            Found::NoGuide => Outcome::GaveUp("the tests fail, but no single failing test can be told from their output".into()),
            Found::Nothing { tried, out_of_time: true } => Outcome::GaveUp(format!("time ran out after {tried} candidates")),
            Found::Nothing { tried, .. } => Outcome::GaveUp(format!("none of {tried} small edits makes the tests pass")),
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
}

impl Tests for Host {
    fn run(&mut self, timeout_ms: Option<u64>) -> Option<TestRun> {
        if self.begun.elapsed() > TIME {
            return None;
        }
        // A budget that is used up or a command that is refused ends the search as time does.
        let output = run_project("test", &[], timeout_ms).ok()?;
        let report = Report::read(&format!("{}\n{}", output.stdout, output.stderr));
        Some(TestRun {
            green: matches!(output.ending, Ending::Exited(0)) && report.red().next().is_none(),
            report,
            duration_ms: output.duration_ms,
        })
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
