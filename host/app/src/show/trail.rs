//! The audit trail for people: one line an entry, and days of the calendar (UTC).

use audit::{Confinement, Decided, Entry, Outcome, Recorded, Refused, Used};
use flow::event::Answer;
use flow::verdict::Finding;

use crate::show::text::one_line;

/// Tells an entry: when, what kind, for which run, and what.
pub fn line(recorded: &Recorded) -> String {
    let run = recorded.entry.run().map_or("-", |run| run.as_str());
    format!(
        "{:>6}  {}  {:<8}  {run:<17}  {}",
        recorded.number,
        moment(recorded.at_ms),
        recorded.entry.kind().as_str(),
        told(&recorded.entry)
    )
}

fn told(entry: &Entry) -> String {
    match entry {
        Entry::Call(call) => format!(
            "{} ({}) {}as {}, grant {}, policy {}, {}",
            call.skill,
            call.digest.short(),
            call.step.as_ref().map_or(String::new(), |step| format!(
                "in {}, ",
                one_line(step.as_str(), 60)
            )),
            call.role,
            call.grant.short(),
            call.policy.short(),
            confined(call.confinement)
        ),
        Entry::Denied(denied) => {
            format!("{}: {}", denied.skill, refused(&denied.refused))
        }
        Entry::Used(used) => format!(
            "{} (call {}): {}{}",
            used.skill,
            used.call,
            outcome(&used.outcome),
            uses(used)
        ),
        Entry::Verdict(verdict) => format!(
            "gate {}: {} on tree {}, verdict {}",
            verdict.gate,
            match verdict.finding {
                Finding::Pass => "pass",
                Finding::Fail => "FAIL",
                Finding::NeedsHuman => "needs a human",
            },
            verdict.tree.short(),
            verdict.verdict.short()
        ),
        Entry::Decision(decision) => format!(
            "{} {}",
            one_line(decision.by.as_str(), 60),
            decided(&decision.decided)
        ),
        Entry::Sealed(sealed) => format!(
            "the {} bytes before are a line that a crash cut off",
            sealed.bytes
        ),
    }
}

fn confined(level: Confinement) -> &'static str {
    match level {
        Confinement::Full => "fully confined",
        Confinement::Namespaces => "confined by namespaces alone",
    }
}

fn refused(refused: &Refused) -> String {
    format!(
        "{}: {}; it would need {}",
        refused.capability,
        one_line(refused.what.as_str(), 120),
        one_line(refused.line.as_str(), 200)
    )
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered => "answered".into(),
        Outcome::Refused(kind) => format!("ended with {}", one_line(kind.as_str(), 40)),
        Outcome::Ended(why) => format!("ended without an answer, {}", one_line(why.as_str(), 120)),
    }
}

fn uses(used: &Used) -> String {
    let mut parts = Vec::new();
    for (name, times) in &used.host_calls {
        let name = name.as_str();
        if !name.starts_with("moat:host/progress.") {
            let name = name.strip_prefix("moat:host/").unwrap_or(name);
            parts.push(format!("{} {times}×", one_line(name, 60)));
        }
    }
    for one in &used.commands {
        let name = one_line(one.name.as_str(), 40);
        parts.push(format!("command {name} {}×", one.times));
    }
    for one in &used.models {
        let alias = one_line(one.alias.as_str(), 40);
        parts.push(format!("model {alias} {}×", one.times));
    }
    for one in &used.network {
        let names: Vec<&str> = one.credentials.iter().map(|name| name.as_str()).collect();
        let with = match names.as_slice() {
            [] => String::new(),
            names => format!(" with {}", names.join(", ")),
        };
        let what = format!("{} {}{}{with}", one.method, one.origin, one.path);
        parts.push(format!("{} {}×", one_line(&what, 120), one.requests));
    }
    let denied: u64 = used.denied.iter().map(|(_, times)| times).sum();
    if denied > 0 {
        let kinds = used.denied.len();
        parts.push(format!("refused {denied}× ({kinds} different)"));
    }
    if used.left_out > 0 {
        parts.push(format!("and {} more", used.left_out));
    }
    parts.iter().map(|part| format!("; {part}")).collect()
}

fn decided(decided: &Decided) -> String {
    match decided {
        Decided::Answer {
            gate,
            tree,
            answer,
            note,
        } => {
            let word = match answer {
                Answer::Approve => "approved",
                Answer::Reject => "rejected",
            };
            let note = match note.as_str() {
                "" => String::new(),
                note => format!(": {}", one_line(note, 120)),
            };
            format!("{word} gate {gate} for tree {}{note}", tree.short())
        }
        Decided::Resume => "resumed it".into(),
        Decided::Cancel => "cancelled it".into(),
        Decided::Happened { happened, effect } => {
            let did = if *happened {
                "happened"
            } else {
                "did not happen"
            };
            format!("said that it {did}: {}", one_line(effect.as_str(), 160))
        }
        Decided::Grant {
            skill,
            from,
            to,
            policy,
            project,
        } => format!(
            "resumed it with another grant for {skill}: {} instead of {}, by moat.toml {} and policy {}",
            to.short(),
            from.short(),
            project.short(),
            policy.short()
        ),
        Decided::SkillApproved { skill, digest } => {
            format!("approved skill {skill} ({})", digest.short())
        }
    }
}

const DAY_MS: u64 = 86_400_000;

/// `2026-11-24 17:36:06`, in UTC.
fn moment(ms: u64) -> String {
    let (year, month, day) = calendar((ms / DAY_MS) as i64);
    let seconds = ms % DAY_MS / 1000;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// `17:36:06`, in UTC.
pub fn clock(ms: u64) -> String {
    let moment = moment(ms);
    moment.get(11..).unwrap_or(&moment).to_owned()
}

/// Milliseconds since 1970 at the beginning of a day `YYYY-MM-DD`.
pub fn day(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else {
        return None;
    };
    let wanted = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    // Days up to a year beyond 9999: found by the same calendar that shows them.
    let about = (i64::from(wanted.0) - 1970) * 365;
    let near = about.max(0)..about.checked_add(2400)?;
    let found = near.into_iter().find(|day| calendar(*day) == wanted)?;
    u64::try_from(found).ok().map(|day| day * DAY_MS)
}

/// Year, month and day of a number of days since 1970 (Gregorian; years are counted from March, so that the leap day is the last).
fn calendar(days: i64) -> (i32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(moment(0), "1970-01-01 00:00:00");
        assert_eq!(moment(1_764_005_766_999), "2025-11-24 17:36:06");
        assert_eq!(day("1970-01-01"), Some(0));
        assert_eq!(day("2024-02-29"), Some(1_709_164_800_000));
        assert_eq!(
            day("2026-11-24").map(moment).as_deref(),
            Some("2026-11-24 00:00:00")
        );
        for wrong in [
            "2026-02-29",
            "2026-13-01",
            "2026-1",
            "x-y-z",
            "",
            "-1-1-1",
            "99999-01-01-",
        ] {
            assert_eq!(day(wrong), None, "{wrong}");
        }
    }
}
