//! The demo's sample, and a run of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use driver::{House, Watcher};
use flow::Recorded;
use flow::id::RunId;
use flow::role::{Origin, Report};

/// What `moat run` does: opens the house, opens a run, and drives it until it is merged.
pub(crate) async fn drive(house: &Path, repository: &Path) -> RunId {
    let house = House::open(house, &std::env::current_exe().unwrap()).unwrap();
    let house = Arc::new(house);
    let report = Report {
        origin: Origin::Text,
        text: std::fs::read_to_string(demo().join("report.txt")).unwrap(),
    };
    let opened = driver::open(&house, repository, report).unwrap();
    let ended = driver::drive(house, &opened.run, Arc::new(Nobody)).await;
    let ended = ended.unwrap();
    assert!(ended.merged.is_some(), "{:?}", ended.stage);
    opened.run
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../app/demo")
}

/// The demo's sample with the `moat.toml` of `moat init`; without a deployment, whose time is the service's.
pub(crate) fn write(repository: &Path) {
    let mut files = Vec::new();
    for folder in ["", "meter", "tests"] {
        for entry in std::fs::read_dir(demo().join(folder)).unwrap().flatten() {
            let path = entry.path();
            if path.is_file() && !path.ends_with("report.txt") {
                let name = path.strip_prefix(demo()).unwrap().display().to_string();
                files.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let detected = project::detect(&names, &|_| None).unwrap();
    let moat = project::template(&detected, "main", &project::Choices::default());
    files.push((project::FILE.into(), moat));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let identity = repo::Identity::new("bench", "bench@localhost").unwrap();
    repo::create(
        repository,
        "main",
        &files,
        &identity,
        "Sample",
        1_750_000_000,
    )
    .unwrap();
}

struct Nobody;

impl Watcher for Nobody {
    fn event(&self, _: &Recorded) {}
    fn note(&self, _: &str) {}
    fn of_task(&self, _: &flow::id::TaskId) -> Arc<dyn Watcher> {
        Arc::new(Nobody)
    }
}
