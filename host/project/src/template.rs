//! The `moat.toml` that `moat init` writes: complete, commented, and valid as it is.

use crate::detect::Detected;

fn list(items: &[String]) -> String {
    let quoted: Vec<String> = items
        .iter()
        .map(|item| toml::Value::String(item.clone()).to_string())
        .collect();
    format!("[{}]", quoted.join(", "))
}

/// What the file has beside the tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// The start command with the health address appended, or empty.
    pub deploy: Vec<String>,
    /// The model behind the alias `coder`; without one the implement skill is `search-repair`.
    pub model: Option<String>,
}

/// Writes the file.
pub fn template(detected: &Detected, branch: &str, choices: &Choices) -> String {
    let test = list(&detected.test);
    let mut protect = vec![
        "moat.toml".to_owned(),
        ".github/**".into(),
        ".gitlab-ci.yml".into(),
        "CODEOWNERS".into(),
        ".gitattributes".into(),
        ".gitmodules".into(),
    ];
    protect.extend(detected.protect.iter().cloned());
    protect.extend(detected.test_paths.iter().cloned());
    let mut seen = std::collections::BTreeSet::new();
    protect.retain(|path| seen.insert(path.clone()));
    let protect = list(&protect);
    let tests = list(&detected.test_paths);
    let (deploy_line, deploy_part) = match choices.deploy.split_last() {
        Some((health, start)) => (
            "deploy = \"deploy\"\n",
            format!(
                "\n# Releases are kept in moat's own state; `start` runs in the current one, confined.\n[deploy]\nstart = {}\nhealth = \"{health}\"\nexpect-status = 200\npatience = \"10s\"\nkeep = 3\n\n[[grant]]\nskill = \"deploy\"\nrelease = true\n",
                list(start)
            ),
        ),
        None => ("", String::new()),
    };
    let (implement, swap, models, budget, grant) = match &choices.model {
        Some(model) => (
            "implement",
            "`search-repair` needs no model",
            format!(
                "# Aliases that skills use; each is a [model.…] of models.toml in moat's state directory.\n[models]\ncoder = \"{model}\"\n\n"
            ),
            "tokens = 3000000\nmoney = 5.00\n",
            "models = [\"coder\"]\n",
        ),
        None => (
            "search-repair",
            "`implement` works with a model: docs/models.md",
            String::new(),
            "",
            "",
        ),
    };
    format!(
        r#"# What moat may do with this repository. It is read from the protected branch only: a change of an agent to it has no effect
# until a person has merged it. Every key is enforced; an unknown one is refused.

[project]
branch = "{branch}"

# Commands by name: program and arguments, no shell. Skills and gates refer to the names.
[commands]
test = {test}

# Which skill plays which role. Swapping one is a change of one line; {swap}.
[pipeline]
triage = "triage"
test = "test"
implement = "{implement}"
{deploy_line}
# Every candidate must pass every gate, and again after it was merged onto the tip of the branch.
[[gate]]
name = "protect"
kind = "protect"
paths = {protect}
assumes = "an agent may weaken what checks it instead of doing the work"

[[gate]]
name = "tests"
kind = "command"
command = "test"
timeout = "10m"
assumes = "an agent may say that it is done when it is not"

# The base's own tests, laid over the candidate: what an agent did to them does not count.
[[gate]]
name = "base-tests"
kind = "base-tests"
command = "test"
paths = {tests}
timeout = "10m"
assumes = "an agent may delete or weaken tests"

{models}# What one run may use before it waits for a person.
[budget]
attempts = 3
time = "30m"
{budget}
# What each skill is given of what its manifest asks for. What is not named is not given.
[[grant]]
skill = "triage"
read = ["."]

[[grant]]
skill = "test"
read = ["."]
commands = ["test"]

[[grant]]
skill = "search-repair"
write = ["."]
commands = ["test"]

[[grant]]
skill = "implement"
write = ["."]
commands = ["test"]
{grant}{deploy_part}"#
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use crate::{Choices, Project, detect, template};

    #[test]
    fn the_template_is_valid_for_every_language() {
        for file in ["Cargo.toml", "go.mod", "package.json", "setup.py"] {
            let detected = detect(&[file], &|_| None).unwrap();
            let deploy =
                ["python3", "-m", "app", "http://127.0.0.1:8080/health"].map(str::to_owned);
            for (deploy, model) in [(deploy.to_vec(), None), (vec![], Some("large".to_owned()))] {
                let choices = Choices { deploy, model };
                let text = template(&detected, "main", &choices);
                let project = Project::parse(&text, "moat.toml").unwrap();
                assert_eq!(project.commands["test"], detected.test);
                assert_eq!(project.deploy.is_some(), !choices.deploy.is_empty());
                assert_eq!(project.models.get("coder"), choices.model.as_ref());
            }
        }
    }
}
