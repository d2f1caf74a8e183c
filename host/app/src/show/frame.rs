//! What `moat runs watch` shows on a terminal: all runs on one screen, those that need a person first.

use std::collections::BTreeMap;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::board::Seen;
use crate::show::state::{Group, State};
use crate::show::text::{one_line, until};
use crate::show::trail::clock;

/// Fewer columns or lines show too little to be of use; what is over is cut.
const COLUMNS_MIN: usize = 20;
const LINES_MIN: usize = 4;

/// An id, a state and a step are longer only in runs of tasks.
const ID_MAX: usize = 24;
const STEP_MAX: usize = 20;

/// From here on the step has a column of its own.
const WIDE: usize = 110;

/// A line, and what it is, so that it can be coloured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// No wider than the screen, and without anything that a terminal obeys.
    pub text: String,
    /// What it is about.
    pub about: About,
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// All runs.
    All,
    /// Names of columns, and what keys do.
    Help,
    /// A run in this state.
    Run(State),
}

/// What one run shows.
struct Row<'a> {
    seen: &'a Seen,
    state: State,
    age: String,
    spend: String,
    step: String,
    last: String,
}

/// The screen.
pub fn of(runs: &[Seen], columns: usize, lines: usize, now_ms: u64) -> Vec<Line> {
    let (columns, lines) = (columns.max(COLUMNS_MIN), lines.max(LINES_MIN));
    let mut rows: Vec<Row<'_>> = runs
        .iter()
        .filter(|seen| seen.state().group() != Group::Ended)
        .map(|seen| row(seen, now_ms))
        .collect();
    // Stable: those of one state stay in the order of their opening, so that lines do not jump about.
    rows.sort_by_key(|row| order(row.state));
    let mut out = vec![Line {
        text: head(runs, columns, now_ms),
        about: About::All,
    }];
    let ended = ended(runs);
    // Head, names of the columns, those that have ended, and what keys do.
    let room = lines - 3 - usize::from(!ended.is_empty());
    let shown = if rows.len() > room {
        room.saturating_sub(1)
    } else {
        rows.len()
    };
    out.extend(table(&rows[..shown], columns));
    if shown < rows.len() {
        let rest = counted(rows[shown..].iter().map(|row| row.state));
        out.push(Line {
            text: fit(
                &format!("… and {} more: {rest}", rows.len() - shown),
                columns,
            ),
            about: About::All,
        });
    }
    if !ended.is_empty() {
        out.push(Line {
            text: fit(&format!("ended: {ended}"), columns),
            about: About::All,
        });
    }
    while out.len() < lines - 1 {
        out.push(Line {
            text: String::new(),
            about: About::All,
        });
    }
    out.push(Line {
        text: fit("q: end    moat runs show RUN: one of them", columns),
        about: About::Help,
    });
    out
}

/// People first, then what runs, then what nobody drives.
fn order(state: State) -> (u8, State) {
    let group = match state.group() {
        Group::NeedsPerson => 0,
        Group::Goes => 1,
        Group::Stands => 2,
        Group::Ended => 3,
    };
    (group, state)
}

fn head(runs: &[Seen], columns: usize, now_ms: u64) -> String {
    let count = |group| {
        let of_it = |seen: &&Seen| seen.state().group() == group;
        runs.iter().filter(of_it).count()
    };
    let mut parts = Vec::new();
    for (group, what) in [
        (Group::NeedsPerson, "need a person"),
        (Group::Goes, "running"),
        (Group::Stands, "not driven"),
        (Group::Ended, "ended"),
    ] {
        if count(group) > 0 {
            parts.push(format!("{} {what}", count(group)));
        }
    }
    let about = match parts.as_slice() {
        [] => "no runs yet".to_owned(),
        parts => format!("{} runs: {}", runs.len(), parts.join(", ")),
    };
    let time = format!("{} UTC", clock(now_ms));
    let left = columns.saturating_sub(time.width() + 2);
    format!("{}  {time}", padded(&about, left))
}

fn ended(runs: &[Seen]) -> String {
    let states = runs.iter().map(Seen::state);
    counted(states.filter(|state| state.group() == Group::Ended))
}

/// `3 merged, 1 cancelled`.
fn counted(states: impl Iterator<Item = State>) -> String {
    let mut counts: BTreeMap<State, usize> = BTreeMap::new();
    for state in states {
        *counts.entry(state).or_default() += 1;
    }
    let parts: Vec<String> = counts
        .iter()
        .map(|(state, count)| format!("{count} {}", state.word()))
        .collect();
    parts.join(", ")
}

fn row(seen: &Seen, now_ms: u64) -> Row<'_> {
    let state = seen.state();
    let run = seen.told.as_ref().ok();
    let under_way = run.and_then(|run| run.in_flight.as_ref());
    let since_ms = under_way.map_or(seen.last_at_ms, |under_way| under_way.since_ms);
    let step = under_way.map_or(String::new(), |under_way| under_way.step.to_string());
    Row {
        seen,
        state,
        age: until(now_ms.saturating_sub(since_ms)),
        spend: run.map_or(String::new(), |run| run.committed().money.to_string()),
        step,
        last: match state.group() {
            Group::Goes => seen.last.clone(),
            // Why it does not go on is worth more than what it did last.
            _ => reason(&seen.sentence(), state),
        },
    }
}

/// The state is said already.
fn reason(sentence: &str, state: State) -> String {
    let said = [
        format!("{}: ", state.word()),
        "failed, and parked: ".to_owned(),
    ];
    let rest = said
        .iter()
        .find_map(|said| sentence.strip_prefix(said.as_str()));
    rest.unwrap_or(sentence).to_owned()
}

fn table(rows: &[Row<'_>], columns: usize) -> Vec<Line> {
    let widest = |cell: &dyn Fn(&Row<'_>) -> usize, least: usize| {
        rows.iter().map(cell).max().unwrap_or(0).max(least)
    };
    let wide = columns >= WIDE;
    let id = widest(&|row| row.seen.id.as_str().len(), 3).min(ID_MAX);
    let state = widest(&|row| row.state.word().len(), 5);
    let age = widest(&|row| row.age.len(), 3);
    let spend = widest(&|row| row.spend.len(), 5);
    let step = match wide {
        true => widest(&|row| row.step.width(), 4).min(STEP_MAX) + 2,
        false => 0,
    };
    let rest = columns.saturating_sub(id + state + age + spend + 8 + step);
    let line = |cells: [&str; 6]| {
        let [run, word, old, money, step_now, last] = cells;
        let mut text = format!(
            "{}  {word:<state$}  {old:>age$}  {money:>spend$}  ",
            padded(&tail(run, id), id)
        );
        if wide {
            text.push_str(&format!("{}  ", padded(step_now, step - 2)));
        }
        text.push_str(&fit(last, rest));
        fit(text.trim_end(), columns)
    };
    let mut out = vec![Line {
        text: line(["run", "state", "for", "spent", "step", "what"]),
        about: About::Help,
    }];
    for row in rows {
        let last = one_line(&row.last, 400);
        let what = match (wide, row.step.as_str(), row.state.group()) {
            (false, step, Group::Goes) if !step.is_empty() => format!("{step}; {last}"),
            _ => last,
        };
        out.push(Line {
            text: line([
                row.seen.id.as_str(),
                row.state.word(),
                &row.age,
                &row.spend,
                &row.step,
                &what,
            ]),
            about: About::Run(row.state),
        });
    }
    out
}

/// Cut at so many columns of a terminal, where some characters take two.
fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > columns {
            break;
        }
        out.push(c);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

fn padded(text: &str, columns: usize) -> String {
    let mut out = fit(text, columns);
    let left = columns.saturating_sub(out.width());
    out.extend(std::iter::repeat_n(' ', left));
    out
}

/// Ids are ASCII, and differ at their end.
fn tail(id: &str, columns: usize) -> String {
    match id.len().checked_sub(columns) {
        None | Some(0) => id.to_owned(),
        Some(over) => format!("…{}", id.get(over + 1..).unwrap_or(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_than_its_room() {
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        // Each takes two columns.
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(padded("日", 4), "日  ");
        assert_eq!(tail("r1-left-tests", 6), "…tests");
        assert_eq!(fit("x", 0), "");
    }
}
