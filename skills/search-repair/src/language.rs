//! The languages that the engine reads.

/// A language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// `.rs`.
    Rust,
    /// `.py`.
    Python,
}

impl Language {
    /// By a path's ending.
    pub fn of(path: &str) -> Option<Language> {
        if path.ends_with(".rs") {
            Some(Language::Rust)
        } else if path.ends_with(".py") {
            Some(Language::Python)
        } else {
            None
        }
    }
}

/// Whether a path holds tests or build rules: never edited.
pub fn is_off_limits(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let in_tests = path.split('/').rev().skip(1).any(|part| {
        matches!(
            part,
            "tests"
                | "test"
                | "testing"
                | "bench"
                | "benches"
                | "benchmarks"
                | "fuzz"
                | "examples"
                | "target"
                | "build"
                | "docs"
                | "doc"
                | "venv"
                | ".venv"
        )
    });
    in_tests
        || name.starts_with("test_")
        || name.ends_with("_test.py")
        || name.ends_with("_tests.rs")
        || matches!(
            name,
            "conftest.py"
                | "setup.py"
                | "build.rs"
                | "test.rs"
                | "test.py"
                | "tests.rs"
                | "tests.py"
                | "noxfile.py"
        )
}

/// Whether a path holds tests.
pub fn is_test(path: &str) -> bool {
    is_off_limits(path) && !matches!(path, "setup.py" | "build.rs" | "noxfile.py")
}
