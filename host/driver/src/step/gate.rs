//! Gate: the host's own checks of a candidate, by definitions of the base. No skill takes part.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use capability::Globs;
use confine::{Ending, Finished, Level};
use flow::Event;
use flow::event::Cause;
use flow::id::{Digest, GateName, RunId, TreeId};
use flow::pipeline::{Check, Gate};
use flow::role::{Evidence, TestOutcome, TestReport};
use flow::verdict::{Finding, Subject, Verdict};
use moat_sdk::report::{Outcome, Report};
use project::Project;
use repo::{DiffLimits, Mirror};

use crate::clock::now_ms;
use crate::commands::{self, OnView, Terms, Writes};
use crate::context::Context;
use crate::house::House;
use crate::record::confinement;
use crate::scheduler::{Party, Turn, command_of};
use crate::step::{Failed, cause_of, cut, failed, interrupted, setup, signature};

/// Evidence of one gate.
const EVIDENCE_BYTES_MAX: usize = 48 * 1024;

/// A gate with what it needs.
pub struct GateRun<'a> {
    /// The machine's.
    pub house: &'a House,
    /// The project's, from the base.
    pub project: &'a Project,
    /// Holds the trees.
    pub mirror: &'a Mirror,
    /// For disposable worktrees.
    pub directory: &'a Path,
    /// What the base's tests showed, where that is known.
    pub baseline: Option<&'a TestReport>,
}

pub(crate) async fn perform(
    context: &Context,
    name: &GateName,
    subject: &Subject,
) -> Result<Vec<Event>, Failed> {
    let run = context.ledger.run();
    let gate = run
        .opened
        .pipeline
        .gates
        .iter()
        .find(|gate| gate.name == *name)
        .ok_or_else(|| setup(name.as_str(), &"the pipeline has no such gate"))?;
    let directory = context.directory();
    let baseline = run
        .baseline
        .as_ref()
        .filter(|_| run.base.tree == subject.base);
    let gate_run = GateRun {
        house: &context.house,
        project: &context.project,
        mirror: &context.mirror,
        directory: &directory,
        baseline,
    };
    let (verdict, level) = verdict(&gate_run, gate, subject, &context.turn).await?;
    audited(&context.house, Some(&run.opened.run), &verdict, level)?;
    Ok(vec![Event::GateDecided { verdict }])
}

/// Runs a gate on a subject.
///
/// # Errors
/// When it could not be run; a gate that could not run has no verdict.
pub async fn run_gate(
    run: &GateRun<'_>,
    gate: &Gate,
    subject: &Subject,
) -> Result<Verdict, Box<flow::event::Failure>> {
    let decided = async {
        let party = Party::outside(None);
        let scheduler = &run.house.scheduler;
        let held = match command_of(&gate.check) {
            Some(name) => scheduler.command(run.project, &party, Some(name)).await,
            None => Ok(Turn::default()),
        };
        let held = held.map_err(|error| setup(gate.name.as_str(), &error))?;
        let (verdict, level) = verdict(run, gate, subject, &held).await?;
        audited(run.house, None, &verdict, level)?;
        Ok(verdict)
    };
    decided
        .await
        .map_err(|ended: Failed| Box::new(ended.failure))
}

/// A verdict that left no trace is none.
fn audited(
    house: &House,
    run: Option<&RunId>,
    verdict: &Verdict,
    level: Option<Level>,
) -> Result<(), Failed> {
    let entry = audit::Verdict {
        run: run.cloned(),
        gate: verdict.gate.clone(),
        definition: verdict.gate_digest.clone(),
        tree: verdict.subject.tree.clone(),
        base: verdict.subject.base.clone(),
        finding: verdict.finding,
        verdict: Digest::of(&serde_json::to_vec(verdict).unwrap_or_default()),
        confinement: level.map(confinement),
    };
    let appended = house.trail.append(now_ms(), audit::Entry::Verdict(entry));
    appended.map(|_| ()).map_err(|error| setup("audit", &error))
}

/// The verdict, and what held the command that it rests on.
async fn verdict(
    run: &GateRun<'_>,
    gate: &Gate,
    subject: &Subject,
    held: &Turn,
) -> Result<(Verdict, Option<Level>), Failed> {
    let Answer {
        finding,
        title,
        text,
        level,
    } = match &gate.check {
        Check::Command {
            argv, timeout_ms, ..
        } => {
            let program = Program {
                argv,
                timeout_ms: *timeout_ms,
                held,
            };
            command(run, gate, [&subject.tree, &subject.base], &program, None).await?
        }
        Check::BaseTests {
            argv,
            timeout_ms,
            paths,
            ..
        } => {
            let program = Program {
                argv,
                timeout_ms: *timeout_ms,
                held,
            };
            base_tests(run, gate, subject, &program, paths).await?
        }
        Check::Protect { paths } => protect(run, gate, subject, paths)?,
    };
    let verdict = Verdict {
        gate: gate.name.clone(),
        gate_digest: gate.digest.clone(),
        subject: subject.clone(),
        finding,
        signature: signature(&[gate.name.as_str(), &title, &text]),
        evidence: Evidence {
            source: gate.name.to_string(),
            title,
            text,
        },
    };
    Ok((verdict, level))
}

/// What a gate found, and what it rests on.
struct Answer {
    finding: Finding,
    title: String,
    text: String,
    /// What held the command; absent where none was run.
    level: Option<Level>,
}

/// What a gate runs.
struct Program<'a> {
    argv: &'a [String],
    timeout_ms: u64,
    /// Its turn, with what it was given of the scarce resources.
    held: &'a Turn,
}

/// The command exits with 0 on a fresh worktree of the tree, which differs little from the base, and at least one test ran where that can be told.
async fn command(
    run: &GateRun<'_>,
    gate: &Gate,
    [tree, base]: [&TreeId; 2],
    program: &Program<'_>,
    expected: Option<&TestReport>,
) -> Result<Answer, Failed> {
    let Program {
        argv,
        timeout_ms,
        held,
    } = *program;
    let source = gate.name.as_str();
    let view = (run.house.views)
        .of_tree(run.directory, run.mirror, tree, base)
        .await
        .map_err(|error| setup(source, &error))?;
    let (files, scratch) = (view.tree(), view.scratch());
    let on_view = OnView {
        house: run.house,
        env: &run.project.env,
        tree: &files,
        scratch: &scratch,
        writes: Writes::ToView,
        resources: &held.env,
    };
    let finished = on_view
        .run(
            argv,
            "",
            vec![],
            Terms::offline(Duration::from_millis(timeout_ms), run.project),
        )
        .await
        .map_err(|error| interrupted(cause_of(&error), source, error.to_string()))?;
    let text = format!(
        "$ {}\n{}\n{}",
        argv.join(" "),
        String::from_utf8_lossy(&finished.stdout),
        String::from_utf8_lossy(&finished.stderr)
    );
    let report = Report::read(&text);
    let (finding, title) = judge(
        &finished,
        &report,
        expected,
        is_known_runner(argv),
        (timeout_ms, run.project.idle_ms),
    );
    Ok(Answer {
        finding,
        title,
        text: cut(&text, EVIDENCE_BYTES_MAX),
        level: Some(finished.level),
    })
}

fn judge(
    finished: &Finished,
    report: &Report,
    expected: Option<&TestReport>,
    is_known_runner: bool,
    (timeout_ms, idle_ms): (u64, u64),
) -> (Finding, String) {
    let red: Vec<&str> = report.red().map(|case| case.name.as_str()).collect();
    match finished.ending {
        Ending::Exited(0) if report.ran.is_none() && is_known_runner => (
            Finding::Fail,
            "exit status 0, but the test runner reported nothing".into(),
        ),
        Ending::Exited(0) if report.ran == Some(0) => {
            (Finding::Fail, "exit status 0, but no test ran".into())
        }
        Ending::Exited(0) if !red.is_empty() => (
            Finding::Fail,
            format!("exit status 0, but {} failed", red.join(", ")),
        ),
        Ending::Exited(0) => match missing(report, expected) {
            Some(name) => (
                Finding::Fail,
                format!("the test {name} passes on the base and did not run here"),
            ),
            None => (
                Finding::Pass,
                report.ran.map_or_else(
                    || "exit status 0".into(),
                    |ran| format!("exit status 0, {ran} tests"),
                ),
            ),
        },
        Ending::Exited(code) if red.is_empty() => (Finding::Fail, format!("exit status {code}")),
        Ending::Exited(code) => (
            Finding::Fail,
            format!("exit status {code}: {}", cut(&red.join(", "), 300)),
        ),
        Ending::Signalled(signal) => (Finding::Fail, format!("ended by signal {signal}")),
        Ending::Deadline => (
            Finding::Fail,
            format!("ended at its deadline of {} s", timeout_ms / 1000),
        ),
        Ending::Idle => (
            Finding::Fail,
            format!(
                "ended because it stood still for {} s: no output, and no processor time of any of its processes",
                idle_ms / 1000
            ),
        ),
        Ending::DiskFull => (Finding::Fail, format!("ended: {}", commands::DISK_FULL)),
    }
}

/// Runners whose report is read: one that exits with 0 and says nothing was ended by what it tested.
fn is_known_runner(argv: &[String]) -> bool {
    let has = |word: &str| argv.iter().any(|arg| arg == word);
    let cargo = has("cargo") && has("test");
    cargo || has("pytest") || has("unittest") || (has("node") && has("--test"))
}

/// A test that passed on the base and is not among those that passed here. Only runners that name passing tests tell.
fn missing(report: &Report, expected: Option<&TestReport>) -> Option<String> {
    let passed: BTreeSet<&str> = report
        .cases
        .iter()
        .filter(|case| case.outcome == Outcome::Passed)
        .map(|case| case.name.as_str())
        .collect();
    if passed.is_empty() {
        return None;
    }
    let wanted = expected?
        .tests
        .iter()
        .filter(|test| test.outcome == TestOutcome::Passed);
    wanted
        .map(|test| test.name.clone())
        .find(|name| !passed.contains(name.as_str()))
}

/// The base's own tests, whatever the candidate did to them.
async fn base_tests(
    run: &GateRun<'_>,
    gate: &Gate,
    subject: &Subject,
    program: &Program<'_>,
    paths: &[String],
) -> Result<Answer, Failed> {
    let source = gate.name.as_str();
    let globs = Globs::new(paths.iter().cloned()).map_err(|error| setup(source, &error))?;
    if let Some(path) = changed_inline_tests(run, source, subject)? {
        return Ok(Answer {
            finding: Finding::NeedsHuman,
            title: format!("the tests inside {path} were changed"),
            text: "Tests that share a file with the code cannot be laid over it from the base; a person must look at the change.".into(),
            level: None,
        });
    }
    let tree = run
        .mirror
        .overlay(&subject.tree, &subject.base, &|path| globs.matches(path))
        .map_err(|error| setup(source, &error))?;
    let mut answer = command(run, gate, [&tree, &subject.base], program, run.baseline).await?;
    if tree != subject.tree {
        answer
            .title
            .push_str(" (with the base's tests in place of the candidate's)");
    }
    Ok(answer)
}

/// Rust keeps tests behind `#[cfg(test)]` at the end of the file that they test: that part must be as in the base.
fn changed_inline_tests(
    run: &GateRun<'_>,
    source: &str,
    subject: &Subject,
) -> Result<Option<String>, Failed> {
    const MARK: &str = "#[cfg(test)]";
    let diff = run
        .mirror
        .diff(&subject.base, &subject.tree, &DiffLimits::default())
        .map_err(|error| setup(source, &error))?;
    for change in diff
        .files
        .iter()
        .filter(|change| change.path.ends_with(".rs"))
    {
        let read = |tree: &TreeId| {
            let bytes = run
                .mirror
                .read(tree, &change.path, 16 << 20)
                .map_err(|error| setup(source, &error))?;
            Ok::<_, Failed>(
                bytes
                    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                    .unwrap_or_default(),
            )
        };
        let (before, after) = (read(&subject.base)?, read(&subject.tree)?);
        let tests = before.find(MARK).map_or("", |at| &before[at..]);
        if !tests.is_empty()
            && (!after.ends_with(tests)
                || after.matches(MARK).count() != before.matches(MARK).count())
        {
            return Ok(Some(change.path.clone()));
        }
        if after.contains("cfg(not(test))") && !before.contains("cfg(not(test))") {
            return Ok(Some(change.path.clone()));
        }
    }
    Ok(None)
}

/// What only people may change.
fn protect(
    run: &GateRun<'_>,
    gate: &Gate,
    subject: &Subject,
    paths: &[String],
) -> Result<Answer, Failed> {
    let source = gate.name.as_str();
    let globs = Globs::new(paths.iter().cloned()).map_err(|error| setup(source, &error))?;
    let diff = run
        .mirror
        .diff(&subject.base, &subject.tree, &DiffLimits::default())
        .map_err(|error| setup(source, &error))?;
    let touched: Vec<&str> = diff
        .files
        .iter()
        .map(|change| change.path.as_str())
        .filter(|path| globs.matches(path))
        .collect();
    if touched.is_empty() {
        return Ok(Answer {
            finding: Finding::Pass,
            title: format!("none of {} changed files is protected", diff.files.len()),
            text: String::new(),
            level: None,
        });
    }
    let title = format!("protected: {}", cut(&touched.join(", "), 300));
    if subject.tree == subject.base {
        return Err(failed(
            Cause::Setup,
            source,
            "the candidate is the base",
            "",
        ));
    }
    Ok(Answer {
        finding: Finding::NeedsHuman,
        title,
        text: cut(&diff.patch, EVIDENCE_BYTES_MAX),
        level: None,
    })
}
