//! What skills are given and give back: the records of `wit/skill`, as JSON carries them.
//!
//! Field and case names are those of the WIT files; variants are externally tagged.

use serde::{Deserialize, Serialize};

/// Why a skill did not do its job (`types.skill-error`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum SkillError {
    /// A capability that the skill needs was refused.
    #[error("a capability was refused: {0}")]
    Denied(String),
    /// A budget ran out before the job was done.
    #[error("a budget ran out: {0}")]
    OutOfBudget(String),
    /// The input makes no sense to this skill.
    #[error("the input makes no sense: {0}")]
    InvalidInput(String),
    /// The same call may succeed later.
    #[error("a passing failure: {0}")]
    Retryable(String),
    /// It failed, and would again.
    #[error("failed: {0}")]
    Failed(String),
}

/// What kind of work an item is (`types.work-kind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkKind {
    /// Something that should work does not.
    Bug,
    /// Something new.
    Feature,
    /// Something that runs is broken now.
    Incident,
    /// Upkeep.
    Chore,
}

/// What has to become true (`types.work-item`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WorkItem {
    /// One line.
    pub title: String,
    /// Markdown with text from outside.
    pub body: String,
    /// Its kind.
    pub kind: WorkKind,
    /// Paths the report points at, most likely first.
    pub suspects: Vec<String>,
    /// Sentences that must hold in the end.
    pub acceptance: Vec<String>,
}

/// Something a person or a later attempt should see (`types.evidence`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evidence {
    /// A gate's or a skill's name.
    pub source: String,
    /// One line.
    pub title: String,
    /// At most 64 KiB.
    pub text: String,
}

/// How one test ended (`types.test-outcome`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestOutcome {
    /// It passed.
    Passed,
    /// It ran and did not pass.
    Failed,
    /// It could not run.
    Errored,
    /// It was left out.
    Skipped,
}

/// One test of a report (`types.test-case`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TestCase {
    /// The runner's name of the test.
    pub name: String,
    /// How it ended.
    pub outcome: TestOutcome,
    /// The runner's message; may be empty.
    pub message: String,
    /// `path:line` where it failed.
    pub location: Option<String>,
}

/// How a whole test command ended (`types.suite-outcome`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteOutcome {
    /// Exit status 0 and at least one test ran.
    Passed,
    /// Some tests did not pass.
    Failed,
    /// The tests could not run.
    Errored,
    /// Exit status 0 and no test ran.
    Empty,
}

/// What a test command showed (`types.test-report`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TestReport {
    /// How it ended.
    pub outcome: SuiteOutcome,
    /// The command, for display.
    pub command: String,
    /// Exit status, if it exited.
    pub exit: Option<i32>,
    /// The tests that could be told apart.
    pub tests: Vec<TestCase>,
    /// The end of the output.
    pub tail: String,
    /// Wall-clock time in milliseconds.
    pub duration_ms: u64,
}

/// Where a report comes from (`triage.origin`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A person's words.
    Text,
    /// An issue, its title on the first line.
    Issue,
    /// The log of a failed build.
    CiLog,
}

/// What arrived (`triage.report`). Untrusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Where it comes from.
    pub origin: Origin,
    /// At most 1 MiB.
    pub text: String,
}

/// What becomes of a report (`triage.decision`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It is work.
    Accepted(WorkItem),
    /// It is none.
    Declined(String),
    /// A person must answer first.
    Unclear(Vec<String>),
}

/// One task, as a plan skill gives it (`plan.task`). Untrusted: [`crate::task::check`] makes a [`crate::task::Task`] of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlannedTask {
    /// Unique within the plan.
    pub id: String,
    /// One line.
    pub title: String,
    /// What is to be done.
    pub instructions: String,
    /// Globs of the paths that it may change.
    pub claims: Vec<String>,
    /// Tasks that come first.
    pub after: Vec<String>,
    /// Sentences that must hold when it is done.
    pub acceptance: Vec<String>,
}

/// One attempt at a work item (`implement.assignment`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Assignment {
    /// What has to become true.
    pub item: WorkItem,
    /// 1 for the first.
    pub attempt: u32,
    /// The project's tests on the base.
    pub baseline: Option<TestReport>,
    /// What gates said of earlier attempts, oldest first.
    pub evidence: Vec<Evidence>,
    /// The last attempt's change.
    pub last_diff: Option<String>,
}

/// What an attempt came to (`implement.outcome`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Files were changed; what and why.
    Changed(String),
    /// The item already holds, the skill says.
    AlreadyTrue(String),
    /// The skill has no idea left.
    GaveUp(String),
}

/// What to run (`test.request`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TestRequest {
    /// A project command's name.
    pub command: String,
}

/// What to deploy (`deploy.target`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Target {
    /// The merged commit.
    pub commit: String,
    /// How long the service may take to become healthy, in milliseconds.
    pub patience_ms: u64,
}

/// How a deployment ended (`deploy.deployment`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deployment {
    /// This release is current and healthy.
    Healthy(String),
    /// It was unhealthy and taken back.
    RolledBack(Rollback),
}

/// Why and to what a service was rolled back (`deploy.rollback`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rollback {
    /// The unhealthy release.
    pub from: String,
    /// The release that is current now; absent: the service is stopped.
    pub to: Option<String>,
    /// Why.
    pub reason: String,
}
