//! A run driven by hand: events in, state and next action out.

use flow::event::{Candidate, Cause, Failure, Opened};
use flow::id::{CommitId, Digest, GateName, SkillName, TreeId};
use flow::money::Micros;
use flow::pipeline::{Budget, Check, Deploy, Gate, Pipeline, Skill};
use flow::role::{
    Decision, Evidence, Origin, Outcome, Report, SuiteOutcome, TestReport, WorkItem, WorkKind,
};
use flow::run::{Action, Illegal, Run, apply, next};
use flow::step::Step;
use flow::verdict::{Base, Finding, Subject, Verdict};
use flow::{Event, Recorded};

/// Forty digits made of one.
pub fn tree(n: u8) -> TreeId {
    format!("{n:02x}").repeat(20).parse().unwrap()
}

/// Forty digits made of one.
pub fn commit(n: u8) -> CommitId {
    format!("{n:02x}").repeat(20).parse().unwrap()
}

/// A commit and its tree.
pub fn base(n: u8) -> Base {
    Base {
        commit: commit(n),
        tree: tree(n),
    }
}

pub fn evidence(text: &str) -> Evidence {
    Evidence {
        source: "test".into(),
        title: text.into(),
        text: text.into(),
    }
}

pub fn skill(name: &str) -> Skill {
    let digest = Digest::of(name.as_bytes());
    Skill {
        name: name.parse::<SkillName>().unwrap(),
        digest: digest.clone(),
        grant: digest,
    }
}

pub fn gate(name: &str) -> Gate {
    Gate {
        name: name.parse::<GateName>().unwrap(),
        check: Check::Protect { paths: vec![] },
        digest: Digest::of(name.as_bytes()),
        assumes: None,
    }
}

/// Triage, baseline, two gates, three attempts, no deploy.
pub fn pipeline() -> Pipeline {
    Pipeline {
        branch: "main".into(),
        triage: Some(skill("triage")),
        test: Some(skill("test")),
        plan: None,
        implement: skill("implement"),
        deploy: None,
        gates: vec![gate("tests"), gate("protect")],
        budget: Budget {
            attempts: 3,
            tokens: 1000,
            money: Micros(1_000_000),
            active_ms: 1_000_000,
        },
    }
}

pub fn deploying() -> Pipeline {
    Pipeline {
        deploy: Some(Deploy {
            skill: skill("deploy"),
            patience_ms: 1000,
        }),
        ..pipeline()
    }
}

/// With a plan skill.
pub fn planning() -> Pipeline {
    Pipeline {
        plan: Some(skill("plan")),
        ..pipeline()
    }
}

pub fn item() -> WorkItem {
    WorkItem {
        title: "t".into(),
        body: "b".into(),
        kind: WorkKind::Bug,
        suspects: vec![],
        acceptance: vec![],
    }
}

pub fn report() -> TestReport {
    TestReport {
        outcome: SuiteOutcome::Failed,
        command: "t".into(),
        exit: Some(1),
        tests: vec![],
        tail: String::new(),
        duration_ms: 1,
    }
}

pub fn failure(cause: Cause, text: &str) -> Failure {
    Failure {
        cause,
        evidence: evidence(text),
        signature: Digest::of(text.as_bytes()),
    }
}

/// A run and its clock.
pub struct Script {
    pub run: Run,
    pub events: Vec<Recorded>,
    pub now_ms: u64,
}

impl Script {
    pub fn open(pipeline: Pipeline) -> Script {
        let opened = Opened {
            run: "r-1".parse().unwrap(),
            repository: "repository".into(),
            report: Report {
                origin: Origin::Text,
                text: "it is broken".into(),
            },
            base: base(1),
            pipeline,
            project: Digest::of(b"moat.toml"),
            policy: None,
            child: None,
        };
        Script::of(opened)
    }

    pub fn try_event(&mut self, event: Event) -> Result<(), Illegal> {
        self.now_ms += 10;
        let recorded = Recorded {
            number: self.run.events + 1,
            at_ms: self.now_ms,
            event,
        };
        self.run = apply(Some(self.run.clone()), &recorded)?;
        self.events.push(recorded);
        Ok(())
    }

    pub fn event(&mut self, event: Event) -> &mut Self {
        self.try_event(event).unwrap();
        self
    }

    pub fn next(&self) -> Action {
        next(&self.run)
    }

    /// Begins the step that is due and returns it.
    pub fn begin(&mut self) -> Step {
        let Action::Perform(step) = self.next() else {
            panic!("no step is due: {:?}", self.next())
        };
        self.event(Event::StepStarted { step: step.clone() });
        step
    }

    /// Through triage and baseline.
    pub fn ready(pipeline: Pipeline) -> Script {
        let mut script = Script::open(pipeline);
        script.begin();
        script.event(Event::Triaged {
            decision: Decision::Accepted(item()),
        });
        script.begin();
        script.event(Event::BaselineTaken { report: report() });
        script
    }

    /// Opens a run by its first event.
    pub fn of(opened: Opened) -> Script {
        let first = Recorded {
            number: 1,
            at_ms: 0,
            event: Event::Opened(Box::new(opened)),
        };
        Script {
            run: apply(None, &first).unwrap(),
            events: vec![first],
            now_ms: 0,
        }
    }

    /// One attempt that leaves this tree.
    pub fn attempt(&mut self, n: u8) -> &mut Self {
        let Step::Implement { attempt } = self.begin() else {
            panic!("no attempt is due")
        };
        let candidate = Candidate {
            tree: tree(n),
            base: self.run.base.clone(),
            changed: vec!["a".into()],
            refused: vec![],
        };
        self.event(Event::Attempted {
            attempt,
            outcome: Outcome::Changed("did it".into()),
            candidate,
        })
    }

    /// The gate that is due answers.
    pub fn gate(&mut self, finding: Finding, why: &str) -> &mut Self {
        let Step::Gate { gate, subject } = self.begin() else {
            panic!("no gate is due")
        };
        let verdict = self.verdict(&gate, &subject, finding, why);
        self.event(Event::GateDecided { verdict })
    }

    pub fn verdict(
        &self,
        gate: &GateName,
        subject: &Subject,
        finding: Finding,
        why: &str,
    ) -> Verdict {
        let gate_digest = self
            .run
            .opened
            .pipeline
            .gates
            .iter()
            .find(|one| one.name == *gate)
            .unwrap()
            .digest
            .clone();
        Verdict {
            gate: gate.clone(),
            gate_digest,
            subject: subject.clone(),
            finding,
            evidence: evidence(why),
            signature: Digest::of(why.as_bytes()),
        }
    }

    pub fn green(&mut self) -> &mut Self {
        self.gate(Finding::Pass, "ok").gate(Finding::Pass, "ok")
    }

    /// Merges onto a tip; the merged tree is `n`.
    pub fn prepare(&mut self, onto: u8, merged: u8) -> &mut Self {
        assert_eq!(self.begin(), Step::PrepareMerge);
        self.event(Event::MergePrepared {
            onto: base(onto),
            commit: commit(merged + 100),
            tree: tree(merged),
        })
    }

    /// Moves the branch as verified.
    pub fn move_branch(&mut self) -> &mut Self {
        let Step::MoveBranch { from, to } = self.begin() else {
            panic!("no move is due")
        };
        let flow::run::Stage::MoveBranch(prepared) = self.run.stage.clone() else {
            panic!("no move is due")
        };
        self.event(Event::MergeIntended {
            from,
            to: to.clone(),
            tree: prepared.tree,
        });
        self.event(Event::Merged { commit: to })
    }
}
