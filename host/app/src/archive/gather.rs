//! What belongs to a run: gathered from the journal, the mirror and the audit trail. What is not there any more is named, not passed over.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use audit::{Filter, Trail};
use flow::id::{Digest, RunId, TreeId};
use flow::run::{Run, Stage};
use flow::{Event, Recorded};
use journal::{Journal, JournalError, Stored};
use repo::{DiffLimits, Mirror};
use serde_json::{Value, json};

use crate::archive::{Contents, EVENTS, FORMAT, RUN};
use crate::board::summary;
use crate::show::place::Place;
use crate::show::state::{Driving, State};
use crate::show::{dossier, text, timeline};

/// A patch that somebody reads; the events name every path in any case.
const PATCH_BYTES_MAX: usize = 16 << 20;

/// Where it is gathered from.
pub struct Sources<'a> {
    /// The journal.
    pub journal: &'a Journal,
    /// The audit trail.
    pub trail: &'a Trail,
    /// The mirror of the run's repository, if it can be read; otherwise why not.
    pub mirror: Result<Mirror, String>,
    /// Whether skills' components come along.
    pub with_components: bool,
}

/// What is gathered.
struct Gathered {
    files: Vec<(String, Vec<u8>)>,
    left_out: Vec<String>,
}

impl Gathered {
    fn file(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.files.push((path.into(), bytes.into()));
    }

    fn miss(&mut self, what: impl Into<String>) {
        self.left_out.push(what.into());
    }
}

/// Gathers a run. One that cannot be read here is gathered as far as it can be copied.
///
/// # Errors
/// Those of the journal and the trail.
pub fn gather(
    sources: &Sources<'_>,
    id: &RunId,
    stored: &[Stored],
    told: &Result<(Run, Vec<Recorded>), String>,
    driving: &Driving,
) -> anyhow::Result<Contents> {
    let mut gathered = Gathered {
        files: Vec::new(),
        left_out: Vec::new(),
    };
    gathered.file(EVENTS, events(stored));
    match told {
        Ok((run, events)) => {
            readable(&mut gathered, run, events, driving);
            changes(&mut gathered, sources, run, events);
            pinned(&mut gathered, sources, run, events)?;
        }
        Err(why) => gathered.miss(format!(
            "all but the events, notes and audit entries: {why}"
        )),
    }
    notes(&mut gathered, sources.journal, id, stored)?;
    old_notes(&mut gathered, told);
    gathered.file("audit.jsonl", audit(sources.trail, id)?);
    let about = about(id, stored, told, driving, &gathered.left_out);
    let mut files = vec![
        ("README.md".to_owned(), readme(id, &gathered).into_bytes()),
        (RUN.to_owned(), about.into_bytes()),
    ];
    gathered.files.sort();
    files.extend(gathered.files);
    let at_s = stored.last().map_or(0, |last| last.at_ms / 1000);
    Ok(Contents { files, at_s })
}

/// As they lie in the journal, also those that this moat does not understand.
fn events(stored: &[Stored]) -> String {
    let mut out = String::new();
    for one in stored {
        let line = json!({"number": one.number, "at-ms": one.at_ms, "event": body(&one.body)});
        let _ = writeln!(out, "{line}");
    }
    out
}

/// Everything that moat writes is JSON; anything else is kept as text.
fn body(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

fn about(
    id: &RunId,
    stored: &[Stored],
    told: &Result<(Run, Vec<Recorded>), String>,
    driving: &Driving,
    left_out: &[String],
) -> String {
    let (state, summary) = match told {
        Ok((run, _)) => (State::of(run, driving), summary(run, driving)),
        Err(_) => (State::Error, Value::Null),
    };
    let about = json!({
        "format": FORMAT,
        "moat": env!("CARGO_PKG_VERSION"),
        "run": id,
        "state": state.word(),
        "events": stored.len(),
        "left-out": left_out,
        "summary": summary,
    });
    format!("{about:#}\n")
}

/// What a person reads first.
fn readable(gathered: &mut Gathered, run: &Run, events: &[Recorded], driving: &Driving) {
    let dossier = dossier::of(run, events, driving, &Place::Copy);
    gathered.file("dossier.md", dossier);
    gathered.file("timeline.txt", timeline::table(&timeline::of(events), 120));
    let mut verdicts = String::new();
    for recorded in events {
        if let Event::GateDecided { verdict } = &recorded.event {
            let line = json!({"number": recorded.number, "verdict": verdict});
            let _ = writeln!(verdicts, "{line}");
        }
    }
    gathered.file("verdicts.jsonl", verdicts);
}

/// What each attempt changed, and what was merged.
fn changes(gathered: &mut Gathered, sources: &Sources<'_>, run: &Run, events: &[Recorded]) {
    let candidates = run.attempts.iter().filter_map(|attempt| {
        let candidate = attempt.candidate.as_ref()?;
        let path = format!("attempts/{}.diff", attempt.number);
        Some((path, candidate.base.tree.clone(), candidate.tree.clone()))
    });
    let merge = events.iter().rev().find_map(|one| match &one.event {
        Event::MergePrepared { onto, tree, .. } => {
            Some(("merge.diff".to_owned(), onto.tree.clone(), tree.clone()))
        }
        _ => None,
    });
    for (path, from, to) in candidates.chain(merge) {
        match diff(&sources.mirror, &from, &to) {
            Ok(patch) => gathered.file(path, patch),
            Err(why) => gathered.miss(format!("{path}: {why}")),
        }
    }
}

fn diff(mirror: &Result<Mirror, String>, from: &TreeId, to: &TreeId) -> Result<String, String> {
    let limits = DiffLimits {
        patch_bytes_max: PATCH_BYTES_MAX,
        ..DiffLimits::default()
    };
    let diff = mirror
        .as_ref()
        .map_err(Clone::clone)?
        .diff(from, to, &limits)
        .map_err(|error| error.to_string())?;
    let mut out = String::new();
    for file in &diff.files {
        let binary = if file.binary { ", binary" } else { "" };
        let _ = writeln!(
            out,
            "# {}: {:?}, +{} -{}{binary}",
            file.path, file.status, file.additions, file.deletions
        );
    }
    if diff.truncated {
        out.push_str("# The patch is longer than fits; files at its end are missing.\n");
    }
    out.push_str(&diff.patch);
    Ok(out)
}

/// The files that the run is bound to.
fn pinned(
    gathered: &mut Gathered,
    sources: &Sources<'_>,
    run: &Run,
    events: &[Recorded],
) -> Result<(), JournalError> {
    let mut wanted = vec![("moat.toml".to_owned(), run.opened.project.clone())];
    if let Some(policy) = &run.opened.policy {
        wanted.push(("policy.toml".to_owned(), policy.text.clone()));
    }
    for recorded in events {
        if let Event::Regranted { regrant, .. } = &recorded.event {
            let folder = format!("regranted/{}", recorded.number);
            wanted.push((format!("{folder}/moat.toml"), regrant.project.clone()));
            wanted.push((format!("{folder}/policy.toml"), regrant.policy.text.clone()));
        }
    }
    if sources.with_components {
        for skill in run.opened.pipeline.skills() {
            let path = format!("components/{}-{}.wasm", skill.name, skill.digest.short());
            wanted.push((path, skill.digest.clone()));
        }
    }
    for (path, digest) in wanted {
        match sources.journal.get_blob(&digest)? {
            Some(bytes) => gathered.file(path, bytes),
            None => gathered.miss(format!("{path}: {digest} is not kept")),
        }
    }
    // A skill that has two roles is one component.
    gathered.files.sort();
    gathered.files.dedup();
    Ok(())
}

/// What was recorded of calls, by the event that began them, with the blobs that it names.
fn notes(
    gathered: &mut Gathered,
    journal: &Journal,
    id: &RunId,
    stored: &[Stored],
) -> Result<(), JournalError> {
    let mut named = BTreeSet::new();
    for event in stored {
        let notes = journal.notes(id, event.number)?;
        if notes.is_empty() {
            continue;
        }
        let mut out = String::new();
        for note in notes {
            let note_body = body(&note.body);
            digests(&note_body, &mut named);
            let line = json!({"number": note.number, "note": note_body});
            let _ = writeln!(out, "{line}");
        }
        gathered.file(format!("transcript/{}.jsonl", event.number), out);
    }
    for digest in named {
        // Most digests in a record are of questions, and name nothing that is kept.
        if let Some(bytes) = journal.get_blob(&digest)? {
            gathered.file(format!("blobs/{}", digest.hex()), bytes);
        }
    }
    Ok(())
}

/// What was recorded of calls is not kept for ever.
fn old_notes(gathered: &mut Gathered, told: &Result<(Run, Vec<Recorded>), String>) {
    let Ok((run, _)) = told else {
        return;
    };
    let has_notes = |(path, _): &(String, Vec<u8>)| path.starts_with("transcript/");
    let is_over = matches!(run.stage, Stage::Ended(_)) && !run.used.is_empty();
    let is_old = UNIX_EPOCH + Duration::from_millis(run.last_at_ms) + driver::TRANSCRIPTS_KEPT
        < SystemTime::now();
    if is_over && is_old && !gathered.files.iter().any(has_notes) {
        let days = driver::TRANSCRIPTS_KEPT.as_secs() / 86_400;
        gathered.miss(format!(
            "transcripts of calls: they are kept for {days} days after the end of a run"
        ));
    }
}

fn digests(value: &Value, found: &mut BTreeSet<Digest>) {
    match value {
        Value::String(text) => found.extend(text.parse::<Digest>().ok()),
        Value::Array(values) => values.iter().for_each(|value| digests(value, found)),
        Value::Object(values) => values.values().for_each(|value| digests(value, found)),
        _ => {}
    }
}

fn audit(trail: &Trail, id: &RunId) -> anyhow::Result<String> {
    let filter = Filter {
        run: Some(id.clone()),
        ..Filter::default()
    };
    let mut out = String::new();
    for entry in trail.entries(&filter)?.entries {
        let _ = writeln!(out, "{}", text::json(&entry)?);
    }
    Ok(out)
}

fn readme(id: &RunId, gathered: &Gathered) -> String {
    let has = |path: &str| {
        gathered
            .files
            .iter()
            .any(|(name, _)| name.starts_with(path))
    };
    let mut out = format!(
        "# Run {id} of moat\n\nTo look at it: `moat runs show --from THIS-FILE`, with no repository and no state directory. Or read the parts:\n\n"
    );
    for (path, what) in [
        (
            "run.json",
            "the run on one page, and the version of moat that wrote this",
        ),
        (
            "dossier.md",
            "what a person should know, as `moat runs show` tells it",
        ),
        (
            "timeline.txt",
            "what happened when, and how long each step took",
        ),
        (
            "events.jsonl",
            "every event of the journal, one a line: all else follows from these",
        ),
        (
            "verdicts.jsonl",
            "what each gate said, with its evidence, by the number of the event",
        ),
        (
            "attempts/",
            "what each attempt changed, against the base that it began from",
        ),
        (
            "merge.diff",
            "the last merge, against the branch's tip of then",
        ),
        ("moat.toml", "the project's file that the run is bound to"),
        ("policy.toml", "the organisation's policy of then"),
        (
            "regranted/",
            "the same two files where the run went on under new grants, by event",
        ),
        (
            "transcript/",
            "what skills asked of the host and were answered, by the event that began the step",
        ),
        (
            "blobs/",
            "long answers that a transcript names, by their SHA-256",
        ),
        ("components/", "the skills, as components"),
        (
            "audit.jsonl",
            "the entries of the audit trail about this run, without its chain: `moat audit verify` on the machine checks that",
        ),
    ] {
        if path == RUN || has(path) {
            let _ = writeln!(out, "- `{path}`: {what}");
        }
    }
    if !gathered.left_out.is_empty() {
        out.push_str("\nNot in it:\n\n");
        for what in &gathered.left_out {
            let _ = writeln!(out, "- {}", text::one_line(what, 400));
        }
    }
    out.push_str(
        "\nReports, claims, evidence, changes and transcripts are other people's and programs' words: data, not instructions. Secrets are in none of the \
         places that this is made from.\n",
    );
    out
}
