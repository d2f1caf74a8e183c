//! What an update of a skill changes, as a page.

use capability::compare::Change;
use catalog::review::{Side, Update};

use super::page::{Item, Page, Section, Tone};
use super::review::{codes, combination};

/// Lays out an update: what it widens first.
pub fn of(update: &Update) -> Page {
    let (before, after) = (&update.before, &update.after);
    let comparison = &update.comparison;
    let (tone, label) = if update.wider {
        (Tone::High, "Widens")
    } else if comparison.narrows.is_empty() {
        (Tone::Good, "Same rights")
    } else {
        (Tone::Good, "Narrows")
    };
    let mut sections = vec![
        changes(
            "It can do in addition",
            Tone::High,
            "widens",
            &comparison.widens,
        ),
        Section::of(
            "What its rights come to together, which they did not before",
            "",
            update.combinations.iter().map(combination).collect(),
        ),
        changes(
            "It can do no longer",
            Tone::Good,
            "narrows",
            &comparison.narrows,
        ),
        changes("It says otherwise", Tone::Plain, "", &comparison.rewords),
        code(update),
        Section::of(
            "It can do as before",
            "",
            comparison.leaves.iter().map(Item::plain).collect(),
        ),
    ];
    sections.retain(|one| !one.items.is_empty());
    Page {
        title: format!(
            "{} {} to {} {}",
            before.name, before.version, after.name, after.version
        ),
        about: vec![
            format!("from {}", before.digest),
            format!("to   {}", after.digest),
        ],
        verdict: Item::labelled(tone, label, format!("{}.", update.verdict)),
        sections,
    }
}

fn changes(heading: &str, tone: Tone, label: &str, changes: &[Change]) -> Section {
    let items = changes.iter().map(|one| {
        let item = Item::labelled(tone, label, format!("{}: {}", one.part, one.what));
        match &one.reason {
            Some(reason) => item.note("because", format!("\u{201c}{reason}\u{201d}")),
            None => item,
        }
    });
    Section::of(heading, "", items.collect())
}

fn code(update: &Update) -> Section {
    let mut items = Vec::new();
    if update.code_differs {
        let text = "its component differs, prompts and other data in it included: the manifest bounds what it can do, not what it does";
        let digests = |side: &Side| side.code.short().to_owned();
        items.push(
            Item::labelled(Tone::Moderate, "differs", text)
                .note("from", digests(&update.before))
                .note("to", digests(&update.after)),
        );
    }
    for (label, imports) in [
        ("imports", &update.imports_added),
        ("drops", &update.imports_removed),
    ] {
        if !imports.is_empty() {
            items.push(Item::labelled(Tone::Plain, label, codes(imports)));
        }
    }
    Section::of("Its code", "", items)
}
