//! Turns: who begins a step, a command or a model call now, where only so many are done at the same time.
//!
//! ```text
//! those who wait, in this process ── one at the head, each run in its turn ──▶ slot files of the machine ──▶ held until dropped
//! ```
//! A slot is a locked file below `slots/` of the state directory, so that all processes of the machine share them and a killed one holds none.
//! Whoever needs several takes them in one order: merge, steps, skill, resources by name, commands or model; the machine's before the repository's.
//!
//! The file says whose it is. Where that one has lost its lease, because it stands still, another takes its place: a second file of the same
//! number. A scarce resource is not given to two, whatever happens.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use capability::AtOnce;
use flow::Run;
use flow::id::{RunId, SkillName};
use flow::pipeline::Check;
use flow::step::Step;
use journal::{Journal, monotonic_ms};
use project::Project;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Notify, oneshot};

use crate::house::{key, private_dir};

/// Where the machine's owner says nothing. Most of a step's time is spent waiting for a model.
const STEPS_AT_ONCE: u32 = 32;

/// How soon a slot that another process let go of is seen.
const LOOK: Duration = Duration::from_millis(20);

/// So many looks at slots that are all held, and it is asked whether those who hold them go on.
const LOOKS_TO_DOUBT: u32 = 50;

/// How long a process that had a slot leaves the next one to others that wait: they hear of it only when they look.
const COURTESY: Duration = Duration::from_millis(50);

/// Who stands still may be replaced by one who then stands still as well, and so on; nobody stops as many moats as this.
const PLACES: u32 = 8;

/// Hands out slots. One a process.
#[derive(Debug)]
pub(crate) struct Scheduler {
    directory: PathBuf,
    limits: AtOnce,
    journal: Journal,
    lines: Mutex<HashMap<String, Arc<Line>>>,
}

/// On whose account something is done: that of a run, its tasks' included, or of a single call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Party {
    /// The directory name of the repository; absent outside of any.
    repository: Option<String>,
    name: String,
}

impl Party {
    /// A run, with its parent.
    pub(crate) fn of(run: &Run) -> Party {
        let opened = &run.opened;
        let root = opened
            .child
            .as_ref()
            .map_or(&opened.run, |child| &child.parent);
        Party {
            repository: Some(key(&opened.repository)),
            name: root.to_string(),
        }
    }

    /// Something that a person does beside any run; the repository is the one it is done for.
    pub fn outside(repository: Option<&Path>) -> Party {
        Party {
            repository: repository.map(|path| key(&path.display().to_string())),
            name: String::new(),
        }
    }
}

/// Slots that are held until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    slots: Vec<Slot>,
    /// Which of the scarce resources a command has, for its environment.
    pub(crate) env: BTreeMap<String, String>,
}

/// The slots of this machine cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be used to keep count of what is done at the same time: {error}")]
pub struct SlotError {
    path: PathBuf,
    error: std::io::Error,
}

impl Scheduler {
    /// Keeps slots below a directory, within the machine's limits.
    pub(crate) fn new(directory: PathBuf, machine: &AtOnce, journal: Journal) -> Scheduler {
        let processors = std::thread::available_parallelism().map_or(2, |n| n.get() as u32);
        let mut limits = machine.clone();
        limits.steps.get_or_insert(STEPS_AT_ONCE);
        limits.commands.get_or_insert(processors.max(2));
        Scheduler {
            directory,
            limits,
            journal,
            lines: Mutex::default(),
        }
    }

    /// The turn to merge onto the repository's branch, until it has moved: of two who merge at once, the second has done its gates in vain.
    pub(crate) async fn merge(&self, party: &Party) -> Result<Turn, SlotError> {
        let mut held = Turn::default();
        self.slot(&mut held, party, Scope::Repository, "merge", Some(1))
            .await?;
        Ok(held)
    }

    /// What a step needs before it begins, so that waiting costs a run none of its time.
    pub(crate) async fn step(
        &self,
        project: &Project,
        party: &Party,
        run: &Run,
        step: &Step,
    ) -> Result<Turn, SlotError> {
        let mut held = Turn::default();
        // What only moat does takes milliseconds, and others may be waiting for it.
        if matches!(
            step,
            Step::PrepareMerge | Step::MoveBranch { .. } | Step::Integrate
        ) {
            return Ok(held);
        }
        let limits = self.both(project);
        for (scope, limits) in limits {
            self.slot(&mut held, party, scope, "steps", limits.steps)
                .await?;
        }
        if let Some(skill) = skill_of(run, step) {
            for (scope, limits) in limits {
                let class = format!("skill-{skill}");
                let count = limits.skills.get(skill).copied();
                self.slot(&mut held, party, scope, &class, count).await?;
            }
        }
        if let Step::Gate { gate, .. } = step {
            let gates = run.opened.pipeline.gates.iter();
            let check = gates.filter(|one| one.name == *gate).map(|one| &one.check);
            if let Some(command) = check.filter_map(command_of).next() {
                self.add_command(&mut held, project, party, Some(command))
                    .await?;
            }
        }
        Ok(held)
    }

    /// What a command needs; `name` is that under which the project has it.
    pub(crate) async fn command(
        &self,
        project: &Project,
        party: &Party,
        name: Option<&str>,
    ) -> Result<Turn, SlotError> {
        let mut held = Turn::default();
        self.add_command(&mut held, project, party, name).await?;
        Ok(held)
    }

    /// What a model call needs.
    pub(crate) async fn model(
        &self,
        project: &Project,
        party: &Party,
        alias: &str,
    ) -> Result<Turn, SlotError> {
        let mut held = Turn::default();
        for (scope, limits) in self.both(project) {
            // An alias that nobody limits is the guest's word: it names no file.
            let count = limits.models.get(alias).copied();
            self.slot(&mut held, party, scope, &format!("model-{alias}"), count)
                .await?;
        }
        Ok(held)
    }

    async fn add_command(
        &self,
        held: &mut Turn,
        project: &Project,
        party: &Party,
        name: Option<&str>,
    ) -> Result<(), SlotError> {
        let needs = |commands: &Vec<String>| commands.iter().any(|one| Some(one.as_str()) == name);
        for resource in project.resources.iter().filter(|one| needs(&one.commands)) {
            let class = format!("{RESOURCE}{}", resource.name);
            let index = self
                .slot(held, party, Scope::Repository, &class, Some(resource.count))
                .await?;
            let variable = resource.name.to_ascii_uppercase().replace('-', "_");
            let index = index.unwrap_or(0).to_string();
            held.env.insert(format!("MOAT_RESOURCE_{variable}"), index);
        }
        for (scope, limits) in self.both(project) {
            self.slot(held, party, scope, "commands", limits.commands)
                .await?;
        }
        Ok(())
    }

    fn both<'a>(&'a self, project: &'a Project) -> [(Scope, &'a AtOnce); 2] {
        [
            (Scope::Machine, &self.limits),
            (Scope::Repository, &project.at_once),
        ]
    }

    /// Waits for one of `count` slots, if there is a limit, and gives its index.
    async fn slot(
        &self,
        held: &mut Turn,
        party: &Party,
        scope: Scope,
        class: &str,
        count: Option<u32>,
    ) -> Result<Option<u32>, SlotError> {
        let Some(count) = count else {
            return Ok(None);
        };
        let scope = match (scope, &party.repository) {
            (Scope::Machine, _) => "machine",
            (Scope::Repository, Some(repository)) => repository,
            (Scope::Repository, None) => return Ok(None),
        };
        let line = self.line(scope, class);
        let slot = line.slot(&party.name, count).await?;
        let index = slot.index;
        held.slots.push(slot);
        Ok(Some(index))
    }

    fn line(&self, scope: &str, class: &str) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{scope}/{class}");
        let make = || {
            // What is scarce is not there twice because somebody stands still.
            let doubts = (!class.starts_with(RESOURCE)).then(|| self.journal.clone());
            Arc::new(Line::new(self.directory.join(&name), doubts))
        };
        lines.entry(name.clone()).or_insert_with(make).clone()
    }
}

/// Begins the class of what a project calls a scarce resource.
const RESOURCE: &str = "resource-";

#[derive(Debug, Clone, Copy)]
enum Scope {
    Machine,
    Repository,
}

fn skill_of<'a>(run: &'a Run, step: &Step) -> Option<&'a SkillName> {
    let pipeline = &run.opened.pipeline;
    let skill = match step {
        Step::Intake => pipeline.triage.as_ref(),
        Step::Baseline => pipeline.test.as_ref(),
        Step::Plan => pipeline.plan.as_ref(),
        Step::Implement { .. } => Some(&pipeline.implement),
        Step::Deploy { .. } => pipeline.deploy.as_ref().map(|deploy| &deploy.skill),
        Step::Gate { .. } | Step::PrepareMerge | Step::MoveBranch { .. } | Step::Integrate => None,
    };
    skill.map(|skill| &skill.name)
}

/// The project command that a check runs.
pub(crate) fn command_of(check: &Check) -> Option<&str> {
    match check {
        Check::Command { name, .. } | Check::BaseTests { name, .. } => Some(name),
        Check::Protect { .. } => None,
    }
}

/// Those of this process who wait for the slots of one kind. The one at the head looks at the files.
#[derive(Debug)]
struct Line {
    directory: PathBuf,
    /// Tells whether those who hold a slot go on; absent where nobody takes another's place.
    doubts: Option<Journal>,
    state: Mutex<Waiting>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    has_head: bool,
    /// Whether this process had a slot of this kind before.
    was_served: bool,
    those: Vec<(String, oneshot::Sender<Head>)>,
    /// When each party was last at the head, by counting turns.
    served: HashMap<String, u64>,
    turns: u64,
}

impl Waiting {
    /// Whoever was served longest ago; of one party, whoever came first.
    fn next(&mut self) -> Option<oneshot::Sender<Head>> {
        let served = |name: &String| self.served.get(name).copied().unwrap_or(0);
        let first = (0..self.those.len()).min_by_key(|n| served(&self.those[*n].0))?;
        let (name, wake) = self.those.remove(first);
        self.turns += 1;
        self.served.insert(name, self.turns);
        Some(wake)
    }
}

impl Line {
    fn new(directory: PathBuf, doubts: Option<Journal>) -> Line {
        Line {
            directory,
            doubts,
            state: Mutex::default(),
            freed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn slot(self: &Arc<Line>, party: &str, count: u32) -> Result<Slot, SlotError> {
        let _head = self.head(party).await;
        private_dir(&self.directory).map_err(self.failed())?;
        if self.state().was_served && self.others_wait()? {
            tokio::time::sleep(COURTESY).await;
        }
        self.state().was_served = true;
        let mut looks = 0;
        let mut waits = None;
        loop {
            if let Some(slot) = self.free(party, count)? {
                return Ok(slot);
            }
            if waits.is_none() {
                waits = Some(self.wait()?);
            }
            looks += 1;
            if looks % LOOKS_TO_DOUBT == 0
                && let Some(slot) = self.place_of_another(party, count)?
            {
                return Ok(slot);
            }
            let _ = tokio::time::timeout(LOOK, self.freed.notified()).await;
        }
    }

    /// Waits until this one is at the head.
    async fn head(self: &Arc<Line>, party: &str) -> Head {
        let (call, turn) = oneshot::channel();
        self.state().those.push((party.to_owned(), call));
        self.call_next();
        // The other end is in the line until it is called.
        turn.await.unwrap_or(Head { line: None })
    }

    /// Calls the next one to the head, if nobody is there. One that has given up is passed over.
    fn call_next(self: &Arc<Line>) {
        loop {
            let call = {
                let mut state = self.state();
                if state.has_head {
                    return;
                }
                let Some(call) = state.next() else {
                    // Nobody waits: nobody was kept waiting.
                    state.served.clear();
                    return;
                };
                state.has_head = true;
                call
            };
            let head = Head {
                line: Some(self.clone()),
            };
            match call.send(head) {
                Ok(()) => return,
                Err(mut head) => head.line = None,
            }
            self.state().has_head = false;
        }
    }

    fn failed(&self) -> impl Fn(std::io::Error) -> SlotError {
        let path = self.directory.clone();
        move |error| SlotError {
            path: path.clone(),
            error,
        }
    }

    /// A sign for other processes that somebody waits here, until it is dropped.
    fn wait(&self) -> Result<File, SlotError> {
        let file = self.sign().map_err(self.failed())?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            // Somebody looks whether there is one just now.
            Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => Ok(file),
            Err(errno) => Err(self.failed()(errno.into())),
        }
    }

    /// Whether there is such a sign; whoever is at the head here has none yet.
    fn others_wait(&self) -> Result<bool, SlotError> {
        let file = self.sign().map_err(self.failed())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(self.failed()(errno.into())),
        }
    }

    fn sign(&self) -> std::io::Result<File> {
        let path = self.directory.join("waiting");
        File::options().append(true).create(true).open(path)
    }

    fn free(self: &Arc<Line>, party: &str, count: u32) -> Result<Option<Slot>, SlotError> {
        for index in 0..count {
            if let Some(slot) = self.take(party, index, &index.to_string())? {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// One of a holder that has lost its lease. Whoever stands still comes back one day: for a while there are then more than should be.
    fn place_of_another(
        self: &Arc<Line>,
        party: &str,
        count: u32,
    ) -> Result<Option<Slot>, SlotError> {
        let Some(journal) = &self.doubts else {
            return Ok(None);
        };
        for index in 0..count {
            let mut name = index.to_string();
            for place in 1..=PLACES {
                if goes_on(journal, &self.directory.join(&name)) {
                    break;
                }
                name = format!("{index}.{place}");
                if let Some(slot) = self.take(party, index, &name)? {
                    tracing::warn!(slot = %slot.path.display(), "whoever holds this stands still: another goes on in its place");
                    return Ok(Some(slot));
                }
            }
        }
        Ok(None)
    }

    fn take(
        self: &Arc<Line>,
        party: &str,
        index: u32,
        name: &str,
    ) -> Result<Option<Slot>, SlotError> {
        let path = self.directory.join(name);
        let failed = |error: std::io::Error| SlotError {
            path: path.clone(),
            error,
        };
        // Not to append: what a holder that was killed has left in it is written over.
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        }
        say(&file, party).map_err(failed)?;
        Ok(Some(Slot {
            file: Some(file),
            path,
            index,
            line: self.clone(),
        }))
    }
}

/// Writes whose a slot is: the run and the process that drives it.
fn say(file: &File, party: &str) -> std::io::Result<()> {
    let whose = format!("{party} {}\n", std::process::id());
    file.write_all_at(whose.as_bytes(), 0)?;
    file.set_len(whose.len() as u64)
}

/// Whether whoever holds a slot has the lease of its run still. Of what no run holds, and of what cannot be read, it is taken to.
fn goes_on(journal: &Journal, slot: &Path) -> bool {
    let whose = std::fs::read_to_string(slot).unwrap_or_default();
    let mut words = whose.split_ascii_whitespace();
    let run = words.next().and_then(|run| run.parse::<RunId>().ok());
    let pid = words.next().and_then(|pid| pid.parse::<u32>().ok());
    let (Some(run), Some(pid)) = (run, pid) else {
        return true;
    };
    match journal.holder(&run) {
        Ok(Some(holder)) => holder.by.pid == pid && holder.drives(monotonic_ms()),
        _ => true,
    }
}

/// Being at the head of a line; dropped, the next one is.
#[derive(Debug)]
struct Head {
    line: Option<Arc<Line>>,
}

impl Drop for Head {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            line.state().has_head = false;
            line.call_next();
        }
    }
}

/// A locked slot file.
#[derive(Debug)]
struct Slot {
    file: Option<File>,
    path: PathBuf,
    index: u32,
    line: Arc<Line>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Or the next holder would for a moment be taken for this one, whose lease is over.
            let _ = file.set_len(0);
        }
        // Unlocked now, so that whoever is told finds it free.
        self.line.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    fn line(directory: &Path) -> Arc<Line> {
        Arc::new(Line::new(directory.join("machine/steps"), None))
    }

    /// Eight of one run and one of another wait for a single slot: the other is served second, not ninth.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_waits_for_many_does_not_keep_the_others_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let line = line(directory.path());
        let first = line.slot("many", 1).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |party: &'static str| {
            let (line, order) = (line.clone(), order.clone());
            tokio::spawn(async move {
                let slot = line.slot(party, 1).await.unwrap();
                order.lock().unwrap().push(party);
                drop(slot);
            })
        };
        let mut waiting: Vec<_> = (0..8).map(|_| wait("many")).collect();
        while line.state().those.len() < 7 {
            tokio::task::yield_now().await;
        }
        waiting.push(wait("one"));
        while line.state().those.len() < 8 {
            tokio::task::yield_now().await;
        }
        drop(first);
        for one in waiting {
            one.await.unwrap();
        }
        let order = order.lock().unwrap();
        assert!(order[..2].contains(&"one"), "{order:?}");
    }

    /// A process with many who wait, and another with one: that one is not served last.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_process_with_many_who_wait_does_not_keep_another_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let (many, one) = (line(directory.path()), line(directory.path()));
        let first = many.slot("first", 1).await.unwrap();
        let served = Arc::new(Mutex::new(0));
        let waiting: Vec<_> = (0..100)
            .map(|n| {
                let (many, served) = (many.clone(), served.clone());
                tokio::spawn(async move {
                    let slot = many.slot(&format!("r{n}"), 1).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    *served.lock().unwrap() += 1;
                    drop(slot);
                })
            })
            .collect();
        let other = tokio::spawn(async move { one.slot("other", 1).await.map(drop) });
        tokio::time::sleep(LOOK * 2).await;
        drop(first);
        other.await.unwrap().unwrap();
        let before = *served.lock().unwrap();
        assert!(before < 10, "{before} were served before it");
        for task in waiting {
            task.await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn never_more_than_the_limit_hold_one_and_none_is_lost_by_giving_up() {
        let directory = tempfile::tempdir().unwrap();
        // Two lines stand for two processes: they share nothing but the files.
        let lines = [line(directory.path()), line(directory.path())];
        let (now, most) = (Arc::new(Mutex::new(0u32)), Arc::new(Mutex::new(0u32)));
        let tasks: Vec<_> = (0..40)
            .map(|n| {
                let (line, now, most) = (lines[n % 2].clone(), now.clone(), most.clone());
                tokio::spawn(async move {
                    let party = format!("p{}", n % 3);
                    // Some give up while they wait, at the head or before.
                    let patience = Duration::from_millis(if n % 5 == 0 { 3 } else { 60_000 });
                    let slot = tokio::time::timeout(patience, line.slot(&party, 3)).await;
                    let Ok(slot) = slot else { return false };
                    let slot = slot.unwrap();
                    {
                        let mut now = now.lock().unwrap();
                        *now += 1;
                        let mut most = most.lock().unwrap();
                        *most = (*most).max(*now);
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    *now.lock().unwrap() -= 1;
                    drop(slot);
                    true
                })
            })
            .collect();
        let mut served = 0;
        for one in tasks {
            served += u32::from(one.await.unwrap());
        }
        assert!(served >= 32, "{served} were served");
        assert_eq!(*most.lock().unwrap(), 3);
        let again: Vec<_> = (0..3).map(|_| lines[0].free("again", 3).unwrap()).collect();
        assert!(again.iter().all(Option::is_some), "a slot was leaked");
    }

    /// A holder whose lease has expired stands still; one whose lease has not is waited for, and so is one of a scarce resource.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn another_goes_on_in_the_place_of_whoever_has_lost_its_lease() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        let owner = journal::Owner::this(0);
        let lease = |run: &str, length_ms| {
            let run = run.parse().unwrap();
            (journal.lease(&run, &owner, monotonic_ms(), length_ms)).unwrap()
        };
        let (_still, _goes) = (lease("still", 0), lease("goes", 60_000));
        for (name, holder, doubts, is_given) in [
            ("steps", "still", true, true),
            ("commands", "goes", true, false),
            ("resource-bench", "still", false, false),
        ] {
            // Two lines stand for two processes: they share nothing but the files.
            let line = || {
                let doubts = doubts.then(|| journal.clone());
                Arc::new(Line::new(directory.path().join(name), doubts))
            };
            let first = line().slot(holder, 1).await.unwrap();
            let other = line();
            let patience = LOOK * (LOOKS_TO_DOUBT * 2);
            let second = tokio::time::timeout(patience, other.slot("goes", 1)).await;
            assert_eq!(second.is_ok(), is_given, "{name}");
            // Of whoever came in its place nobody takes the place while that one goes on.
            let third = tokio::time::timeout(patience, other.slot("goes", 1)).await;
            assert!(third.is_err(), "{name}");
            drop(first);
            drop(second);
            assert!(line().free("again", 1).unwrap().is_some(), "{name}");
        }
    }
}
