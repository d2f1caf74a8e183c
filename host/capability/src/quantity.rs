//! Sizes and spans of time as people write them: `128MiB`, `60s`.

/// A text that is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {kind}: {rule}")]
pub struct InvalidQuantity {
    /// `size` or `time`.
    pub kind: &'static str,
    /// The text, cut at 40 characters.
    pub text: String,
    /// The form that is wanted.
    pub rule: &'static str,
}

const SIZES: [(&str, u64); 4] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("B", 1),
];
const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Reads a size in bytes: a whole number and `B`, `KiB`, `MiB` or `GiB`.
///
/// # Errors
/// Any other form, and more than fits.
pub fn bytes(text: &str) -> Result<u64, InvalidQuantity> {
    read(
        "size",
        "a whole number and B, KiB, MiB or GiB, such as 128MiB",
        text,
        &SIZES,
    )
}

/// Reads a span of time in milliseconds: a whole number and `ms`, `s`, `m` or `h`.
///
/// # Errors
/// Any other form, and more than fits.
pub fn millis(text: &str) -> Result<u64, InvalidQuantity> {
    read(
        "time",
        "a whole number and ms, s, m or h, such as 60s",
        text,
        &TIMES,
    )
}

/// A size as people write it: the largest unit that leaves a whole number.
pub fn of_bytes(bytes: u64) -> String {
    write(bytes, &SIZES)
}

/// A span of time in milliseconds as people write it: the largest unit that leaves a whole number.
pub fn of_millis(ms: u64) -> String {
    write(ms, &TIMES)
}

fn write(value: u64, units: &[(&str, u64)]) -> String {
    let whole = units
        .iter()
        .filter(|(_, factor)| value.is_multiple_of(*factor));
    match whole.max_by_key(|(_, factor)| *factor) {
        Some((unit, factor)) if value > 0 => format!("{}{unit}", value / factor),
        // No unit is larger than another for nothing.
        _ => format!(
            "{value}{}",
            units
                .iter()
                .min_by_key(|(_, factor)| *factor)
                .map_or("", |(unit, _)| unit)
        ),
    }
}

fn read(
    kind: &'static str,
    rule: &'static str,
    text: &str,
    units: &[(&str, u64)],
) -> Result<u64, InvalidQuantity> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number = (!number.is_empty())
        .then(|| number.parse::<u64>().ok())
        .flatten();
    let factor = units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor);
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| InvalidQuantity {
            kind,
            text: text.chars().take(40).collect(),
            rule,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for value in [
            0,
            1,
            999,
            1000,
            1024,
            60_000,
            90_000,
            3_600_000,
            1 << 20,
            3 << 29,
            u64::MAX,
        ] {
            assert_eq!(bytes(&of_bytes(value)), Ok(value));
            assert_eq!(millis(&of_millis(value)), Ok(value));
        }
        assert_eq!(
            (of_bytes(128 << 20), of_millis(90_000)),
            ("128MiB".into(), "90s".into())
        );
    }

    #[test]
    fn quantities_have_one_form() {
        assert_eq!(bytes("128MiB"), Ok(128 << 20));
        assert_eq!(millis("60s"), Ok(60_000));
        for wrong in [
            "",
            "1",
            "MiB",
            "-1s",
            "1.5s",
            "1 s",
            "1MB",
            "18446744073709551616B",
            "18446744073709551615KiB",
            "１s",
            "1S",
        ] {
            assert!(bytes(wrong).is_err() && millis(wrong).is_err(), "{wrong}");
        }
    }
}
