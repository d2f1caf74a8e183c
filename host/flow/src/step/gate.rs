//! Gate: every required verdict on one exact tree, before anything moves.

use crate::event::{Answer, Candidate, Parking};
use crate::id::{Digest, GateName, TreeId};
use crate::run::{Action, Prepared, Red, Run, Stage};
use crate::step::{Step, repair};
use crate::verdict::{Finding, Subject, Verdict};

/// The key under which a verdict is kept.
pub(crate) fn key(gate: &Digest, subject: &Subject) -> (Digest, String) {
    (
        gate.clone(),
        format!("{} on {}", subject.tree, subject.base),
    )
}

/// Gates on the candidate as it was made.
pub(crate) fn next_on_candidate(run: &Run) -> Action {
    match run.candidate() {
        Some(candidate) => next_gate(run, &candidate.subject()),
        None => Action::Nothing,
    }
}

/// Gates on the candidate as merged onto the tip.
pub(crate) fn next_on_tip(run: &Run, prepared: &Prepared) -> Action {
    next_gate(run, &prepared.subject())
}

fn next_gate(run: &Run, subject: &Subject) -> Action {
    let gates = &run.opened.pipeline.gates;
    if let Some(due) = gates
        .iter()
        .find(|gate| run.finding(gate, subject).is_none())
    {
        return Action::Perform(Step::Gate {
            gate: due.name.clone(),
            subject: subject.clone(),
        });
    }
    let waiting = gates
        .iter()
        .filter(|gate| run.finding(gate, subject) == Some(Finding::NeedsHuman));
    Action::AwaitAnswer {
        subject: subject.clone(),
        gates: waiting.map(|gate| gate.name.clone()).collect(),
    }
}

fn subject_at_hand(run: &Run) -> Option<Subject> {
    match &run.stage {
        Stage::Gates => run.candidate().map(Candidate::subject),
        Stage::GatesOnTip(prepared) => Some(prepared.subject()),
        _ => None,
    }
}

/// Whether a verdict is that of a step.
pub(crate) fn is_of(step: &Step, verdict: &Verdict) -> bool {
    matches!(step, Step::Gate { gate, subject } if *gate == verdict.gate && *subject == verdict.subject)
}

/// Takes over a verdict.
pub(crate) fn decided(run: &mut Run, verdict: &Verdict) -> Result<(), String> {
    let subject = subject_at_hand(run).ok_or("no gate is due")?;
    if verdict.subject != subject {
        return Err("the verdict is about another tree".into());
    }
    let known = run
        .opened
        .pipeline
        .gates
        .iter()
        .any(|gate| gate.name == verdict.gate && gate.digest == verdict.gate_digest);
    if !known {
        return Err(format!("the pipeline has no such gate: {}", verdict.gate));
    }
    run.failures.clear();
    run.verdicts
        .insert(key(&verdict.gate_digest, &verdict.subject), verdict.clone());
    settle(run, &subject);
    Ok(())
}

/// Takes over a person's answer.
pub(crate) fn answered(
    run: &mut Run,
    gate: &GateName,
    tree: &TreeId,
    answer: Answer,
    note: &str,
) -> Result<(), String> {
    let subject = subject_at_hand(run).ok_or("no gate waits for a person")?;
    if subject.tree != *tree {
        return Err("the answer is about another tree".into());
    }
    let waits = run
        .opened
        .pipeline
        .gates
        .iter()
        .find(|one| one.name == *gate);
    if waits.and_then(|one| run.finding(one, &subject)) != Some(Finding::NeedsHuman) {
        return Err(format!("gate {gate} does not wait for a person"));
    }
    run.answers.push((gate.clone(), tree.clone(), answer));
    match answer {
        Answer::Approve => settle(run, &subject),
        Answer::Reject => {
            run.parked = Some(Parking::Rejected {
                gate: gate.clone(),
                note: note.to_owned(),
            })
        }
    }
    Ok(())
}

/// Moves on once every gate has answered: green to the merge, red to another attempt.
pub(crate) fn settle(run: &mut Run, subject: &Subject) {
    let gates = run.opened.pipeline.gates.clone();
    let findings: Vec<_> = gates
        .iter()
        .map(|gate| run.finding(gate, subject))
        .collect();
    if findings.contains(&None) {
        return;
    }
    if findings.contains(&Some(Finding::Fail)) {
        let red = red_of(run, subject);
        repair::red(run, red);
        return;
    }
    if findings.contains(&Some(Finding::NeedsHuman)) {
        return;
    }
    run.stage = match std::mem::replace(&mut run.stage, Stage::PrepareMerge) {
        Stage::GatesOnTip(prepared) => Stage::MoveBranch(prepared),
        _ => Stage::PrepareMerge,
    };
}

fn red_of(run: &Run, subject: &Subject) -> Red {
    let verdicts: Vec<&Verdict> = run
        .opened
        .pipeline
        .gates
        .iter()
        .filter_map(|gate| run.verdicts.get(&key(&gate.digest, subject)))
        .filter(|verdict| verdict.finding != Finding::Pass)
        .collect();
    Red {
        evidence: verdicts
            .iter()
            .map(|verdict| verdict.evidence.clone())
            .collect(),
        signature: repair::signature(
            &subject.tree,
            verdicts.iter().map(|verdict| verdict.signature.as_str()),
        ),
    }
}
