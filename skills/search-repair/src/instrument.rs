//! Rust programs tell which functions the failing tests enter, by a line that each is made to print for one run.

use std::collections::BTreeSet;

use crate::language::Language;
use crate::lexer::{Kind, Token, lex};
use crate::localise::{Sources, code_and_tests};

/// Where a function can be made to tell: after the brace that opens its body.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// The file.
    pub path: String,
    /// Byte offset after the brace.
    at: usize,
    /// The line of the brace, where a compiler would complain.
    pub line: u32,
    first: u32,
    last: u32,
}

/// The functions of the code that is not test code; constant ones cannot print.
pub fn probes(sources: &Sources) -> Vec<Probe> {
    let (code, _) = code_and_tests(sources);
    let mut found = BTreeSet::new();
    for region in code
        .iter()
        .filter(|region| Language::of(&region.path) == Some(Language::Rust))
    {
        let tokens = lex(&sources[&region.path], Language::Rust);
        let keyword = tokens.iter().position(|token| {
            token.text == "fn" && token.kind == Kind::Word && token.line == region.first
        });
        let open = keyword
            .filter(|at| !is_const(&tokens[..*at]))
            .and_then(|at| body(&tokens[at..]));
        if let Some(open) = open {
            found.insert(Probe {
                path: region.path.clone(),
                at: open.end(),
                line: open.line,
                first: region.first,
                last: region.last,
            });
        }
    }
    found.into_iter().collect()
}

fn is_const(before: &[Token<'_>]) -> bool {
    let qualifiers = before.iter().rev().take(4);
    qualifiers
        .take_while(|token| {
            matches!(token.text, "const" | "unsafe" | "extern" | "async" | "pub")
                || token.kind == Kind::Text
        })
        .any(|token| token.text == "const")
}

/// The brace that opens a function's body; `None` when it has none.
fn body<'a, 'b>(tokens: &'b [Token<'a>]) -> Option<&'b Token<'a>> {
    let mut depth = 0i32;
    for token in tokens {
        match token.text {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "{" if depth == 0 => return Some(token),
            ";" if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The text of a file whose functions tell that they are entered, once each. Lines stay where they are.
pub fn telling(path: &str, source: &str, probes: &[Probe]) -> String {
    let mut out = String::with_capacity(source.len() * 2);
    let mut from = 0;
    for probe in probes.iter().filter(|probe| probe.path == path) {
        out.push_str(&source[from..probe.at]);
        out.push_str(&format!(
            " {{ static T: ::std::sync::atomic::AtomicBool = ::std::sync::atomic::AtomicBool::new(false); if !T.swap(true, ::std::sync::atomic::Ordering::Relaxed) {{ ::std::eprintln!(\"\\nmoat-executed {path} {}-{}\"); }} }} ",
            probe.first, probe.last
        ));
        from = probe.at;
    }
    out.push_str(&source[from..]);
    out
}

/// The probes that a compiler did not complain about: where its message names a line of none, the file's all go.
pub fn accepted(probes: &[Probe], output: &str) -> Vec<Probe> {
    let places: BTreeSet<(&str, u32)> = output
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--> "))
        .filter_map(|place| {
            let mut parts = place.rsplitn(3, ':').skip(1);
            let line = parts.next()?.parse().ok()?;
            Some((parts.next()?, line))
        })
        .collect();
    let known = |(path, line): &(&str, u32)| {
        probes
            .iter()
            .any(|probe| path.ends_with(&probe.path) && probe.line == *line)
    };
    let hit = |probe: &Probe| {
        places
            .iter()
            .any(|place| place.0.ends_with(&probe.path) && (probe.line == place.1 || !known(place)))
    };
    probes.iter().filter(|probe| !hit(probe)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executed::Executed;

    fn sources() -> Sources {
        let text = "pub fn a(f: &dyn Fn(u8) -> [u8; 2]) -> u8 {\n    1\n}\npub const fn b() -> u8 {\n    2\n}\ntrait T {\n    fn c(&self);\n    fn d(&self) -> u8\n    where Self: Sized,\n    {\n        3\n    }\n}\n#[test]\nfn t() {\n}\n";
        Sources::from([("src/lib.rs".to_owned(), text.to_owned())])
    }

    #[test]
    fn functions_with_a_body_tell_and_lines_stay() {
        let sources = sources();
        let probes = probes(&sources);
        let lines: Vec<u32> = probes.iter().map(|probe| probe.line).collect();
        assert_eq!(
            lines,
            [1, 11],
            "no constant one, none without a body, no test"
        );
        let text = telling("src/lib.rs", &sources["src/lib.rs"], &probes);
        assert_eq!(text.lines().count(), sources["src/lib.rs"].lines().count());
        assert!(
            text.lines()
                .nth(10)
                .is_some_and(|line| line.starts_with("    { {")),
            "{text}"
        );
        assert!(text.contains("moat-executed src/lib.rs 9-13"));
        let told = Executed::read("\nmoat-executed src/lib.rs 9-13\n");
        assert!(told.enters("src/lib.rs", 9, 13) && !told.enters("src/lib.rs", 1, 3));
    }

    #[test]
    fn what_the_compiler_refuses_is_left_out() {
        let probes = probes(&sources());
        let lines = |output: &str| -> Vec<u32> {
            accepted(&probes, output)
                .iter()
                .map(|probe| probe.line)
                .collect()
        };
        assert_eq!(lines("error[E0433]: x\n  --> src/lib.rs:11:7\n"), [1]);
        assert_eq!(
            lines("error: x\n  --> src/lib.rs:2:7\n"),
            [0u32; 0],
            "nobody knows which"
        );
        assert_eq!(lines("error: x\n  --> src/other.rs:11:7\n"), [1, 11]);
    }
}
