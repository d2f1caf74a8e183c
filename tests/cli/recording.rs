//! `moat skill run --record` of skills whose manifest asks for too little: each gets a proposal, also when it traps or cannot be loaded.

use std::process::Output;
use std::sync::LazyLock;

use capability::Manifest;
use capability::power::Power;
use serde_json::{Value, json};

use crate::house::{House, guest, told};

/// The guest that does what its input says; it imports processes, models, releases and requests.
static GUEST: LazyLock<Vec<u8>> = LazyLock::new(|| guest("guests", "probe.wasm"));

const HEAD: &str =
    "[skill]\nname = \"asker\"\nversion = \"0.1.0\"\nrole = \"job\"\ndescription = \"Asks.\"\n";

const LIMITS: &str = "[limits]\nmemory = \"64MiB\"\ntime = \"20s\"\n";

/// All that the component imports, and one command.
const ENOUGH: &str = "[[network]]\nhost = \"x.example.com\"\nmethods = [\"GET\"]\nreason = \"r\"\n[[processes]]\nproject = \"test\"\nreason = \"r\"\n\
    [model]\naliases = [\"small\"]\nmax-tokens = 10\nreason = \"r\"\n[release]\nreason = \"r\"\n";

const POLICY: &str = "hidden = []\n[[ceiling]]\nread = [\".\"]\nwrite = [\".\"]\nnetwork = [\"GET *.example.com\"]\n\
    models = [\"*\"]\nmax-tokens = 10000\nrelease = true\nmemory = \"1GiB\"\ntime = \"10m\"\n";

/// A skill in a folder, in a house whose repository grants it nothing.
struct Author {
    house: House,
}

impl Author {
    fn new(declared: &str, commands: &str) -> Author {
        let house = House::new();
        house.meter();
        std::fs::create_dir_all(house.path("asker")).unwrap();
        std::fs::write(house.path("asker/component.wasm"), GUEST.as_slice()).unwrap();
        std::fs::create_dir_all(house.home()).unwrap();
        let policy = format!("{POLICY}commands = {commands}\n");
        std::fs::write(house.home().join("policy.toml"), policy).unwrap();
        let author = Author { house };
        author.declares(&format!("{HEAD}{declared}{LIMITS}"));
        author
    }

    fn declares(&self, manifest: &str) {
        std::fs::write(self.house.path("asker/skill.toml"), manifest).unwrap();
    }

    fn call(&self, input: &Value, more: &[&str]) -> Output {
        std::fs::write(self.house.path("input.json"), input.to_string()).unwrap();
        let mut command = self.house.command(&["skill", "run", "./asker"]);
        command.args(["--repo", "meter", "--input", "input.json"]);
        command.args(more).output().unwrap()
    }

    /// What a recorded call proposes; its exit code beside it.
    fn recorded(&self, input: &Value) -> (Option<i32>, Value) {
        let output = self.call(input, &["--record", "--json"]);
        let value: Result<Value, _> = serde_json::from_slice(&output.stdout);
        let value = value.unwrap_or_else(|error| panic!("{error}: {}", told(&output)));
        (output.status.code(), value)
    }
}

fn manifest(value: &Value) -> Manifest {
    let text = value["record"]["manifest"].as_str().unwrap();
    Manifest::parse(text, "proposed.toml").unwrap()
}

fn commands(manifest: &Manifest) -> Vec<String> {
    let powers = manifest.powers();
    let named = powers.iter().filter_map(|one| match one.power {
        Power::Project { name, .. } => Some(name.to_owned()),
        _ => None,
    });
    named.collect()
}

fn run(name: &str, then: &str) -> Value {
    json!({"do": "run", "name": name, "then": then})
}

#[test]
fn a_component_that_is_not_loaded_gets_a_manifest_with_which_the_next_call_tells_the_rest() {
    let author = Author::new("", "[\"*\"]");
    let plain = author.call(&run("lint", ""), &[]);
    assert_eq!(
        (plain.status.code(), &plain.stdout[..]),
        (Some(3), &b""[..])
    );
    let (code, value) = author.recorded(&run("lint", ""));
    assert_eq!(code, Some(3), "it is refused all the same: {value}");
    let imported = value["record"]["imported"].as_array().unwrap();
    for interface in [
        "moat:host/process",
        "moat:host/model",
        "moat:host/release",
        "wasi:http/outgoing-handler",
        "wasi:http/types",
    ] {
        let about = |one: &&Value| one["what"].as_str().unwrap().contains(interface);
        assert_eq!(
            imported.iter().filter(about).count(),
            1,
            "{interface}: {value}"
        );
    }
    author.declares(value["record"]["manifest"].as_str().unwrap());

    // Now it is loaded, is refused what it asks for, and the second proposal is all that it needs.
    let (code, value) = author.recorded(&run("lint", ""));
    assert_eq!(code, Some(0), "{value}");
    assert_eq!(
        value["record"]["added"][0]["what"], "processes: lint",
        "{value}"
    );
    let proposed = manifest(&value);
    assert_eq!(commands(&proposed), ["lint"]);
    let was_an_example = (
        &proposed.model,
        &proposed.release,
        proposed.network.is_empty(),
    );
    assert_eq!(was_an_example, (&None, &None, true), "{value}");
}

#[test]
fn what_was_refused_before_a_trap_or_a_limit_is_proposed_and_nothing_is_taken_away() {
    for (then, why) in [("panic", "trapped"), ("spin", "deadline")] {
        let limits = LIMITS.replace("20s", "3s");
        let author = Author::new("", "[\"*\"]");
        author.declares(&format!("{HEAD}{ENOUGH}{limits}"));
        let (code, value) = author.recorded(&run("lint", then));
        assert_eq!(code, Some(1), "{value}");
        assert!(value["error"].as_str().unwrap().contains(why), "{value}");
        assert_eq!(value["record"]["ended"], false);
        let proposed = manifest(&value);
        assert_eq!(commands(&proposed), ["test", "lint"]);
        assert!(
            proposed.model.is_some() && proposed.release.is_some(),
            "{value}"
        );
        assert_eq!(proposed.network.len(), 1);
        // For people as well, before the error.
        let told = told(&author.call(&run("lint", then), &["--record"]));
        let at = |text: &str| told.find(text).unwrap_or_else(|| panic!("{text}: {told}"));
        assert!(at("processes: lint") < at("project = \"lint\"") && at("as far as it got") > 0);
    }
}

#[test]
fn what_the_policy_does_not_allow_is_proposed_to_nobody() {
    let author = Author::new(ENOUGH, "[\"test\"]");
    let (code, value) = author.recorded(&run("lint", "panic"));
    assert_eq!(code, Some(1), "{value}");
    assert_eq!(commands(&manifest(&value)), ["test"]);
    assert_eq!(value["record"]["refused"][0]["what"], "processes: lint");
    // Nor what it declares: the line is one of the policy.
    let author = Author::new(ENOUGH, "[]");
    let (code, value) = author.recorded(&run("test", ""));
    assert_eq!(code, Some(3), "{value}");
    let refused = &value["record"]["refused"][0];
    assert!(
        refused["line"].as_str().unwrap().contains("policy.toml"),
        "{value}"
    );
    assert_eq!(value["record"]["imported"], json!([]));
}
