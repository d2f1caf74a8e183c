//! The `moat.toml` that `moat init` writes: complete, commented, and valid as it is.

use crate::detect::Detected;

fn list(items: &[String]) -> String {
    let quoted: Vec<String> = items
        .iter()
        .map(|item| toml::Value::String(item.clone()).to_string())
        .collect();
    format!("[{}]", quoted.join(", "))
}

/// Writes the file. `deploy` is the start command with the health address appended, or empty.
pub fn template(detected: &Detected, branch: &str, deploy: &[String]) -> String {
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
    let protect = list(&protect);
    let tests = list(&detected.test_paths);
    let (deploy_line, deploy_part) = match deploy.split_last() {
        Some((health, start)) => (
            "deploy = \"deploy\"\n",
            format!(
                "\n# Releases are kept in moat's own state; `start` runs in the current one, confined.\n[deploy]\nstart = {}\nhealth = \"{health}\"\nexpect-status = 200\npatience = \"10s\"\nkeep = 3\n\n[[grant]]\nskill = \"deploy\"\nrelease = true\n",
                list(start)
            ),
        ),
        None => ("", String::new()),
    };
    format!(
        r#"# What moat may do with this repository. It is read from the protected branch only: a change of an agent to it has no effect
# until a person has merged it. Every key is enforced; an unknown one is refused.

[project]
branch = "{branch}"

# Commands by name: program and arguments, no shell. Skills and gates refer to the names.
[commands]
test = {test}

# Which skill plays which role. Swapping one is a change of one line.
[pipeline]
triage = "triage"
test = "test"
implement = "search-repair"
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

# What one run may use before it waits for a person.
[budget]
attempts = 3
time = "30m"

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
{deploy_part}"#
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use crate::{Project, detect, template};

    #[test]
    fn the_template_is_valid_for_every_language() {
        for file in ["Cargo.toml", "go.mod", "package.json", "setup.py"] {
            let detected = detect(&[file], &|_| None).unwrap();
            let deploy =
                ["python3", "-m", "app", "http://127.0.0.1:8080/health"].map(str::to_owned);
            for deploy in [&deploy[..], &[]] {
                let text = template(&detected, "main", deploy);
                let project = Project::parse(&text, "moat.toml").unwrap();
                assert_eq!(project.commands["test"], detected.test);
                assert_eq!(project.deploy.is_some(), !deploy.is_empty());
            }
        }
    }
}
