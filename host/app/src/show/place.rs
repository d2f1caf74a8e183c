//! Where the work of a run is, and the commands that show it.

use std::path::PathBuf;

use flow::run::Run;
use repo::Kept;
use serde_json::json;

use crate::show::text::{clean, fenced};

/// Where the work is.
pub enum Place {
    /// In moat's mirror of the repository, under the run's references.
    Mirror {
        /// The mirror.
        git_dir: PathBuf,
        /// Names below `refs/moat/runs/<run>/`, and what they keep.
        kept: Vec<(String, Kept)>,
    },
    /// The mirror is not there, or not to be read.
    Gone {
        /// Where it would be, and why it is not.
        why: String,
    },
    /// In an exported file.
    Copy,
}

/// As a section of the dossier.
pub fn section(run: &Run, place: &Place) -> String {
    let text = match place {
        Place::Mirror { git_dir, kept } => {
            let shown = commands(run, git_dir, kept);
            format!(
                "In moat's mirror of the repository; these only read:\n\n{}",
                fenced(&shown.join("\n"))
            )
        }
        Place::Gone { why } => clean(why),
        Place::Copy => {
            "This is a copy. `tar -xf` of its file gives the changes of the attempts (`attempts/`) and the rest; its README.md says what is what.".into()
        }
    };
    format!("## Where the work is\n\n{text}\n\n")
}

fn commands(run: &Run, git_dir: &std::path::Path, kept: &[(String, Kept)]) -> Vec<String> {
    let git = format!("git --git-dir={}", quoted(&git_dir.display().to_string()));
    let id = &run.opened.run;
    let one = |(name, what): &(String, Kept)| {
        let reference = format!("refs/moat/runs/{id}/{name}");
        match what {
            Kept::Commit(_) => format!("{git} show {reference}"),
            Kept::Tree(_) => format!("{git} diff {} {reference}", base_of(run, name)),
        }
    };
    kept.iter().map(one).collect()
}

/// What an attempt began from.
fn base_of(run: &Run, name: &str) -> String {
    let number = name.strip_prefix("attempt-").and_then(|n| n.parse().ok());
    let attempt = run.attempts.iter().find(|one| Some(one.number) == number);
    let base = attempt.and_then(|attempt| attempt.candidate.as_ref());
    base.map_or(&run.base.commit, |candidate| &candidate.base.commit)
        .to_string()
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// For programs.
pub fn json(run: &Run, place: &Place) -> serde_json::Value {
    let Place::Mirror { git_dir, kept } = place else {
        return serde_json::Value::Null;
    };
    let id = &run.opened.run;
    let refs: serde_json::Map<_, _> = kept
        .iter()
        .map(|(name, what)| {
            let object = match what {
                Kept::Tree(tree) => json!({"tree": tree}),
                Kept::Commit(commit) => json!({"commit": commit}),
            };
            (format!("refs/moat/runs/{id}/{name}"), object)
        })
        .collect();
    json!({"git-dir": git_dir.display().to_string(), "refs": refs})
}
