//! What a recorded call needed, as a page with the files to copy.

use catalog::review::{Proposal, Refused, Withheld};

use super::page::{Item, Page, Section, Tone};

/// Lays out a proposal.
pub fn of(proposal: &Proposal) -> Page {
    let verdict = verdict(proposal);
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
            "Imported, and not declared: what it needs of it shows when it is called with the example below",
            "",
            proposal
                .imported
                .iter()
                .map(|one| refused(one, Tone::Moderate))
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
    let intro = match proposal.ended {
        true => "From one call: look at what another input needs before you use it.",
        false => {
            "From a call that did not get far enough to tell what it can do without: nothing is taken away."
        }
    };
    sections.push(code("Proposed skill.toml", intro, &proposal.manifest));
    sections.push(code("Proposed grant for moat.toml", "", &proposal.grant));
    Page {
        title: "What this call needed".into(),
        about: vec![],
        verdict,
        sections,
    }
}

fn verdict(proposal: &Proposal) -> Item {
    let asked = proposal.needed.len() + proposal.added.len() + proposal.imported.len();
    let needed = match asked {
        0 => "it needed nothing beyond its grant".to_owned(),
        1 => "it needed 1 thing beyond its grant".to_owned(),
        more => format!("it needed {more} things beyond its grant"),
    };
    let tone = match asked {
        0 if proposal.ended => Tone::Good,
        _ => Tone::Moderate,
    };
    match proposal.ended {
        true => Item::labelled(tone, "Recorded", format!("{needed}.")),
        false => Item::labelled(
            tone,
            "Recorded as far as it got",
            format!("{needed}; what it would have needed after that is not known."),
        ),
    }
}

fn needed(one: &Withheld) -> Item {
    Item::labelled(Tone::Moderate, "needed", one.what.clone()).note("line", one.line.clone())
}

fn refused(one: &Refused, tone: Tone) -> Item {
    Item::labelled(tone, "refused", format!("{} ({}×)", one.what, one.times))
        .note("line", one.line.clone())
}
