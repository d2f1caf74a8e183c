//! Children: the runs that work on the tasks of another. They are opened when they may begin, driven at the same time, and their ends noted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flow::event::Event;
use flow::id::{RunId, TaskId};
use flow::money::Spend;
use flow::run::{Action, End, Run, Stage, next};
use flow::task::TaskEnd;
use flow::verdict::Base;
use journal::JournalError;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinSet;

use crate::context::{Context, DriveError};
use crate::drive::{drive_one, is_anothers};
use crate::ledger::{self, Ledger};
use crate::step::tasks::joined;

/// How soon it is seen that a person has sent a waiting child on.
const LOOK: Duration = Duration::from_millis(500);

/// What a child has of its parent while both are driven.
#[derive(Clone)]
pub(crate) struct Family {
    /// The parent's events, of which its money is part.
    pub(crate) parent: Arc<Ledger>,
    /// Held from the merge onto the joined work until that has moved: of two who merge at once, the second would have to do it again.
    joining: Arc<Mutex<()>>,
}

impl Family {
    /// Waits until no other child of the family joins its work.
    pub(crate) async fn join(&self) -> OwnedMutexGuard<()> {
        self.joining.clone().lock_owned().await
    }
}

/// Children under way, as far as this process knows.
struct Nursery<'a> {
    context: &'a Context,
    family: Family,
    driven: JoinSet<(RunId, Result<Run, DriveError>)>,
    driving: Vec<RunId>,
    /// How many events a child had when it was last left waiting.
    seen: BTreeMap<RunId, u64>,
    /// Children that could not be driven at all.
    failed: BTreeMap<RunId, DriveError>,
}

/// Works on the tasks of a run until all have ended, or those that are left wait for a person.
///
/// What goes wrong with one child is told when the others can do no more.
pub(crate) async fn tend(context: &Context) -> Result<(), DriveError> {
    settle_money(context)?;
    let mut nursery = Nursery {
        context,
        family: Family {
            parent: context.ledger.clone(),
            joining: Arc::default(),
        },
        driven: JoinSet::new(),
        driving: vec![],
        seen: BTreeMap::new(),
        failed: BTreeMap::new(),
    };
    while let Action::Tend { ready, under_way } = next(&context.ledger.run()) {
        for task in &ready {
            open(context, task)?;
        }
        let mut is_news = !ready.is_empty();
        for child in &under_way {
            is_news |= nursery.look_after(child)?;
        }
        if is_news {
            continue;
        }
        if nursery.driving.is_empty() && !nursery.is_one_held(&under_way) {
            return nursery.end();
        }
        nursery.wait().await;
    }
    nursery.end()
}

/// A run for a task: its opening is durable in the parent before it has an event of its own.
fn open(context: &Context, task: &TaskId) -> Result<(), DriveError> {
    let parent = context.ledger.run();
    let commit = joined(&context.mirror, &parent.opened.run)?;
    let base = Base {
        tree: context.mirror.tree_of(&commit)?,
        commit,
    };
    let name = format!("{}-{}", parent.opened.run, parent.children.len() + 1);
    let run: RunId = (name.parse())
        .map_err(|error: flow::id::InvalidId| DriveError::NotNow(error.to_string()))?;
    context.ledger.append(vec![Event::TaskOpened {
        task: task.clone(),
        run: run.clone(),
        base,
    }])?;
    begin(context, &run).map(|_| ())
}

/// Writes a child's first event, if it has none yet, and gives the child.
fn begin(context: &Context, child: &RunId) -> Result<Run, DriveError> {
    let journal = &context.house.journal;
    match ledger::load(journal, child) {
        Ok((run, _)) => return Ok(run),
        Err(DriveError::NoSuchRun { .. }) => {}
        Err(error) => return Err(error),
    }
    let opened = context.ledger.run().child(child);
    let opened = opened.ok_or_else(|| DriveError::NoSuchRun {
        run: child.to_string(),
    })?;
    context
        .mirror
        .keep(child, "base", opened.base.commit.clone())?;
    Ledger::begin(&context.house, child, &Event::Opened(Box::new(opened)))?;
    Ok(ledger::load(journal, child)?.0)
}

impl Nursery<'_> {
    /// Notes a child's end, or drives it if something is to be done; true when the parent's events changed.
    fn look_after(&mut self, child: &RunId) -> Result<bool, DriveError> {
        if self.driving.contains(child) {
            return Ok(false);
        }
        let run = match begin(self.context, child) {
            Ok(run) => run,
            // Of what nobody can read nobody knows how it stands: it is left alone, and the others go on.
            Err(
                error @ (DriveError::Unknown { .. }
                | DriveError::Illegal(_)
                | DriveError::Journal(JournalError::Damaged { .. })),
            ) => {
                self.failed.entry(child.clone()).or_insert(error);
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        if let Stage::Ended(end) = &run.stage {
            self.ended(&run, end)?;
            return Ok(true);
        }
        let waits = matches!(next(&run), Action::AwaitAnswer { .. } | Action::AwaitResume);
        if waits || self.seen.get(child) == Some(&run.events) {
            self.seen.insert(child.clone(), run.events);
            return Ok(false);
        }
        self.drive(child);
        Ok(false)
    }

    fn ended(&mut self, run: &Run, end: &End) -> Result<(), DriveError> {
        let child = run.opened.run.clone();
        let parent = self.context.ledger.run();
        let state = parent.under_way(&child);
        let task = state.map(|one| one.task.id.clone());
        let task = task.ok_or_else(|| DriveError::NoSuchRun {
            run: child.to_string(),
        })?;
        let end = match (end, &run.merged) {
            (End::Joined, Some(commit)) => TaskEnd::Joined {
                commit: commit.clone(),
            },
            _ => TaskEnd::Cancelled,
        };
        self.context.ledger.append(vec![Event::TaskEnded {
            task,
            run: child,
            end,
            active_ms: run.active_ms,
        }])
    }

    fn drive(&mut self, child: &RunId) {
        let run = self.context.ledger.run();
        let task = run.under_way(child).map(|one| one.task.id.clone());
        let Some(task) = task else { return };
        self.failed.remove(child);
        self.driving.push(child.clone());
        let house = self.context.house.clone();
        let watcher = self.context.watcher.of_task(&task);
        let (child, family) = (child.clone(), self.family.clone());
        self.driven.spawn(async move {
            let driven = drive_one(house, &child, watcher, Some(family)).await;
            (child, driven)
        });
    }

    /// Whether another process has one of them: somebody is about to give an answer.
    fn is_one_held(&self, under_way: &[RunId]) -> bool {
        let journal = &self.context.house.journal;
        under_way.iter().any(|child| journal.is_driven(child))
    }

    /// Until a child stops, or for a moment.
    async fn wait(&mut self) {
        let stopped = tokio::time::timeout(LOOK, self.driven.join_next()).await;
        let (child, driven) = match stopped {
            Ok(Some(Ok(stopped))) => stopped,
            // A child that panicked: it is a bug of ours, and its events are as they were.
            Ok(Some(Err(panicked))) => {
                tracing::error!(%panicked, "a task's run could not be driven");
                self.driving.clear();
                self.driven.abort_all();
                return;
            }
            // None is driven: others may have let go of one.
            Ok(None) => return tokio::time::sleep(LOOK).await,
            Err(_) => return,
        };
        self.driving.retain(|one| *one != child);
        match driven {
            Ok(run) => {
                self.seen.insert(child, run.events);
            }
            // It is driven, or answered for, by somebody else.
            Err(error) if is_anothers(&error) => {
                self.seen.remove(&child);
                tokio::time::sleep(LOOK).await;
            }
            Err(error) => {
                tracing::warn!(run = %child, %error, "a task's run cannot be driven");
                // It is tried again when somebody did something about it.
                let events = ledger::load(&self.context.house.journal, &child);
                let events = events.map_or(0, |(run, _)| run.events);
                self.seen.insert(child.clone(), events);
                self.failed.insert(child, error);
            }
        }
    }

    fn end(self) -> Result<(), DriveError> {
        match self.failed.into_values().next() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// What a crash left between a child's events and its parent's: a call that the child has settled, or never set anything aside for, is settled.
fn settle_money(context: &Context) -> Result<(), DriveError> {
    let parent = context.ledger.run();
    let mut settled = Vec::new();
    for (call, of) in &parent.lent {
        let (child, events) = match ledger::load(&context.house.journal, &of.run) {
            Ok(loaded) => loaded,
            Err(DriveError::NoSuchRun { .. }) => continue,
            Err(error) => return Err(error),
        };
        if child.reserved.contains_key(&of.call) {
            continue;
        }
        let spent = events.iter().find_map(|recorded| match &recorded.event {
            Event::Settled { call, spend } if *call == of.call => Some(*spend),
            _ => None,
        });
        settled.push(Event::Settled {
            call: *call,
            spend: spent.unwrap_or_else(Spend::default),
        });
    }
    if settled.is_empty() {
        return Ok(());
    }
    context.ledger.append(settled)
}
