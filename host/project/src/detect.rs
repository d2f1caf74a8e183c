//! Finding a project's test command from its files.

/// What was found out about a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// For people.
    pub language: &'static str,
    /// Program and arguments of the test command.
    pub test: Vec<String>,
    /// Globs of the tests, for `base-tests`; empty where tests cannot be told from the code by their paths.
    pub test_paths: Vec<String>,
    /// Globs of what decides how tests run.
    pub protect: Vec<String>,
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|one| (*one).to_owned()).collect()
}

impl Detected {
    pub(crate) fn of_rust() -> Detected {
        Detected {
            language: "Rust",
            test: strings(&["cargo", "test", "--offline"]),
            test_paths: strings(&["tests/**", "**/tests/**", "**/tests.rs"]),
            protect: strings(&[
                ".cargo/**",
                "rust-toolchain*",
                "**/build.rs",
                "**/Cargo.toml",
            ]),
        }
    }

    fn of_python(pytest: bool, src_layout: bool) -> Detected {
        let mut test = if pytest {
            strings(&["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider"])
        } else {
            strings(&["python3", "-m", "unittest"])
        };
        if pytest && src_layout {
            // Without it, tests would run against an installed copy, or an editable one in another place, and not against these files.
            test.extend(strings(&["-o", "pythonpath=src"]));
        }
        Detected {
            language: "Python",
            test,
            test_paths: strings(&[
                "tests/**",
                "test/**",
                "**/tests/**",
                "**/test_*.py",
                "**/*_test.py",
                "**/conftest.py",
            ]),
            protect: strings(&[
                "**/conftest.py",
                "pytest.ini",
                "setup.cfg",
                "tox.ini",
                "pyproject.toml",
                "**/sitecustomize.py",
                "**/usercustomize.py",
            ]),
        }
    }

    fn of_node(has_script: bool) -> Detected {
        let test: &[&str] = if has_script {
            &["npm", "test", "--silent"]
        } else {
            &["node", "--test"]
        };
        Detected {
            language: "Node",
            test: strings(test),
            test_paths: strings(&[
                "test/**",
                "tests/**",
                "**/__tests__/**",
                "**/*.test.*",
                "**/*.spec.*",
            ]),
            protect: strings(&[
                "package.json",
                "package-lock.json",
                "**/jest.config.*",
                "**/vitest.config.*",
            ]),
        }
    }

    fn of_go() -> Detected {
        Detected {
            language: "Go",
            test: strings(&["go", "test", "./..."]),
            test_paths: strings(&["**/*_test.go", "**/testdata/**"]),
            protect: strings(&["go.mod", "go.sum"]),
        }
    }
}

/// Looks at the files of a tree; `read` gives a file's text. `None` when no test command can be told.
pub fn detect(files: &[&str], read: &dyn Fn(&str) -> Option<String>) -> Option<Detected> {
    let has = |name: &str| files.contains(&name);
    let any = |wanted: &dyn Fn(&str) -> bool| files.iter().any(|file| wanted(file));
    if has("Cargo.toml") {
        return Some(Detected::of_rust());
    }
    if has("go.mod") {
        return Some(Detected::of_go());
    }
    if has("package.json") {
        let script = read("package.json")
            .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let script = script.and_then(|value| value["scripts"]["test"].as_str().map(str::to_owned));
        return Some(Detected::of_node(
            script.is_some_and(|script| !script.contains("no test specified")),
        ));
    }
    let python_test = |file: &str| {
        let name = file.rsplit('/').next().unwrap_or(file);
        (name.starts_with("test_") || name.ends_with("_test.py")) && name.ends_with(".py")
    };
    if any(&python_test) || has("pyproject.toml") || has("setup.py") {
        let mentions = |file: &str| read(file).is_some_and(|text| text.contains("pytest"));
        let configured = has("pytest.ini")
            || any(&|file| file.ends_with("conftest.py"))
            || [
                "pyproject.toml",
                "setup.cfg",
                "tox.ini",
                "requirements-dev.txt",
            ]
            .iter()
            .any(|file| mentions(file));
        let plain = files
            .iter()
            .filter(|file| python_test(file))
            .take(20)
            .filter_map(|file| read(file))
            .any(|text| text.contains("import pytest") || !text.contains("unittest"));
        let src_layout = any(&|file| {
            file.strip_prefix("src/")
                .is_some_and(|inner| inner.ends_with(".py"))
        });
        return Some(Detected::of_python(configured || plain, src_layout));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], wanted: Option<&[&str]>) {
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let read = |name: &str| {
            files
                .iter()
                .find(|(one, _)| *one == name)
                .map(|(_, text)| (*text).to_owned())
        };
        let found = detect(&names, &read).map(|detected| detected.test);
        assert_eq!(found, wanted.map(strings), "{files:?}");
    }

    #[test]
    fn test_commands_are_found_by_what_the_project_has() {
        check(
            &[("Cargo.toml", "[package]")],
            Some(&["cargo", "test", "--offline"]),
        );
        check(&[("go.mod", "")], Some(&["go", "test", "./..."]));
        check(
            &[("package.json", r#"{"scripts":{"test":"jest"}}"#)],
            Some(&["npm", "test", "--silent"]),
        );
        check(&[("package.json", "{broken")], Some(&["node", "--test"]));
        check(
            &[("tests/test_a.py", "import unittest")],
            Some(&["python3", "-m", "unittest"]),
        );
        check(
            &[("test_a.py", "def test_x(): pass")],
            Some(&["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider"]),
        );
        check(
            &[("setup.py", ""), ("tox.ini", "pytest")],
            Some(&["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider"]),
        );
        check(
            &[
                ("setup.py", ""),
                ("src/a/__init__.py", ""),
                ("tests/test_a.py", "import pytest"),
            ],
            Some(&[
                "python3",
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "-o",
                "pythonpath=src",
            ]),
        );
        check(&[("README", "")], None);
    }
}
