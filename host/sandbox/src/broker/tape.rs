//! The record of one call: what is left of it to be given again, and where what comes is added.

use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::broker::Unanswered;
use crate::recording::{Answered, Asked, Began, Note, Question, Recorder, Recording, Times};

/// Entries that nobody loses much by are kept back until something has to be durable; no more of them than this, nor of more bytes.
const KEPT_BACK_MAX: usize = 64;
const KEPT_BACK_BYTES_MAX: usize = 256 << 10;

/// The record of one call. Without a recorder it only counts.
pub(crate) struct Tape {
    recording: Option<Recording>,
    began: Began,
    /// What the record has of the guest's time.
    recorded: Times,
    lanes: BTreeMap<u32, VecDeque<Recorded>>,
    last_number: u64,
    /// The guest's time as far as it was told.
    told: Times,
    /// Of `told`, how many ticks are in notes already.
    noted_ticks: usize,
    kept_back: Vec<Note>,
    kept_back_bytes: usize,
}

/// What the record has of one host call.
pub(crate) enum Recorded {
    /// It was asked for, and the answer was lost.
    Asked(Question),
    /// All of it.
    Answered(Box<Answered>),
}

impl Recorded {
    fn question(&self) -> &Question {
        match self {
            Recorded::Asked(question) => question,
            Recorded::Answered(answered) => &answered.question,
        }
    }
}

/// What is to be done about a host call.
pub(crate) enum Next {
    /// Give what is recorded.
    Again(Box<Answered>),
    /// Do it. It was asked for before, and whether it happened is not known.
    Interrupted(Question),
    /// Do it.
    Fresh(Question),
}

impl Tape {
    /// Begins a record, or takes one up; `None` when what was recorded makes no sense.
    pub(crate) fn new(mut recording: Option<Recording>) -> Option<Tape> {
        let notes = recording.as_mut().map(|one| std::mem::take(&mut one.notes));
        let mut notes = notes.unwrap_or_default().into_iter();
        let (began, is_new) = match notes.next() {
            Some(Note::Began(began)) => (began, false),
            Some(_) => return None,
            None => (begin()?, recording.is_some()),
        };
        let mut tape = Tape {
            recording,
            kept_back: is_new
                .then(|| Note::Began(began.clone()))
                .into_iter()
                .collect(),
            began,
            recorded: Times::default(),
            lanes: BTreeMap::new(),
            last_number: 0,
            told: Times::default(),
            noted_ticks: 0,
            kept_back_bytes: 0,
        };
        for note in notes {
            tape.load(note)?;
        }
        tape.noted_ticks = tape.recorded.ticks.len();
        tape.told = tape.recorded.clone();
        Some(tape)
    }

    fn load(&mut self, note: Note) -> Option<()> {
        let (recorded, time) = match note {
            Note::Began(_) => return None,
            Note::Asked(asked) => (Recorded::Asked(asked.question), asked.time),
            Note::Answered(mut answered) => {
                let time = std::mem::take(&mut answered.time);
                (Recorded::Answered(answered), time)
            }
        };
        if time.readings > 0 && !self.recorded.add(time) {
            return None;
        }
        let question = recorded.question();
        self.last_number = self.last_number.max(question.number);
        let lane = self.lanes.entry(question.lane).or_default();
        // An answer follows what was asked; so does the same, asked once more after it was known not to have happened.
        if let Some(Recorded::Asked(_)) = lane.back() {
            lane.pop_back();
        }
        lane.push_back(recorded);
        Some(())
    }

    /// The guest's chance and time.
    pub(crate) fn began(&self) -> &Began {
        &self.began
    }

    /// What the record has of the guest's time.
    pub(crate) fn recorded_times(&self) -> &Times {
        &self.recorded
    }

    /// Takes what the worker tells of the guest's time; false when that cannot be.
    pub(crate) fn tell(&mut self, told: Times) -> bool {
        if told.readings <= self.recorded.readings {
            return told.ticks.is_empty();
        }
        if self.recording.is_none() {
            return true;
        }
        self.told.add(told)
    }

    /// What is to be done about a host call; `begun` is how many lanes the guest has opened so far.
    pub(crate) fn next(&mut self, mut question: Question, begun: u32) -> Result<Next, Unanswered> {
        let lane = self.lanes.get_mut(&question.lane);
        if let Some(recorded) = lane.and_then(VecDeque::pop_front) {
            let before = recorded.question();
            question.number = before.number;
            if *before != question {
                return Err(diverged(before, question.to_string()));
            }
            return Ok(match recorded {
                Recorded::Answered(answered) => Next::Again(answered),
                Recorded::Asked(_) => Next::Interrupted(question),
            });
        }
        self.unplayed(begun, &question.to_string())?;
        question.number = self.next_number();
        Ok(Next::Fresh(question))
    }

    /// A number for a host call that was not asked for before.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Refuses to go on when the guest has passed by what is recorded. What it may still be waiting for in a lane that it has opened comes later, or
    /// it does not wait for it this time.
    pub(crate) fn unplayed(&self, begun: u32, asked: &str) -> Result<(), Unanswered> {
        let open = |lane: u32| lane > 0 && lane <= begun;
        let passed_by = self
            .lanes
            .iter()
            .filter(|(lane, _)| !open(**lane))
            .filter_map(|(_, left)| left.front())
            .min_by_key(|one| one.question().number);
        match passed_by {
            Some(one) => Err(diverged(one.question(), asked.to_owned())),
            None => Ok(()),
        }
    }

    /// Whether a host call that was interrupted happened, where a person knows.
    pub(crate) fn resolved(&self, number: u64) -> Option<bool> {
        self.recording.as_ref()?.resolved.get(&number).copied()
    }

    /// Makes durable that something is about to be done.
    pub(crate) async fn ask(&mut self, question: &Question, once: bool) -> Result<(), Unanswered> {
        if self.recording.is_none() {
            return Ok(());
        }
        let time = self.time();
        self.kept_back.push(Note::Asked(Asked {
            question: question.clone(),
            once,
            time,
        }));
        self.write().await
    }

    /// Adds an answer; `is_durable` when the guest may not have it before it is.
    pub(crate) async fn answer(
        &mut self,
        mut answered: Answered,
        bytes: usize,
        is_durable: bool,
    ) -> Result<(), Unanswered> {
        if self.recording.is_none() {
            return Ok(());
        }
        answered.time = self.time();
        self.kept_back.push(Note::Answered(Box::new(answered)));
        self.kept_back_bytes += bytes;
        let is_much =
            self.kept_back.len() > KEPT_BACK_MAX || self.kept_back_bytes > KEPT_BACK_BYTES_MAX;
        if is_durable || is_much {
            self.write().await?;
        }
        Ok(())
    }

    /// Whether anything is recorded at all.
    pub(crate) fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    fn time(&mut self) -> Times {
        let ticks = self.told.ticks[self.noted_ticks..].to_vec();
        self.noted_ticks = self.told.ticks.len();
        Times {
            readings: self.told.readings,
            ticks,
        }
    }

    /// Makes durable what was kept back.
    pub(crate) async fn write(&mut self) -> Result<(), Unanswered> {
        self.kept_back_bytes = 0;
        let notes = std::mem::take(&mut self.kept_back);
        match &self.recording {
            Some(recording) => recorder(recording, notes).await,
            None => Ok(()),
        }
    }
}

async fn recorder(recording: &Recording, notes: Vec<Note>) -> Result<(), Unanswered> {
    let recorder: &dyn Recorder = recording.recorder.as_ref();
    recorder.record(notes).await.map_err(Unanswered::Unrecorded)
}

fn diverged(before: &Question, asked: String) -> Unanswered {
    Unanswered::Diverged {
        number: before.number,
        recorded: before.to_string(),
        asked,
    }
}

/// Chance from the system, and the time of now.
fn begin() -> Option<Began> {
    let mut seed = [0; 32];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()).ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Began {
        seed,
        at_ns: u64::try_from(now.as_nanos()).ok()?,
    })
}
