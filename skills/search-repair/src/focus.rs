//! Running only what failed: the arguments that make a runner repeat the red tests, and that make Python tell which lines they execute.

use moat_sdk::report::Report;

/// More red tests than this are not named one by one.
const NAMES_MAX: usize = 40;

/// A test runner whose arguments are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runner {
    Cargo,
    Pytest,
    Unittest,
}

fn runner(argv: &[String]) -> Option<Runner> {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["cargo", "test" | "t", ..] => Some(Runner::Cargo),
        ["pytest" | "py.test", ..] => Some(Runner::Pytest),
        [python, "-m", "pytest", ..] if python.starts_with("python") => Some(Runner::Pytest),
        [python, "-m", "unittest", ..] if python.starts_with("python") => Some(Runner::Unittest),
        _ => None,
    }
}

/// Arguments to append to `argv` so that only the red tests of `report` run again; `None` where that cannot be said.
///
/// `output` is the text that the report was read from. What comes of it has to be checked: a runner may still run nothing.
pub fn focus(argv: &[String], report: &Report, output: &str) -> Option<Vec<String>> {
    let mut names: Vec<&str> = report.red().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || names.len() > NAMES_MAX {
        return None;
    }
    let owned = |text: &&str| (*text).to_owned();
    match runner(argv)? {
        Runner::Cargo if argv.iter().any(|one| one == "--") => None,
        Runner::Cargo => {
            let mut args: Vec<String> = target(output)?.split(' ').map(str::to_owned).collect();
            // Documentation tests are not known by exact names.
            if !args.iter().any(|arg| arg == "--doc") {
                args.extend(["--".to_owned(), "--exact".to_owned()]);
                args.extend(names.iter().map(owned));
            }
            Some(args)
        }
        Runner::Pytest if has_paths(argv) => None,
        Runner::Pytest => Some(names.iter().map(owned).collect()),
        // By its name, a test is found without importing all others; `discover` knows names of its own.
        Runner::Unittest if plain_unittest(argv) => Some(names.iter().map(owned).collect()),
        Runner::Unittest => Some(
            names
                .iter()
                .flat_map(|name| ["-k".to_owned(), (*name).to_owned()])
                .collect(),
        ),
    }
}

fn plain_unittest(argv: &[String]) -> bool {
    argv.iter().skip(3).all(|arg| arg.starts_with('-'))
}

/// What cargo says about the one target that failed: `error: test failed, to rerun pass `-p a --lib``.
fn target(output: &str) -> Option<&str> {
    let args = output
        .lines()
        .rev()
        .find_map(|line| line.split_once("to rerun pass `")?.1.strip_suffix('`'))?;
    let plain = args.split(' ').all(|arg| {
        matches!(
            arg,
            "-p" | "--lib" | "--test" | "--bin" | "--doc" | "--bins"
        ) || !arg.starts_with('-') && !arg.is_empty()
    });
    plain.then_some(args)
}

/// Whether the command names files or directories: node ids would come on top of them.
fn has_paths(argv: &[String]) -> bool {
    let mut after = argv
        .iter()
        .skip_while(|one| !one.contains("pytest"))
        .skip(1);
    while let Some(one) = after.next() {
        if matches!(
            one.as_str(),
            "-p" | "-o" | "-c" | "-k" | "-m" | "-n" | "-W" | "-r"
        ) {
            after.next();
        } else if !one.starts_with('-') {
            return true;
        }
    }
    false
}

/// Whether the command builds Rust.
pub fn is_cargo(argv: &[String]) -> bool {
    runner(argv) == Some(Runner::Cargo)
}

/// The module that tells executed lines, and its file in the root of the view while it is wanted.
pub const TRACER: (&str, &str) = ("moat_executed_lines", include_str!("executed_lines.py"));

/// Arguments to append to `argv` so that the red tests run with the tracer; `None` where there is no way.
pub fn traced(argv: &[String], focus: &[String]) -> Option<Vec<String>> {
    let tracer = TRACER.0.to_owned();
    match runner(argv)? {
        Runner::Pytest => Some(
            ["-p".to_owned(), tracer]
                .into_iter()
                .chain(focus.iter().cloned())
                .collect(),
        ),
        // Modules on the command line are imported in order; the tracer holds no tests. With `discover` there is no place for it.
        Runner::Unittest if plain_unittest(argv) => Some(
            std::iter::once(tracer)
                .chain(focus.iter().cloned())
                .collect(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn focused(command: &str, output: &str) -> Option<String> {
        focus(&argv(command), &Report::read(output), output).map(|args| args.join(" "))
    }

    #[test]
    fn cargo_repeats_the_target_and_the_tests_that_failed() {
        let output = "test a::bad ... FAILED\ntest a::good ... ok\ntest result: FAILED. 1 passed; 1 failed\nerror: test failed, to rerun pass `-p one --lib`\n";
        assert_eq!(
            focused("cargo test --offline", output).as_deref(),
            Some("-p one --lib -- --exact a::bad")
        );
        assert_eq!(focused("cargo test -- --test-threads=1", output), None);
        let hostile = output.replace("-p one --lib", "--config x");
        assert_eq!(
            focused("cargo test", &hostile),
            None,
            "not an argument that cargo gives"
        );
        let silent = output.replace("to rerun", "");
        assert_eq!(focused("cargo test", &silent), None);
    }

    #[test]
    fn python_runners_repeat_the_tests_that_failed() {
        let output =
            "FAILED tests/test_y.py::test_b - assert 1 == 2\n1 failed, 1 passed in 0.01s\n";
        assert_eq!(
            focused("python3 -m pytest -q -p no:cacheprovider", output).as_deref(),
            Some("tests/test_y.py::test_b")
        );
        assert_eq!(
            focused("pytest -q tests", output),
            None,
            "paths would be added to, not replaced"
        );
        let output = "FAIL: test_a (tests.test_x.Case.test_a)\n----\nRan 2 tests in 0.001s\n";
        assert_eq!(
            focused("python3 -m unittest", output).as_deref(),
            Some("tests.test_x.Case.test_a")
        );
        assert_eq!(
            focused("python3 -m unittest discover -s tests", output).as_deref(),
            Some("-k tests.test_x.Case.test_a")
        );
        assert_eq!(focused("npm test", output), None);
    }

    #[test]
    fn the_tracer_goes_where_the_runner_takes_it() {
        let traced = |command: &str, focus: &str| {
            traced(&argv(command), &argv(focus)).map(|args| args.join(" "))
        };
        assert_eq!(
            traced("python3 -m pytest -q", "a.py::b").as_deref(),
            Some("-p moat_executed_lines a.py::b")
        );
        assert_eq!(
            traced("python3 -m unittest -v", "t.C.a").as_deref(),
            Some("moat_executed_lines t.C.a")
        );
        assert_eq!(
            traced("python3 -m unittest discover -s tests", "-k t.C.a"),
            None
        );
        assert_eq!(traced("cargo test", "--lib"), None);
    }
}
