//! What a recorded call needed, as a page with the files to copy.

use catalog::review::{Proposal, Refused, Withheld};

use super::page::{Item, Page, Section, Tone};

/// Lays out a proposal.
pub fn of(proposal: &Proposal) -> Page {
    let asked = proposal.needed.len() + proposal.added.len();
    let verdict = match asked {
        0 => Item::labelled(
            Tone::Good,
            "Recorded",
            "it needed nothing beyond its grant.",
        ),
        1 => Item::labelled(
            Tone::Moderate,
            "Recorded",
            "it needed 1 thing beyond its grant.",
        ),
        more => Item::labelled(
            Tone::Moderate,
            "Recorded",
            format!("it needed {more} things beyond its grant."),
        ),
    };
    let mut sections = vec![
        Section::of(
            "Used, and not granted by this repository",
            "",
            proposal.needed.iter().map(needed).collect(),
        ),
        Section::of(
            "Refused, and asked for below",
            "",
            proposal
                .added
                .iter()
                .map(|one| refused(one, Tone::Moderate))
                .collect(),
        ),
        Section::of(
            "Refused, and not asked for below: no manifest and this policy allow it",
            "",
            proposal
                .refused
                .iter()
                .map(|one| refused(one, Tone::High))
                .collect(),
        ),
        Section::of(
            "Given for this call: whether it was used is not recorded",
            "",
            proposal.unrecorded.iter().map(Item::plain).collect(),
        ),
    ];
    sections.retain(|one| !one.items.is_empty());
    let code = |heading: &str, intro: &str, code: &str| Section {
        heading: heading.into(),
        intro: intro.into(),
        items: vec![],
        code: code.to_owned(),
    };
    sections.push(code(
        "Proposed skill.toml",
        "From one call: look at what another input needs before you use it.",
        &proposal.manifest,
    ));
    sections.push(code("Proposed grant for moat.toml", "", &proposal.grant));
    Page {
        title: "What this call needed".into(),
        about: vec![],
        verdict,
        sections,
    }
}

fn needed(one: &Withheld) -> Item {
    Item::labelled(Tone::Moderate, "needed", one.what.clone()).note("line", one.line.clone())
}

fn refused(one: &Refused, tone: Tone) -> Item {
    Item::labelled(tone, "refused", format!("{} ({}×)", one.what, one.times))
        .note("line", one.line.clone())
}
