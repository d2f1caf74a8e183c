//! What a search in vain says to the person who goes on from there.

use crate::search::Vain;

/// A few lines: how far it came, what it looked at, what came close.
pub fn in_vain(vain: &Vain) -> String {
    let mut lines = Vec::new();
    lines.push(if vain.open {
        format!(
            "different edits make the tests pass, and the tests do not say which is right: a person, or one more test, has to ({} were tried)",
            vain.tried
        )
    } else if vain.out_of_time {
        format!(
            "time ran out after {} of {} small edits",
            vain.tried, vain.of
        )
    } else {
        format!("none of {} small edits makes the tests pass", vain.tried)
    });
    let mut list = |title: &str, entries: &[String]| {
        if !entries.is_empty() {
            lines.push(String::new());
            lines.push(title.to_owned());
            lines.extend(entries.iter().map(|entry| format!("  {entry}")));
        }
    };
    list("Red on the base:", &vain.red);
    list(
        "Searched first, the most suspicious at the top:",
        &vain.looked,
    );
    list("Came close:", &vain.near);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_learns_how_far_it_came() {
        let mut vain = Vain {
            tried: 7,
            of: 9,
            red: vec!["t::bad".into()],
            looked: vec!["f (a.rs:1-3)".into()],
            ..Vain::default()
        };
        let text = in_vain(&vain);
        assert!(
            text.starts_with("none of 7 small edits makes the tests pass\n"),
            "{text}"
        );
        assert!(
            text.contains("  t::bad\n") && text.contains("  f (a.rs:1-3)"),
            "{text}"
        );
        assert!(!text.contains("Came close"), "{text}");
        vain.open = true;
        assert!(in_vain(&vain).starts_with("different edits make the tests pass"));
        vain.open = false;
        vain.out_of_time = true;
        vain.near
            .push("a.rs:2: `<` becomes `<=` turns some tests green".into());
        let text = in_vain(&vain);
        assert!(
            text.starts_with("time ran out after 7 of 9") && text.contains("Came close:\n  a.rs:2"),
            "{text}"
        );
    }
}
