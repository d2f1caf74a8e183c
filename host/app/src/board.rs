//! All runs, as the journal tells them: read once, and kept up to date by what is new.

use std::collections::HashMap;

use flow::id::RunId;
use flow::run::{Run, Stage, apply};
use flow::{Event, Recorded};
use journal::{Follow, Journal, JournalError, Placed};
use serde_json::json;

use crate::show::line;
use crate::show::state::{self, Driving, Group, State};
use crate::show::text::one_line;

/// A title is a table's cell.
const TITLE_MAX: usize = 200;

/// One run, as far as it can be read.
pub struct Seen {
    /// Its id.
    pub id: RunId,
    /// How many events it has.
    pub events: u64,
    /// When it was opened.
    pub first_at_ms: u64,
    /// When its last event was recorded.
    pub last_at_ms: u64,
    /// What its events come to, or why nobody can tell.
    pub told: Result<Run, String>,
    /// Who drives it.
    pub driving: Driving,
    /// The last thing that happened and is worth telling.
    pub last: String,
}

impl Seen {
    fn begins(id: RunId, at_ms: u64) -> Seen {
        Seen {
            id,
            events: 0,
            first_at_ms: at_ms,
            last_at_ms: at_ms,
            told: Err("its first event is not there".into()),
            driving: Driving::Nobody,
            last: String::new(),
        }
    }

    /// How it stands.
    pub fn state(&self) -> State {
        match &self.told {
            Ok(run) => State::of(run, &self.driving),
            Err(_) => State::Error,
        }
    }

    /// What it is about, on one line.
    pub fn title(&self) -> String {
        match &self.told {
            Ok(run) => title(run),
            Err(_) => "(it cannot be read)".into(),
        }
    }

    /// Where it is and what it waits for.
    pub fn sentence(&self) -> String {
        match &self.told {
            Ok(run) => state::sentence(run, &self.driving),
            Err(why) => one_line(why, 300),
        }
    }

    /// For programs; the keys are part of the interface.
    pub fn json(&self) -> serde_json::Value {
        let about = match &self.told {
            Ok(run) => return summary(run, &self.driving),
            Err(why) => why,
        };
        json!({
            "run": self.id,
            "state": State::Error.word(),
            "sentence": about,
            "events": self.events,
            "first-at-ms": self.first_at_ms,
            "last-at-ms": self.last_at_ms,
        })
    }

    fn learn(&mut self, placed: &Placed<'_>) -> Option<Recorded> {
        self.events = placed.number;
        self.last_at_ms = placed.at_ms;
        if self.told.is_err() && self.events > 1 {
            return None;
        }
        let event: Event = match serde_json::from_slice(placed.body) {
            Ok(event) => event,
            Err(error) => {
                self.told = Err(format!(
                    "event {} is unknown to this moat: use the version that wrote it ({error})",
                    placed.number
                ));
                return None;
            }
        };
        let recorded = Recorded {
            number: placed.number,
            at_ms: placed.at_ms,
            event,
        };
        let before = std::mem::replace(&mut self.told, Err(String::new())).ok();
        self.told = match apply(before, &recorded) {
            Ok(run) => Ok(lighter(run)),
            Err(error) => Err(format!(
                "the journal of this run was written by something else: {error}"
            )),
        };
        if !matches!(recorded.event, Event::StepStarted { .. })
            && let Some(line) = line::of(&recorded)
        {
            self.last = line;
        }
        Some(recorded)
    }
}

/// What a run is about.
pub fn title(run: &Run) -> String {
    let title = run
        .item
        .as_ref()
        .map_or(run.opened.report.text.as_str(), |item| item.title.as_str());
    one_line(title, TITLE_MAX)
}

/// A run for programs; the keys are part of the interface.
pub fn summary(run: &Run, driving: &Driving) -> serde_json::Value {
    json!({
        "run": run.opened.run,
        "repository": run.opened.repository,
        "state": State::of(run, driving).word(),
        "sentence": state::sentence(run, driving),
        "driver": driving.json(),
        "step": run.in_flight.as_ref().map(|under_way| under_way.step.to_string()),
        "step-since-ms": run.in_flight.as_ref().map(|under_way| under_way.since_ms),
        "title": run.item.as_ref().map(|item| item.title.clone()),
        "base": run.opened.base.commit,
        "merged": run.merged,
        "attempts": run.attempts.len(),
        "events": run.events,
        "opened-at-ms": run.opened_at_ms,
        "last-at-ms": run.last_at_ms,
        "active-ms": run.active_ms,
        "money-micros": run.committed().money,
        "tokens": run.committed().tokens,
        "denials": run.denials,
        "parked": run.parked,
        "needs": run.blocked().map(|blocked| &blocked.needs),
    })
}

/// Of a run that has ended, little more than its end is ever looked at here; thousands of them are kept.
fn lighter(mut run: Run) -> Run {
    if matches!(run.stage, Stage::Ended(_)) {
        run.opened.report.text = one_line(&run.opened.report.text, TITLE_MAX);
        run.verdicts.clear();
        run.baseline = None;
        for attempt in &mut run.attempts {
            (attempt.outcome, attempt.candidate) = (None, None);
            (attempt.failure, attempt.red) = (None, None);
        }
    }
    run
}

/// What is new about a run.
pub enum News {
    /// It has another event; without what it says, where nobody can tell.
    Event(Option<Box<Recorded>>),
    /// Its state changed, and no event says so: whoever drove it is gone, or somebody came.
    Driving,
}

/// All runs, in the order of their opening.
pub struct Board {
    journal: Journal,
    follow: Follow,
    runs: Vec<Seen>,
    places: HashMap<String, usize>,
}

impl Board {
    /// Reads all that there is.
    pub fn read(journal: &Journal) -> Result<Board, JournalError> {
        let mut board = Board {
            journal: journal.clone(),
            follow: journal.follow(0)?,
            runs: Vec::new(),
            places: HashMap::new(),
        };
        board.take_in(&mut |_, _| {})?;
        board.drivers(&mut |_, _| {})?;
        Ok(board)
    }

    /// The runs.
    pub fn runs(&self) -> &[Seen] {
        &self.runs
    }

    /// Takes in what was written since the last time, and tells it event by event, each with how its run stands now.
    pub fn events(&mut self, tell: &mut dyn FnMut(&Seen, News)) -> Result<(), JournalError> {
        let mut news = Vec::new();
        self.take_in(&mut |place, recorded| news.push((place, recorded)))?;
        let mut touched: Vec<usize> = news.iter().map(|(place, _)| *place).collect();
        touched.dedup();
        for place in touched {
            self.look(place)?;
        }
        for (place, recorded) in news {
            tell(&self.runs[place], News::Event(recorded.map(Box::new)));
        }
        Ok(())
    }

    fn take_in(
        &mut self,
        tell: &mut dyn FnMut(usize, Option<Recorded>),
    ) -> Result<(), JournalError> {
        let (runs, places) = (&mut self.runs, &mut self.places);
        self.follow.news(&mut |placed| {
            let place = match places.get(placed.run) {
                Some(place) => *place,
                None => {
                    // The journal takes no other ids.
                    let Ok(id) = placed.run.parse() else { return };
                    places.insert(placed.run.to_owned(), runs.len());
                    runs.push(Seen::begins(id, placed.at_ms));
                    runs.len() - 1
                }
            };
            let recorded = runs[place].learn(&placed);
            tell(place, recorded);
        })
    }

    fn look(&mut self, place: usize) -> Result<(), JournalError> {
        let seen = &mut self.runs[place];
        if matches!(seen.state().group(), Group::Goes | Group::Stands) {
            seen.driving = Driving::of(&self.journal, &seen.id)?;
        }
        Ok(())
    }

    /// Looks who drives the runs that somebody may drive.
    pub fn drivers(&mut self, tell: &mut dyn FnMut(&Seen, News)) -> Result<(), JournalError> {
        for place in 0..self.runs.len() {
            let before = self.runs[place].state();
            self.look(place)?;
            if self.runs[place].state() != before {
                tell(&self.runs[place], News::Driving);
            }
        }
        Ok(())
    }
}
