//! What a run's model calls took, by alias.

use std::collections::BTreeMap;

use flow::money::{Reservation, Spend};
use flow::{Event, Recorded};
use serde_json::json;

use crate::show::text::one_line;

/// What calls by one alias took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cost {
    /// Who answered: providers and models.
    pub models: Vec<String>,
    /// Of calls that have ended.
    pub spend: Spend,
    /// What is set aside for calls that have not, or whose end a crash took along: it counts as spent.
    pub open: BTreeMap<u64, Reservation>,
}

/// By alias, in the order of their names.
pub fn of(events: &[Recorded]) -> BTreeMap<String, Cost> {
    let mut costs: BTreeMap<String, Cost> = BTreeMap::new();
    let mut aliases: BTreeMap<u64, String> = BTreeMap::new();
    for recorded in events {
        match &recorded.event {
            Event::Reserved {
                call,
                alias,
                model,
                reservation,
                ..
            } => {
                let cost = costs.entry(alias.clone()).or_default();
                if !cost.models.contains(model) {
                    cost.models.push(model.clone());
                }
                cost.open.insert(*call, *reservation);
                aliases.insert(*call, alias.clone());
            }
            Event::Settled { call, spend } => {
                let alias = aliases.get(call).cloned().unwrap_or_default();
                let cost = costs.entry(alias).or_default();
                cost.open.remove(call);
                cost.spend = cost.spend.plus(*spend);
            }
            _ => {}
        }
    }
    costs
}

/// As rows of a Markdown table; nothing where no model was called.
pub fn table(costs: &BTreeMap<String, Cost>) -> String {
    if costs.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "## What models took\n\n| alias | model | calls | tokens | money |\n| --- | --- | --- | --- | --- |\n",
    );
    for (alias, cost) in costs {
        let cell = |text: &str| one_line(text, 80).replace('|', "\\|");
        let open = match cost.open.len() {
            0 => String::new(),
            open => format!(" and {open} without an end"),
        };
        out.push_str(&format!(
            "| {} | {} | {}{open} | {} | {} |\n",
            cell(alias),
            cell(&cost.models.join(", ")),
            cost.spend.calls,
            cost.spend.tokens,
            cost.spend.money
        ));
    }
    out.push('\n');
    out
}

/// For programs.
pub fn json(costs: &BTreeMap<String, Cost>) -> serde_json::Value {
    let one = |(alias, cost): (&String, &Cost)| {
        json!({
            "alias": alias,
            "models": cost.models,
            "calls": cost.spend.calls,
            "tokens": cost.spend.tokens,
            "money-micros": cost.spend.money,
            "without-end": cost.open.len(),
        })
    };
    costs.iter().map(one).collect()
}
