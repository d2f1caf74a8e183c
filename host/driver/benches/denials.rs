//! A skill that floods the host with refused requests, and its neighbour's time: `cargo bench -p driver --bench denials`.
//!
//! Both are called in one process, under one house with its audit trail, as one moat would. The neighbour computes and calls the host a thousand times;
//! it is measured alone and beside each flood in turn, so that what else the machine does is in all of them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints"
)]

use std::path::Path;
use std::process::Command as Program;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capability::Grant;
use catalog::Package;
use driver::{
    About, CallMeter, CallRecord, House, Scratch, StepModels, StepNetwork, StepServices, Watcher,
};
use flow::Recorded;
use flow::id::Role;
use flow::money::{Micros, Reservation};
use project::Project;
use sandbox::{Answer, Call, Loaded};
use serde_json::{Value, json};

const ROUNDS: usize = 30;

/// Some 50 ms of work.
const TOIL: u64 = 20_000_000;

const MANIFEST: &str = r#"
[skill]
name = "probe"
version = "0.1.0"
role = "job"
description = "Does what it is told."

[[processes]]
project = "test"
reason = "links the interface"

[[network]]
host = "api.example.com"
methods = ["GET"]
reason = "links the interface"

[model]
aliases = ["coder"]
max-tokens = 10
reason = "links the interface"

[release]
reason = "links the interface"

[limits]
memory = "64MiB"
time = "5m"
host-calls = 1000000
"#;

const POLICY: &str = r#"
hidden = []
[[ceiling]]
commands = ["*"]
network = ["*"]
models = ["*"]
max-tokens = 10
release = true
memory = "64MiB"
time = "5m"
"#;

fn main() {
    confine::enter_if_asked();
    sandbox::enter_worker_if_asked();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Arc::new(Bench::new(directory.path()).await);
    let floods = [
        ("alone", None),
        ("one kind, a pause after each", Some((500, false))),
        ("different ones, a pause after each", Some((500, true))),
        ("one kind, as fast as it can", Some((0, false))),
    ];
    let mut times = vec![Vec::new(); floods.len()];
    let mut rates = vec![0.0; floods.len()];
    for _ in 0..ROUNDS {
        for (at, (_, flood)) in floods.iter().enumerate() {
            let (time, rate) = bench.neighbour(*flood).await;
            times[at].push(time);
            rates[at] += rate / ROUNDS as f64;
        }
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{:36} {:>9} {:>9} {:>9} {:>12}",
        "neighbour beside", "min ms", "median ms", "to alone", "refused a s"
    );
    let mut alone = 0.0;
    for (at, (name, _)) in floods.iter().enumerate() {
        times[at].sort();
        let median = ms(times[at][ROUNDS / 2]);
        if at == 0 {
            alone = median;
        }
        println!(
            "{name:36} {:9.1} {median:9.1} {:9.2} {:12.0}",
            ms(times[at][0]),
            median / alone,
            rates[at]
        );
    }
    let verified = bench.house.trail.verify(&[]).unwrap();
    println!(
        "the trail is whole: {} entries in {} files",
        verified.entries, verified.files
    );
}

struct Bench {
    house: Arc<House>,
    project: Arc<Project>,
    package: Package,
    grant: Arc<Grant>,
    loaded: Loaded,
    scratch: Arc<Scratch>,
}

impl Bench {
    async fn new(directory: &Path) -> Bench {
        let program = std::env::current_exe().unwrap();
        let root = directory.join("house");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("policy.toml"), POLICY).unwrap();
        let house = Arc::new(House::open(&root, &program).unwrap());
        let package = Package::assemble(MANIFEST, &probe(), "skill.toml").unwrap();
        let detected = project::detect(&["tests/test_x.py"], &|_| None).unwrap();
        let text = project::template(&detected, "main", &project::Choices::default());
        let text = format!(
            "{text}\n[[grant]]\nskill = \"probe\"\ncommands = [\"test\"]\nnetwork = [\"GET api.example.com\"]\nmodels = [\"coder\"]\nrelease = true\n\n[models]\ncoder = \"none\"\n"
        );
        let text = text.replace("[budget]\n", "[budget]\ntokens = 1000\nmoney = 1.00\n");
        let project = Arc::new(Project::parse(&text, project::FILE).unwrap());
        let granted = project.grant_of(&package.manifest.name);
        let grant = Arc::new(Grant::compute(&package.manifest, granted, &house.policy));
        let loaded = house
            .sandbox
            .load(&package.component, &grant)
            .await
            .unwrap();
        Bench {
            house,
            project,
            package,
            grant,
            loaded,
            scratch: Arc::new(Scratch::at(&directory.join("scratch"))),
        }
    }

    async fn call(&self, input: Value) -> Answer {
        let about = About {
            run: None,
            package: &self.package,
            grant: &self.grant,
            project: &self.project,
        };
        let watcher = Arc::new(Nobody);
        let nothing = Reservation {
            money: Micros(0),
            tokens: 0,
        };
        let services = Arc::new(StepServices {
            house: self.house.clone(),
            project: self.project.clone(),
            env: driver::granted_env(&self.project, &self.grant),
            tree: None,
            scratch: self.scratch.clone(),
            releases: None,
            models: StepModels::new(
                self.house.models.clone(),
                self.project.clone(),
                Arc::new(CallMeter::new(nothing)),
                driver::Keys::of_call(),
                watcher.clone(),
            ),
            network: StepNetwork::new(&self.house.outbound, self.grant.clone()),
            wall: Duration::from_secs(300),
            watcher,
            account: None,
            keys: driver::Keys::of_call(),
            record: CallRecord::begin(&self.house, &about).unwrap(),
            party: driver::Party::outside(None),
        });
        let call = Call {
            role: Role::Job,
            input,
            view: None,
            grant: self.grant.clone(),
            env: vec![],
            recording: None,
        };
        let answer = self
            .house
            .sandbox
            .call(&self.loaded, call, services.clone())
            .await;
        services.record.end(&answer).unwrap();
        answer.unwrap()
    }

    /// The neighbour's time from its first to its last host call, its worker's start included, and refusals a second beside it.
    async fn neighbour(self: &Arc<Bench>, flood: Option<(u64, bool)>) -> (Duration, f64) {
        let flooding = flood.map(|(pause, fresh)| {
            let bench = self.clone();
            let input = json!({"do": "insist", "count": if pause == 0 { 4000 } else { 300 }, "pause-us": pause, "fresh": fresh});
            tokio::spawn(async move {
                let begun = Instant::now();
                let answer = bench.call(input).await;
                let refused: u32 = answer.denials.iter().map(|(_, times)| times).sum();
                f64::from(refused) / begun.elapsed().as_secs_f64()
            })
        });
        if flooding.is_some() {
            // Until it floods.
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        let begun = Instant::now();
        self.call(json!({"do": "toil", "count": TOIL})).await;
        let took = begun.elapsed();
        let rate = match flooding {
            Some(flooding) => flooding.await.unwrap(),
            None => 0.0,
        };
        (took, rate)
    }
}

/// The same guest that the tests use, built as the catalog builds skills.
fn probe() -> Vec<u8> {
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().nth(3).unwrap().join("skills");
    let args = "build --quiet --locked -p guests --target wasm32-wasip2 --profile skill";
    let built = Program::new(env!("CARGO"))
        .args(args.split(' '))
        .arg("--target-dir")
        .arg(&target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(built.success(), "rustup target add wasm32-wasip2");
    std::fs::read(target.join("wasm32-wasip2/skill/probe.wasm")).unwrap()
}

struct Nobody;

impl Watcher for Nobody {
    fn event(&self, _: &Recorded) {}
    fn note(&self, _: &str) {}
    fn of_task(&self, _: &flow::id::TaskId) -> Arc<dyn Watcher> {
        Arc::new(Nobody)
    }
}
