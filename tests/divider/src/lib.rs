//! A plan skill that takes its tasks from the item: one for each line `TASK id|claims|after|order; order`.

use moat_sdk::plan::{Guest, SkillError, Task, WorkItem};

struct Divider;

fn list(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

impl Guest for Divider {
    fn plan(item: WorkItem) -> Result<Vec<Task>, SkillError> {
        let task = |line: &str| {
            let parts: Vec<&str> = line.split('|').collect();
            let at = |n: usize| parts.get(n).copied().unwrap_or("").trim();
            let orders: Vec<String> = at(3)
                .split(';')
                .map(str::trim)
                .map(|order| match order.starts_with("AGAIN ") {
                    true => order.to_owned(),
                    false => format!("DO {order}"),
                })
                .collect();
            Task {
                id: at(0).to_owned(),
                title: format!("the part {}", at(0)),
                instructions: orders.join("\n"),
                claims: list(at(1)),
                after: list(at(2)),
                acceptance: vec![],
            }
        };
        let lines = item.body.lines();
        Ok(lines
            .filter_map(|line| line.strip_prefix("TASK "))
            .map(task)
            .collect())
    }
}

moat_sdk::plan::export!(Divider with_types_in moat_sdk::plan);
