//! A skill's review as a page.

use capability::power::Left;
use catalog::review::{Imports, Review, Risk, Use, Used};

use super::page::{Item, Page, Section, Tone};

/// Lays out a review so that its first lines are enough for most readers.
pub fn of(review: &Review) -> Page {
    Page {
        title: format!("{} {} ({})", review.name, review.version, review.role),
        about: vec![review.description.clone(), review.digest.to_string()],
        verdict: Item::labelled(
            tone(review.risk),
            format!("{} risk", capital(review.risk)),
            format!("{}.", review.verdict),
        ),
        sections: [
            Some(asks(review)),
            combinations(review),
            Some(imports(&review.imports)),
            Some(left(review)),
            Some(used(&review.usage)),
            tighter(review),
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

fn capital(risk: Risk) -> &'static str {
    match risk {
        Risk::Low => "Low",
        Risk::Moderate => "Moderate",
        Risk::High => "High",
    }
}

pub(super) fn tone(risk: Risk) -> Tone {
    match risk {
        Risk::Low => Tone::Good,
        Risk::Moderate => Tone::Moderate,
        Risk::High => Tone::High,
    }
}

fn asks(review: &Review) -> Section {
    let mut items: Vec<Item> = review
        .asks
        .iter()
        .map(|ask| {
            Item::labelled(tone(ask.risk), ask.risk.to_string(), ask.may.join("; "))
                .note("because", format!("\u{201c}{}\u{201d}", ask.reason))
                .note("left", of_left(ask.left))
                .note(
                    "use",
                    if review.usage.calls > 0 {
                        of_used(ask.used)
                    } else {
                        String::new()
                    },
                )
        })
        .collect();
    if items.is_empty() {
        items.push(Item::plain("nothing: it sees its input and nothing else"));
    }
    if !review.hides.is_empty() {
        items.push(Item::labelled(
            Tone::Good,
            "hidden",
            format!("it hides from itself {}", codes(&review.hides)),
        ));
    }
    items.push(Item::labelled(
        Tone::Plain,
        "limits",
        review.limits.join(", "),
    ));
    Section::of("What it asks for, in its author's words", "", items)
}

fn of_left(left: Left) -> &'static str {
    match left {
        Left::All => "",
        Left::Part => "a part of it only, see below",
        Left::Nothing => "nothing, see below",
    }
}

fn of_used(used: Used) -> String {
    match used {
        Used::Times(1) => "once".into(),
        Used::Times(times) => format!("{times} times"),
        Used::Never => "never".into(),
        Used::Unknown => "not recorded".into(),
    }
}

pub(super) fn codes(names: &[String]) -> String {
    let all: Vec<String> = names.iter().map(|one| format!("`{one}`")).collect();
    all.join(", ")
}

fn combinations(review: &Review) -> Option<Section> {
    let items: Vec<Item> = review.combinations.iter().map(combination).collect();
    (!items.is_empty()).then(|| Section::of("What its rights come to together", "", items))
}

pub(super) fn combination(one: &catalog::review::Combination) -> Item {
    let (tone, label) = if one.stands {
        (tone(one.risk), one.risk.to_string())
    } else {
        (Tone::Plain, "withheld".into())
    };
    Item::labelled(tone, label, format!("{}.", one.what)).note("do", one.mend.clone())
}

fn imports(imports: &Imports) -> Section {
    let mut items = Vec::new();
    for one in &imports.refused {
        items.push(
            Item::labelled(Tone::High, "refused", format!("`{one}`"))
                .note("because", "no manifest can declare it"),
        );
    }
    for one in &imports.undeclared {
        items.push(
            Item::labelled(Tone::High, "undeclared", format!("`{}`", one.interface))
                .note("line", one.line.clone()),
        );
    }
    for one in &imports.unused {
        let text = format!("`{one}` is declared, and nothing that it imports can use it");
        items.push(
            Item::labelled(Tone::Moderate, "not needed", text)
                .note("do", "take the section out of skill.toml"),
        );
    }
    items.extend(
        imports
            .declared
            .iter()
            .map(|one| Item::labelled(Tone::Plain, "declared", format!("`{one}`"))),
    );
    let base = format!(
        "{} interfaces of the WASI base, which give nothing beyond the above",
        imports.base
    );
    items.push(Item::labelled(Tone::Plain, "base", base));
    Section::of("What its component really imports", "", items)
}

fn left(review: &Review) -> Section {
    let mut items: Vec<Item> = review
        .withheld
        .iter()
        .map(|one| {
            Item::labelled(
                Tone::Moderate,
                "withheld",
                format!("{}: {}", one.capability, one.what),
            )
            .note("line", one.line.clone())
        })
        .collect();
    if !review.is_granted && items.is_empty() {
        items.push(Item::plain(
            "all that it asks for, where a project grants it",
        ));
        items.push(Item::labelled(Tone::Good, "hidden", codes(&review.hidden)));
    } else {
        items.extend(
            review
                .gets
                .iter()
                .map(|one| Item::labelled(Tone::Plain, "gets", one.clone())),
        );
    }
    let heading = format!("What {} leaves of it", review.held_by);
    Section::of(heading, "", items)
}

fn used(usage: &Use) -> Section {
    let heading = "What it did so far";
    if usage.calls == 0 {
        return Section::of(heading, "No finished call of it is on record here.", vec![]);
    }
    let mut items: Vec<Item> = [
        ("calls", Some(&usage.host_calls)),
        ("commands", usage.commands.as_ref()),
        ("models", Some(&usage.models)),
        ("requests", usage.requests.as_ref()),
        ("secrets", usage.credentials.as_ref()),
    ]
    .into_iter()
    .filter_map(|(label, counts)| {
        let counts = counts.filter(|counts| !counts.is_empty())?;
        let all: Vec<String> = counts
            .iter()
            .map(|(name, times)| format!("`{name}` {times}×"))
            .collect();
        Some(Item::labelled(Tone::Plain, label, all.join(", ")))
    })
    .collect();
    items.extend(usage.refused.iter().map(|one| {
        Item::labelled(
            Tone::Moderate,
            "refused",
            format!("{} ({}×)", one.what, one.times),
        )
        .note("line", one.line.clone())
    }));
    let few = if usage.calls < 10 {
        "; so few calls prove little"
    } else {
        ""
    };
    let intro = format!(
        "{} in {}, with {:.1} MiB of memory at most{few}.",
        counted(usage.calls, "call"),
        counted(usage.runs, "run"),
        usage.peak_memory_bytes as f64 / f64::from(1 << 20)
    );
    Section::of(heading, intro, items)
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn tighter(review: &Review) -> Option<Section> {
    let code = review.tighter.clone()?;
    Some(Section {
        heading: "A tighter skill.toml".into(),
        intro: "It leaves out what was never used, and asks for nothing more.".into(),
        items: vec![],
        code,
    })
}
