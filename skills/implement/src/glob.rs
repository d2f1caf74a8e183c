//! Globs over paths of the view, as a regular expression.

use regex_lite::Regex;

/// A glob. Without a `/` it looks at the file's name wherever it lies, with one at the whole path.
#[derive(Debug, Clone)]
pub struct Glob {
    regex: Regex,
    whole_path: bool,
}

impl Glob {
    /// Compiles a glob: `*` and `?` stay within a component, `**` does not, `{a,b}` is either, `[a-z]` one of.
    ///
    /// # Errors
    /// What is wrong with it, for the model.
    pub fn new(text: &str) -> Result<Glob, String> {
        let shown = crate::clip::line(text, 120);
        let clean = text.trim_start_matches("./");
        if clean.is_empty() || clean.len() > 256 {
            return Err(format!("{shown:?} is no glob: it has from 1 to 256 bytes"));
        }
        // A folder by its name means what lies in it.
        let clean = match clean.strip_suffix('/') {
            Some(folder) => format!("{folder}/**"),
            None => clean.to_owned(),
        };
        let regex = Regex::new(&format!("^(?:{})$", translate(&clean)))
            .map_err(|error| format!("{shown:?} is no glob: {error}"))?;
        Ok(Glob {
            regex,
            whole_path: clean.contains('/'),
        })
    }

    /// Whether a path of the view matches.
    pub fn matches(&self, path: &str) -> bool {
        let subject = if self.whole_path {
            path
        } else {
            path.rsplit('/').next().unwrap_or(path)
        };
        self.regex.is_match(subject)
    }
}

fn translate(glob: &str) -> String {
    let mut out = String::new();
    let mut rest = glob;
    let mut alternatives = 0u32;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            _ if rest.starts_with("**/") => {
                out.push_str("(?:.*/)?");
                taken = 3;
            }
            _ if rest.starts_with("**") => {
                out.push_str(".*");
                taken = 2;
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '{' => {
                alternatives += 1;
                out.push_str("(?:");
            }
            ',' if alternatives > 0 => out.push('|'),
            '}' if alternatives > 0 => {
                alternatives -= 1;
                out.push(')');
            }
            '[' => match class(rest) {
                Some((class, length)) => {
                    out.push_str(&class);
                    taken = length;
                }
                None => out.push_str("\\["),
            },
            c => out.push_str(&regex_lite::escape(c.encode_utf8(&mut [0; 4]))),
        }
        rest = &rest[taken..];
    }
    out
}

/// `[abc]`, `[!a-z]`: its expression and its length in the glob.
fn class(rest: &str) -> Option<(String, usize)> {
    let end = 1 + rest.get(1..)?.find(']')?;
    let inner = &rest[1..end];
    let (sign, inner) = match inner.strip_prefix(['!', '^']) {
        Some(inner) => ("^", inner),
        None => ("", inner),
    };
    if inner.is_empty() {
        return None;
    }
    let members: String = inner
        .chars()
        .flat_map(|c| {
            let escape = matches!(c, '\\' | '[' | '^' | '&' | '~').then_some('\\');
            escape.into_iter().chain([c])
        })
        .collect();
    Some((format!("[{sign}{members}]"), end + 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs_match_as_people_expect() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("*.rs", &["a.rs", "src/deep/b.rs"], &["a.rss", "a.py"]),
            ("src/*.rs", &["src/a.rs"], &["src/deep/a.rs", "a.rs"]),
            ("src/**/*.rs", &["src/a.rs", "src/x/y/a.rs"], &["lib/a.rs"]),
            (
                "**/test_*.py",
                &["test_a.py", "t/u/test_b.py"],
                &["t/a_test.py"],
            ),
            ("src/**", &["src/a", "src/b/c"], &["srcs/a"]),
            ("src/", &["src/a", "src/b/c"], &["src"]),
            ("./src/a.rs", &["src/a.rs"], &["src/aXrs"]),
            ("*.{js,ts}", &["a.js", "b/c.ts"], &["a.jsx"]),
            ("[a-c]?.txt", &["b1.txt"], &["d1.txt", "a.txt"]),
            ("[!a]*", &["b"], &["a"]),
            ("a+(b).c", &["a+(b).c"], &["aab.c"]),
            ("a[b", &["a[b"], &["ab"]),
        ];
        for (glob, yes, no) in table {
            let compiled = Glob::new(glob).unwrap();
            for path in *yes {
                assert!(compiled.matches(path), "{glob} and {path}");
            }
            for path in *no {
                assert!(!compiled.matches(path), "{glob} and {path}");
            }
        }
        assert!(Glob::new("").is_err() && Glob::new("{a").is_err());
    }

    proptest! {
        #[test]
        fn a_path_matches_itself_and_no_glob_panics(path in "[a-z.+()$^|]{1,8}(/[a-z.]{1,8}){0,3}", noise in "[\\[\\]{},*?!^a-c/\\\\é-]{0,20}") {
            let glob = Glob::new(&path);
            if !path.starts_with("./") {
                prop_assert!(glob.is_ok_and(|glob| glob.matches(&path)), "{path}");
            }
            if let Ok(glob) = Glob::new(&noise) {
                glob.matches(&path);
            }
        }
    }
}
