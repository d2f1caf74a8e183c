//! The worker of a skill call is killed, and moat lives: the call goes on where it was, and nothing of it is done twice.

use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::http::{Server, whole};
use support::model::{Answer, provider, text};

use crate::house::{House, git, told};
use crate::network::Asking;

/// A moat whose workers are killed.
#[derive(Clone, Default)]
pub struct Moat(Arc<AtomicU32>);

impl Moat {
    pub fn start(&self, house: &House, args: &[&str]) -> Child {
        let child = house
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.0.store(child.id(), Ordering::SeqCst);
        child
    }

    /// Kills its worker, if it has one now.
    fn kill_worker(&self) -> bool {
        let moat = self.0.load(Ordering::SeqCst);
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|one| one.file_name().to_str()?.parse::<u32>().ok());
        let workers: Vec<u32> = pids
            .filter(|pid| is_worker(*pid) && descends(*pid, moat))
            .collect();
        let killed = workers.iter().filter(|pid| {
            let pid = Pid::from_raw(**pid as i32).unwrap();
            kill_process(pid, Signal::KILL).is_ok()
        });
        killed.count() > 0
    }

    /// The same, once there is one, and waits until nothing of it is left.
    fn kill_the_worker(&self) {
        let begun = Instant::now();
        while !self.kill_worker() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no worker");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn is_worker(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.starts_with(b"/moat\0") && line.windows(11).any(|part| part == b"moat-worker")
}

fn descends(pid: u32, from: u32) -> bool {
    line_of(pid).any(|one| one == from)
}

/// A process and what it descends from.
pub fn line_of(pid: u32) -> impl Iterator<Item = u32> {
    let parent = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        line.trim().parse::<u32>().ok().filter(|pid| *pid > 0)
    };
    std::iter::successors(Some(pid), parent).take(16)
}

/// A repository whose triage posts, asks a model, and asks once more; and those that it asks.
pub struct Told {
    pub asking: Asking,
    service: Server,
    pub model: Server,
    pub moat: Moat,
    /// Set while the worker is killed as soon as it is there.
    hunted: Arc<AtomicBool>,
}

/// When the worker is killed, seen from the service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    Never,
    /// While this is asked for: the answer comes after.
    Asked(&'static str),
    /// So long after this was answered.
    Answered(&'static str, Duration),
}

impl Told {
    pub fn new(when: When) -> Told {
        Told::answering(when, "done")
    }

    /// What is posted gets this answer.
    pub fn answering(when: When, answer: &'static str) -> Told {
        let moat = Moat::default();
        let (victim, pending) = (moat.clone(), Mutex::new(when != When::Never));
        let service = Server::start(move |request, stream| {
            let mut pending = pending.lock().unwrap();
            let is_now = |path: &str| request.target == path;
            match when {
                When::Asked(path) if is_now(path) && *pending => {
                    victim.kill_the_worker();
                    *pending = false;
                }
                When::Answered(path, after) if is_now(path) && *pending => {
                    *pending = false;
                    let victim = victim.clone();
                    std::thread::spawn(move || {
                        std::thread::sleep(after);
                        victim.kill_the_worker();
                    });
                }
                _ => {}
            }
            let body = match request.method.as_str() {
                "POST" => answer,
                _ => "done",
            };
            whole(stream, 200, &[], body);
        });
        let model = provider(|_| Answer::Says(vec![text("fine")]));
        let asking = Asking::new("triage", service.port, true);
        let edit = Asking::edit;
        edit(
            asking.repo.join("tools/asker/skill.toml"),
            &[("methods = [\"GET\"]", "methods = [\"GET\", \"POST\"]")],
        );
        let rule = format!("\"GET http://localhost:{}/v1\"", service.port);
        let both = format!("{rule}, {}", rule.replace("GET", "POST"));
        edit(
            asking.repo.join("moat.toml"),
            &[(&rule, &both), ("tokens = 1000\n", "tokens = 100000\n")],
        );
        git(&asking.repo, &["commit", "-qam", "it posts"]);
        let models = format!(
            "[provider.here]\napi = \"anthropic\"\nurl = \"http://127.0.0.1:{}\"\n\n\
             [model.unused]\nprovider = \"here\"\nid = \"large-1\"\ncontext-tokens = 100000\noutput-tokens = 8000\n\
             price = {{ input = 3, output = 15, cache-read = 0.3, cache-write = 3.75 }}\n",
            model.port
        );
        std::fs::write(asking.house.home().join("models.toml"), models).unwrap();
        Told {
            asking,
            service,
            model,
            moat,
            hunted: Arc::default(),
        }
    }

    pub fn report(&self, last: &[Value]) -> String {
        let url = |path: &str| format!("http://localhost:{}{path}", self.service.port);
        let mut steps = vec![
            json!({"do": "random"}),
            json!({"do": "fetch", "method": "POST", "url": url("/v1/effect"), "body": "once"}),
            json!({"do": "chat"}),
            json!({"do": "fetch", "url": url("/v1/look")}),
        ];
        steps.extend(last.iter().cloned());
        format!("STORY {}", json!({ "steps": steps }))
    }

    /// Another request, and one more than the grant has.
    pub fn late(&self) -> [Value; 2] {
        ["late", "over"].map(|path| {
            let url = format!("http://localhost:{}/v1/{path}", self.service.port);
            json!({"do": "fetch", "url": url})
        })
    }

    pub fn run(&self, last: &[Value]) -> Output {
        let report = self.report(last);
        let args = ["run", "--repo", "meter", &report];
        self.moat
            .start(&self.asking.house, &args)
            .wait_with_output()
            .unwrap()
    }

    /// Kills every worker, until [`Told::end`].
    pub fn hunt(&self) -> std::thread::JoinHandle<()> {
        self.hunted.store(true, Ordering::SeqCst);
        let (hunted, moat) = (self.hunted.clone(), self.moat.clone());
        std::thread::spawn(move || {
            while hunted.load(Ordering::SeqCst) {
                moat.kill_worker();
                std::thread::sleep(Duration::from_millis(5));
            }
        })
    }

    pub fn end(&self, hunt: std::thread::JoinHandle<()>) {
        self.hunted.store(false, Ordering::SeqCst);
        hunt.join().unwrap();
    }

    pub fn only_run(&self) -> Value {
        let output = self.asking.house.moat(&["runs", "--json"]);
        let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
        runs[0].clone()
    }

    fn shown(&self) -> Value {
        let run = self.only_run()["run"].as_str().unwrap().to_owned();
        let output = self.asking.house.moat(&["runs", "show", &run, "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Types of the events, and the work item without what is another in each run.
    pub fn events(&self) -> (Vec<String>, String) {
        let shown = self.shown();
        let events = shown["events"].as_array().unwrap();
        let kinds = events.iter().map(|one| {
            let event = &one["event"];
            let step = event["step"]["name"].as_str().unwrap_or_default();
            format!("{} {step}", event["type"].as_str().unwrap())
        });
        let item = events
            .iter()
            .find_map(|one| one["event"]["decision"]["accepted"]["body"].as_str());
        let item = item.unwrap_or_default().lines().nth(1).unwrap_or_default();
        let mut item: Value = serde_json::from_str(item).unwrap_or_default();
        // What is by chance, and what the model was told of it.
        for at in [0, 2] {
            if let Some(one) = item.get_mut(at) {
                one.take();
            }
        }
        (kinds.collect(), item.to_string())
    }

    pub fn asked(&self, path: &str) -> usize {
        let seen = self.service.seen();
        seen.iter().filter(|one| one.target == path).count()
    }
}

pub fn sleep(ms: u64) -> Value {
    json!({"do": "sleep", "ms": ms})
}

#[test]
fn a_call_whose_worker_is_killed_goes_on_and_ends_as_one_that_was_left_alone() {
    let alone = Told::new(When::Never);
    let [late, over] = alone.late();
    let output = alone.run(&[sleep(10), late, over]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let (expected, item) = alone.events();
    let money = alone.only_run()["money-micros"].clone();
    assert_ne!(money, json!(0));

    let millis = Duration::from_millis;
    for when in [
        // The host has the answer all the same.
        When::Asked("/v1/effect"),
        When::Asked("/v1/look"),
        // The guest sleeps.
        When::Answered("/v1/look", millis(300)),
    ] {
        let killed = Told::new(when);
        let nap = if matches!(when, When::Answered(..)) {
            3000
        } else {
            10
        };
        let [late, over] = killed.late();
        let output = killed.run(&[sleep(nap), late, over]);
        let text = told(&output);
        assert_eq!(output.status.code(), Some(0), "{when:?}: {text}");
        let (mut events, found) = killed.events();
        let at = events
            .iter()
            .position(|one| one == "step-interrupted intake");
        let at = at.unwrap_or_else(|| panic!("{when:?}: {events:?}"));
        assert_eq!(events.remove(at), "step-interrupted intake");
        assert_eq!(events.remove(at), "step-started intake");
        assert_eq!(events, expected, "{when:?}");
        assert_eq!(found, item, "{when:?}");
        assert_eq!(killed.only_run()["money-micros"], money, "{when:?}");
        // A head that nobody was there to read the body of: that is asked for again.
        let looks = 1 + usize::from(when == When::Asked("/v1/look"));
        let times =
            ["/v1/effect", "/v1/look", "/v1/late", "/v1/over"].map(|path| killed.asked(path));
        assert_eq!(times, [1, looks, 1, 0], "{when:?}");
        assert_eq!(killed.model.seen().len(), 1, "{when:?}");
        let shown = killed.only_run()["run"].as_str().unwrap().to_owned();
        let shown = told(&killed.asking.house.moat(&["runs", "show", &shown]));
        assert!(shown.contains("stays under way"), "{shown}");
    }
}

#[test]
fn a_call_whose_workers_are_killed_again_and_again_waits_and_can_be_sent_on() {
    let killed = Told::new(When::Never);
    let report = killed.report(&[sleep(4000)]);
    let args = ["run", "--repo", "meter", &report];
    let child = killed.moat.start(&killed.asking.house, &args);
    while killed.asked("/v1/look") == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let hunt = killed.hunt();
    let output = child.wait_with_output().unwrap();
    killed.end(hunt);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let (events, _) = killed.events();
    let interrupted = |one: &&String| one.starts_with("step-interrupted");
    assert_eq!(events.iter().filter(interrupted).count(), 4, "{events:?}");
    let run = killed.only_run();
    assert_eq!(run["state"], "failed");
    assert!(
        run["sentence"].as_str().unwrap().contains("worker died"),
        "{run}"
    );

    let run = run["run"].as_str().unwrap().to_owned();
    let args = ["runs", "resume", &run];
    let child = killed.moat.start(&killed.asking.house, &args);
    let output = child.wait_with_output().unwrap();
    let text = told(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(killed.asked("/v1/effect"), 1, "{text}");
    assert!(killed.asked("/v1/look") <= 2, "{text}");
    assert_eq!(killed.model.seen().len(), 1, "{text}");
}

#[test]
fn what_a_call_did_before_it_failed_by_itself_is_told() {
    let failed = Told::new(When::Never);
    let output = failed.run(&[json!({"do": "panic"})]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let shown = failed.shown();
    let events = shown["events"].as_array().unwrap();
    let text = events
        .iter()
        .find_map(|one| one["event"]["failure"]["evidence"]["text"].as_str())
        .unwrap_or_else(|| panic!("{shown}"));
    assert!(text.contains("Before, it had done or begun:"), "{text}");
    assert!(
        text.contains("/v1/effect") && !text.contains("/v1/look"),
        "{text}"
    );
    assert_eq!(failed.asked("/v1/effect"), 1);
}
