//! Argument patterns of declared programs.

use serde::{Deserialize, Serialize};

/// One allowed form of an argument list.
///
/// Each element is a literal, `*` (exactly one argument that does not begin with `-`) or, last, `**` (any rest).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ArgumentPattern(Vec<String>);

impl ArgumentPattern {
    /// Takes a pattern.
    ///
    /// # Errors
    /// `**` anywhere but last, and control characters.
    pub fn new(elements: Vec<String>) -> Result<ArgumentPattern, &'static str> {
        if elements.iter().rev().skip(1).any(|element| element == "**") {
            return Err("`**` stands last only");
        }
        if elements
            .iter()
            .any(|element| element.chars().any(char::is_control))
        {
            return Err("an argument has no control character");
        }
        Ok(ArgumentPattern(elements))
    }

    /// Whether the arguments have this form.
    pub fn matches(&self, args: &[String]) -> bool {
        let (fixed, open) = match self.0.split_last() {
            Some((last, rest)) if last == "**" => (rest, true),
            _ => (&self.0[..], false),
        };
        if args.len() < fixed.len() || (!open && args.len() != fixed.len()) {
            return false;
        }
        fixed.iter().zip(args).all(|(element, arg)| {
            if element == "*" {
                !arg.starts_with('-')
            } else {
                element == arg
            }
        }) && args.iter().all(|arg| !arg.contains('\0'))
    }

    /// Whether every argument list of the other form has this form as well.
    pub fn holds(&self, other: &ArgumentPattern) -> bool {
        let parts = |pattern: &ArgumentPattern| match pattern.0.split_last() {
            Some((last, rest)) if last == "**" => (rest.to_vec(), true),
            _ => (pattern.0.clone(), false),
        };
        let ((fixed, open), (others, other_open)) = (parts(self), parts(other));
        let length = if open {
            others.len() >= fixed.len()
        } else {
            !other_open && others.len() == fixed.len()
        };
        length
            && fixed
                .iter()
                .zip(&others)
                .all(|(one, other)| one == other || (one == "*" && !other.starts_with('-')))
    }

    /// The elements.
    pub fn elements(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    fn check(pattern: &[&str], args: &[&str], expected: bool) {
        let pattern =
            ArgumentPattern::new(pattern.iter().map(|s| (*s).to_owned()).collect()).unwrap();
        let args: Vec<String> = args.iter().map(|s| (*s).to_owned()).collect();
        assert_eq!(pattern.matches(&args), expected, "{pattern:?} {args:?}");
    }

    #[test]
    fn a_form_holds_another_when_it_takes_all_its_lists() {
        let pattern = |elements: &[&str]| {
            ArgumentPattern::new(elements.iter().map(|s| (*s).to_owned()).collect()).unwrap()
        };
        for (one, other, expected) in [
            (&["**"][..], &["a", "*"][..], true),
            (&["**"], &["**"], true),
            (&["a", "**"], &["a"], true),
            (&["a", "**"], &["a", "-b", "**"], true),
            (&["a", "**"], &["**"], false),
            (&["a", "*"], &["a", "b"], true),
            (&["a", "*"], &["a", "-b"], false),
            (&["a", "*"], &["a", "**"], false),
            (&["a", "b"], &["a", "*"], false),
            (&[], &[], true),
        ] {
            assert_eq!(
                pattern(one).holds(&pattern(other)),
                expected,
                "{one:?} {other:?}"
            );
        }
    }

    #[test]
    fn literals_single_and_rest() {
        check(&[], &[], true);
        check(&[], &["a"], false);
        check(&["metadata", "--x=1"], &["metadata", "--x=1"], true);
        check(&["metadata"], &["metadata", "--config=evil"], false);
        check(&["show", "*"], &["show", "a"], true);
        check(&["show", "*"], &["show", "--exec=evil"], false);
        check(&["show", "*"], &["show"], false);
        check(&["test", "**"], &["test"], true);
        check(&["test", "**"], &["test", "-x", "y"], true);
        check(&["test", "**"], &["build"], false);
        assert!(ArgumentPattern::new(vec!["**".into(), "a".into()]).is_err());
    }
}
