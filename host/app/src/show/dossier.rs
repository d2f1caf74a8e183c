//! The dossier: all that a person needs who did not watch the run, as Markdown.

use std::fmt::Write as _;

use flow::event::{Candidate, Recorded};
use flow::role::Outcome;
use flow::run::{Attempt, Run};
use flow::verdict::{Finding, Verdict};

use crate::show::place::{self, Place};
use crate::show::state::{self, Driving};
use crate::show::text::{self, fenced, one_line, span};
use crate::show::{cost, effects};

/// Writes the dossier of a run: all but its timeline.
pub fn of(run: &Run, events: &[Recorded], driving: &Driving, place: &Place) -> String {
    let mut out = String::new();
    let title = run.item.as_ref().map_or_else(
        || one_line(&run.opened.report.text, 100),
        |item| one_line(&item.title, 120),
    );
    let _ = writeln!(out, "# {title}\n");
    let _ = writeln!(
        out,
        "Run `{}` on branch `{}`: {}.\n",
        run.opened.run,
        one_line(&run.opened.pipeline.branch, 80),
        state::sentence(run, driving)
    );
    facts(&mut out, run);
    report(&mut out, run);
    for attempt in &run.attempts {
        one_attempt(&mut out, run, attempt);
    }
    on_the_tip(&mut out, run);
    caught(&mut out, run);
    used(&mut out, run);
    out.push_str(&cost::table(&cost::of(events)));
    out.push_str(&effects::section(&effects::of(events)));
    out.push_str(&place::section(run, place));
    let steps = state::next_steps(run, driving);
    if !steps.is_empty() && !matches!(place, Place::Copy) {
        let _ = writeln!(out, "## What you can do\n\n{}", fenced(&steps.join("\n")));
    }
    out
}

fn facts(out: &mut String, run: &Run) {
    let budget = &run.budget;
    let committed = run.committed();
    let _ = writeln!(out, "| | |\n| --- | --- |");
    let _ = writeln!(out, "| base | `{}` |", run.opened.base.commit);
    if let Some(commit) = &run.merged {
        let _ = writeln!(out, "| merged | `{commit}` |");
    }
    let _ = writeln!(
        out,
        "| attempts | {} of {} |",
        run.attempts.len(),
        budget.attempts
    );
    let _ = writeln!(
        out,
        "| model | {} of {}, {} of {} tokens, {} calls |",
        committed.money, budget.money, committed.tokens, budget.tokens, run.spend.calls
    );
    let _ = writeln!(
        out,
        "| time in steps | {} of {} |",
        span(run.active_ms),
        span(budget.active_ms)
    );
    let _ = writeln!(out, "| refused capabilities | {} |\n", run.denials);
}

fn report(out: &mut String, run: &Run) {
    let _ = writeln!(
        out,
        "## The report\n\n{}\n",
        fenced(&cut(&run.opened.report.text))
    );
    if let Some(item) = run.item.as_ref().filter(|item| !item.acceptance.is_empty()) {
        let _ = writeln!(out, "Must hold in the end:\n");
        for sentence in &item.acceptance {
            let _ = writeln!(out, "- {}", one_line(sentence, 300));
        }
        out.push('\n');
    }
}

fn one_attempt(out: &mut String, run: &Run, attempt: &Attempt) {
    let _ = writeln!(out, "## Attempt {}\n", attempt.number);
    match &attempt.outcome {
        Some(Outcome::Changed(claim)) => {
            let _ = writeln!(
                out,
                "The skill says (not believed):\n\n{}\n",
                fenced(&cut(claim))
            );
        }
        Some(Outcome::AlreadyTrue(claim)) => {
            let _ = writeln!(
                out,
                "The skill says that it is true already:\n\n{}\n",
                fenced(&cut(claim))
            );
        }
        Some(Outcome::GaveUp(why)) => {
            let _ = writeln!(out, "The skill gave up:\n\n{}\n", fenced(&cut(why)));
        }
        None => {}
    }
    if let Some(failure) = &attempt.failure {
        let _ = writeln!(
            out,
            "The attempt failed: {}\n\n{}\n",
            one_line(&failure.evidence.title, 200),
            fenced(&cut(&failure.evidence.text))
        );
    }
    if let Some(candidate) = &attempt.candidate {
        changed(out, candidate);
        verdicts(out, run, candidate);
    }
}

fn changed(out: &mut String, candidate: &Candidate) {
    let _ = writeln!(
        out,
        "Candidate tree `{}`; changed paths: {}\n",
        candidate.tree,
        candidate.changed.len()
    );
    for path in candidate.changed.iter().take(50) {
        let _ = writeln!(out, "- {}", code(path));
    }
    if !candidate.refused.is_empty() {
        let _ = writeln!(out, "\nNot taken by the host:\n");
        for path in candidate.refused.iter().take(50) {
            let _ = writeln!(out, "- {}", code(path));
        }
    }
    out.push('\n');
}

fn verdicts(out: &mut String, run: &Run, candidate: &Candidate) {
    let subject = candidate.subject();
    table(
        out,
        &verdicts_where(run, |verdict| verdict.subject == subject),
    );
}

/// Verdicts on the merge of the candidate onto a tip that had moved.
fn on_the_tip(out: &mut String, run: &Run) {
    let candidates: Vec<_> = run
        .attempts
        .iter()
        .filter_map(|attempt| attempt.candidate.as_ref().map(Candidate::subject))
        .collect();
    let about_it = verdicts_where(run, |verdict| !candidates.contains(&verdict.subject));
    if !about_it.is_empty() {
        let _ = writeln!(out, "## Merged onto the branch's tip\n");
        table(out, &about_it);
    }
}

fn verdicts_where(run: &Run, wanted: impl Fn(&Verdict) -> bool) -> Vec<&Verdict> {
    run.verdicts.values().filter(|one| wanted(one)).collect()
}

fn table(out: &mut String, about_it: &[&Verdict]) {
    if about_it.is_empty() {
        return;
    }
    let _ = writeln!(out, "| gate | verdict | what it saw |\n| --- | --- | --- |");
    for verdict in about_it {
        let title = one_line(&verdict.evidence.title, 160).replace('|', "\\|");
        let _ = writeln!(
            out,
            "| {} | {} | {title} |",
            verdict.gate,
            finding(verdict.finding)
        );
    }
    out.push('\n');
    for verdict in about_it
        .iter()
        .filter(|verdict| verdict.finding != Finding::Pass)
    {
        let _ = writeln!(
            out,
            "Evidence of gate {}:\n\n{}\n",
            verdict.gate,
            fenced(&cut(&verdict.evidence.text))
        );
    }
}

fn caught(out: &mut String, run: &Run) {
    let reds: Vec<_> = run
        .attempts
        .iter()
        .filter_map(|attempt| attempt.red.as_ref().map(|red| (attempt.number, red)))
        .collect();
    if reds.is_empty() {
        return;
    }
    let _ = writeln!(out, "## What was caught\n");
    for (number, red) in reds {
        for evidence in &red.evidence {
            let _ = writeln!(
                out,
                "- attempt {number}, by {}: {}",
                one_line(&evidence.source, 80),
                one_line(&evidence.title, 200)
            );
        }
    }
    out.push('\n');
}

fn used(out: &mut String, run: &Run) {
    if run.used.is_empty() {
        return;
    }
    let _ = writeln!(out, "## What skills used\n");
    for (skill, usage) in &run.used {
        let _ = writeln!(out, "- {skill}: {}", text::usage(usage));
    }
    out.push('\n');
}

fn finding(finding: Finding) -> &'static str {
    match finding {
        Finding::Pass => "pass",
        Finding::Fail => "**fail**",
        Finding::NeedsHuman => "needs a human",
    }
}

fn code(text: &str) -> String {
    format!("`{}`", one_line(text, 200).replace('`', "'"))
}

/// The middle goes when a text is long: errors say what matters at their beginning or their end.
fn cut(text: &str) -> String {
    const KEEP: usize = 3_000;
    let length = text.chars().count();
    if length <= 2 * KEEP {
        return text.to_owned();
    }
    let head: String = text.chars().take(KEEP).collect();
    let tail: String = text.chars().skip(length - KEEP).collect();
    format!("{head}\n[… {} characters …]\n{tail}", length - 2 * KEEP)
}
