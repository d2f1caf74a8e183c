//! Readings of a text: what it says once separators are left out or escapes are undone, byte by byte.

/// The longest escape that is undone: `&#x000041;`.
const ESCAPE_BYTES_MAX: usize = 10;

/// So many bytes may lie between two that belong together: a line break in UTF-16, with what belongs to its neighbours.
const BETWEEN_MAX: usize = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Without NUL, CR and LF: ASCII in UTF-16 or UTF-32, and wrapped base64.
    Joined,
    /// `%41`.
    Percent,
    /// `\u0041`, `\/`.
    Json,
    /// `&#65;`, `&#x41;`, `&amp;`.
    Html,
}

/// One way to read a text.
#[derive(Debug)]
pub(crate) struct Reading {
    kind: Kind,
    /// The beginning of what may become an escape; or bytes that were left out, which only count.
    pending: [u8; ESCAPE_BYTES_MAX],
    count: usize,
}

/// What the beginning of an escape is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    /// Whole: it stands for this byte.
    For(u8),
    /// May become one.
    Open,
    /// None.
    Not,
}

/// A byte of a reading, and where in the text it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) byte: u8,
    /// With how many bytes from the end of what was taken so far it begins.
    pub(crate) back: usize,
    /// How many bytes stand for it.
    pub(crate) length: usize,
}

impl Read {
    /// The byte that was just taken, as it is.
    fn plain(byte: u8) -> Read {
        Read {
            byte,
            back: 1,
            length: 1,
        }
    }
}

/// Every way to read a text.
pub(crate) fn readings() -> [Reading; 4] {
    [Kind::Joined, Kind::Percent, Kind::Json, Kind::Html].map(|kind| Reading {
        kind,
        pending: [0; ESCAPE_BYTES_MAX],
        count: 0,
    })
}

impl Reading {
    /// Whether an escape of any reading begins with this byte.
    pub(crate) fn opens(byte: u8) -> bool {
        matches!(byte, b'%' | b'\\' | b'&')
    }

    /// Whether it waits for nothing.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.count == 0
    }

    /// The most bytes of the text that `read` bytes of the reading, and what is pending, can have come from.
    pub(crate) fn bytes_max(&self, read: usize) -> usize {
        let each = match self.kind {
            Kind::Joined => BETWEEN_MAX + 1,
            Kind::Percent => 3,
            Kind::Json => 6,
            Kind::Html => ESCAPE_BYTES_MAX,
        };
        match (self.kind, read) {
            // What was left out before anything was read belongs to nothing.
            (Kind::Joined, 0) => 0,
            _ => read * each + self.count,
        }
    }

    /// Takes the next byte of the text, and gives none, one or several of the reading.
    pub(crate) fn read(&mut self, byte: u8, mut give: impl FnMut(Read)) {
        if self.kind == Kind::Joined {
            return self.join(byte, give);
        }
        if self.count == 0 && byte != self.opening() {
            return give(Read::plain(byte));
        }
        self.pending[self.count] = byte;
        self.count += 1;
        while self.count > 0 {
            match self.escape() {
                Escape::Open => return,
                Escape::For(byte) => {
                    let length = std::mem::take(&mut self.count);
                    give(Read {
                        byte,
                        back: length,
                        length,
                    });
                }
                Escape::Not => {
                    give(Read {
                        byte: self.pending[0],
                        back: self.count,
                        length: 1,
                    });
                    self.pending.copy_within(1..self.count, 0);
                    self.count -= 1;
                }
            }
        }
    }

    fn join(&mut self, byte: u8, mut give: impl FnMut(Read)) {
        let between = matches!(byte, 0 | b'\r' | b'\n');
        if between && self.count < BETWEEN_MAX {
            self.count += 1;
        } else {
            self.count = if between { self.count } else { 0 };
            give(Read::plain(byte));
        }
    }

    fn opening(&self) -> u8 {
        match self.kind {
            Kind::Json => b'\\',
            Kind::Html => b'&',
            Kind::Percent | Kind::Joined => b'%',
        }
    }

    fn escape(&self) -> Escape {
        let text = &self.pending[..self.count];
        if text[0] != self.opening() {
            return Escape::Not;
        }
        let escape = match self.kind {
            Kind::Percent | Kind::Joined => percent(&text[1..]),
            Kind::Json => json(&text[1..]),
            Kind::Html => html(&text[1..]),
        };
        match escape {
            Escape::Open if self.count == ESCAPE_BYTES_MAX => Escape::Not,
            escape => escape,
        }
    }
}

fn percent(text: &[u8]) -> Escape {
    number(text, 16, 2)
}

fn json(text: &[u8]) -> Escape {
    match text {
        [] => Escape::Open,
        [b'u', digits @ ..] => number(digits, 16, 4),
        [b'x', digits @ ..] => number(digits, 16, 2),
        [byte @ (b'"' | b'\\' | b'/' | b'\''), ..] => Escape::For(*byte),
        _ => Escape::Not,
    }
}

fn html(text: &[u8]) -> Escape {
    const NAMED: &[(&[u8], u8)] = &[
        (b"amp", b'&'),
        (b"lt", b'<'),
        (b"gt", b'>'),
        (b"quot", b'"'),
        (b"apos", b'\''),
    ];
    let Some(name) = text.strip_suffix(b";") else {
        let more = text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'#');
        return if more { Escape::Open } else { Escape::Not };
    };
    match name {
        [b'#', b'x' | b'X', digits @ ..] => number(digits, 16, digits.len()),
        [b'#', digits @ ..] => number(digits, 10, digits.len()),
        _ => NAMED
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(Escape::Not, |(_, byte)| Escape::For(*byte)),
    }
}

/// A number of so many digits that stands for an ASCII character; others stand for what is in no secret.
fn number(digits: &[u8], radix: u32, count: usize) -> Escape {
    let value = digits.iter().try_fold(0_u32, |value, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        Some(value.saturating_mul(radix).saturating_add(digit))
    });
    match value {
        None => Escape::Not,
        Some(_) if digits.len() < count => Escape::Open,
        Some(_) if count == 0 => Escape::Not,
        Some(value) => Escape::For(u8::try_from(value).unwrap_or(u8::MAX)),
    }
}
