//! What each agent is told to do, and what must have come of it.

use std::path::Path;

/// One of many.
#[derive(Debug, Clone, Copy)]
pub struct Agent {
    pub number: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Asks its model and writes a file.
    Asks,
    /// Runs the tests before.
    Tests,
    /// Its first attempt is red.
    RedFirst,
    /// Appends to a file that another one appends to as well: whoever comes second has to do it again.
    Contends,
    /// Lacks a grant: a person has to give it.
    LacksGrant,
}

impl Agent {
    pub fn all(count: usize) -> Vec<Agent> {
        (0..count).map(|number| Agent { number }).collect()
    }

    fn kind(self) -> Kind {
        match self.number % 10 {
            0 | 5 => Kind::Contends,
            2 => Kind::RedFirst,
            4 => Kind::Tests,
            7 => Kind::LacksGrant,
            _ => Kind::Asks,
        }
    }

    /// The title of its run.
    pub fn name(self) -> String {
        format!("agent {}", self.number)
    }

    /// What it asks its model.
    pub fn question(self) -> String {
        format!("what would agent-{} do", self.number)
    }

    fn file(self) -> String {
        match self.kind() {
            Kind::Contends => format!("agents/both-{}.txt", self.number / 10),
            _ => format!("agents/{}.txt", self.number),
        }
    }

    fn orders(self) -> Vec<String> {
        let (number, file) = (self.number, self.file());
        let mut orders = vec![format!("DO chat {}", self.question())];
        match self.kind() {
            Kind::Asks => orders.push(format!("DO write {file} {number}")),
            Kind::Tests => orders.extend(["DO test".into(), format!("DO write {file} {number}")]),
            Kind::RedFirst => orders.extend([
                format!("DO write {file} red"),
                format!("AGAIN write {file} {number}"),
            ]),
            Kind::Contends => orders.push(format!("DO append {file} {number}")),
            Kind::LacksGrant => {
                orders.extend([format!("DO write {file} {number}"), "DO need TOKEN".into()])
            }
        }
        orders
    }

    pub fn report(self) -> String {
        format!("{}\n{}", self.name(), self.orders().join("\n"))
    }

    /// The same as a task of one run. Nobody there lacks a grant: the whole would wait for it.
    pub fn task(self) -> String {
        let orders = self.orders();
        let plain = |order: &String| order.strip_prefix("DO ").unwrap_or(order).to_owned();
        let kept = orders.iter().filter(|order| !order.contains(" need "));
        let orders: Vec<String> = kept.map(plain).collect();
        format!(
            "TASK a{}|{}||{}",
            self.number,
            self.file(),
            orders.join("; ")
        )
    }

    /// In which state its run ends.
    pub fn ends(self) -> &'static str {
        match self.kind() {
            Kind::LacksGrant => "blocked-on-grant",
            _ => "merged",
        }
    }

    /// Whether its change is there, in a checkout of the branch.
    pub fn is_done(self, checkout: &Path) -> bool {
        let text = std::fs::read_to_string(checkout.join(self.file())).unwrap_or_default();
        let own = self.number.to_string();
        text.lines().filter(|line| *line == own).count() == 1
    }
}
