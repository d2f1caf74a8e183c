//! The audit trail as whoever may write its files leaves it: what is called whole is whole to a second reader, and stays so.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use audit::{Anchor, Decided, Decision, Entry, Filter, Trail, Verified};
use flow::id::Digest;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use tempfile::TempDir;

use crate::memory;

/// Ends the text of a file of the trail.
const FILE_END: u8 = 0x0c;

/// Between a line's content and its end.
const HASH: &str = ",\"hash\":\"";
const END: &str = "\"}";

struct House {
    directory: TempDir,
    written: usize,
}

/// Two bytes choose the size of files and a bit to flip; then lines. Those that begin with `+` are content that gets its true hash: the
/// fuzzer need not find that. `@N`, `@P` and `@S` in them are the number, the hash before and a seal of what lies between, as they should be.
pub(crate) fn trail(data: &[u8]) {
    thread_local! {
        static HOUSE: RefCell<Option<House>> = const { RefCell::new(None) };
    }
    let Some((choice, text)) = data.split_first_chunk::<2>() else {
        return;
    };
    HOUSE.with_borrow_mut(|house| {
        let house = house.get_or_insert_with(|| House {
            directory: tempfile::tempdir_in(memory()).unwrap(),
            written: 0,
        });
        let made = Made::of(text);
        house.write(&made);
        let file_bytes_max = if choice[0] % 4 == 0 { 200 } else { 1 << 20 };
        let trail = Trail::with_files_of(&house.path(), file_bytes_max).unwrap();
        let listing = trail.entries(&Filter::default()).unwrap();
        let lines: usize = made.files.iter().map(|file| lines(file).count()).sum();
        assert_eq!(listing.entries.len() + listing.unreadable.len(), lines);
        let Ok(verified) = trail.verify(&[]) else {
            return;
        };
        let whole_to = second(&made.files, &verified);
        let numbers: BTreeSet<u64> = listing.entries.iter().map(|one| one.number).collect();
        assert!(listing.unreadable.len() + numbers.len() >= verified.entries as usize);
        house.flip(&made, whole_to, usize::from(choice[1]), &trail);
        house.write(&made);
        grows(&trail, &verified);
    });
}

/// A trail that holds can be appended to, and holds then.
fn grows(trail: &Trail, before: &Verified) {
    let entry = Entry::Decision(Decision {
        by: "a person".into(),
        run: None,
        decided: Decided::Resume,
    });
    let number = trail.append(1, entry).unwrap();
    let after = trail.verify(std::slice::from_ref(&before.last)).unwrap();
    assert_eq!((after.entries, after.last.number), (number, number));
    assert_eq!(after.torn, before.torn, "what was torn is sealed");
    assert!((before.entries + 1..=before.entries + 2).contains(&number));
}

/// Walks the chain with another reader of JSON; gives the number of whole bytes in all files together.
fn second(files: &[Vec<u8>], verified: &Verified) -> usize {
    let (mut last, mut whole_to, mut at) = (start(), 0, 0);
    for line in files.iter().flat_map(|file| lines(file)) {
        at += line.len();
        let Some(content) = line.strip_suffix(b"\n").and_then(hashed) else {
            continue;
        };
        let (Ends(number, previous), hash) = content;
        assert_eq!((number, &previous), (last.number + 1, &last.hash));
        last = Anchor { number, hash };
        whole_to = at;
    }
    assert_eq!((last.number, &last), (verified.entries, &verified.last));
    whole_to
}

/// The content of a line and its hash, if it is the true one, and what it says of its place.
fn hashed(line: &[u8]) -> Option<(Ends, Digest)> {
    let text = std::str::from_utf8(line).ok()?;
    let (content, hash) = text.strip_suffix(END)?.rsplit_once(HASH)?;
    let content = format!("{content}}}");
    let digest = Digest::of(content.as_bytes());
    let ends = serde_json::from_str(&content).ok();
    ends.zip((digest.to_string() == hash).then_some(digest))
}

/// Number and previous hash of a line, each said once.
struct Ends(u64, Digest);

impl<'de> Deserialize<'de> for Ends {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Ends, D::Error> {
        from.deserialize_map(Visit)
    }
}

struct Visit;

impl<'de> Visitor<'de> for Visit {
    type Value = Ends;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ends, A::Error> {
        let (mut numbers, mut previous) = (Vec::new(), Vec::new());
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "number" => numbers.push(map.next_value::<Value>()?),
                "previous" => previous.push(map.next_value::<Value>()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let ends = || match (&numbers[..], &previous[..]) {
            ([number], [previous]) => {
                Some(Ends(number.as_u64()?, previous.as_str()?.parse().ok()?))
            }
            _ => None,
        };
        ends().ok_or_else(|| A::Error::custom("no line"))
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
}

fn start() -> Anchor {
    let zeros = format!("0:sha256:{}", "0".repeat(64));
    zeros.parse().unwrap()
}

impl House {
    fn path(&self) -> PathBuf {
        self.directory.path().join("audit")
    }

    fn write(&mut self, made: &Made) {
        let path = self.path();
        std::fs::create_dir_all(&path).unwrap();
        // An append may have begun one file more.
        for number in made.files.len()..=self.written + 1 {
            let _ = std::fs::remove_file(path.join(name(number)));
        }
        for (number, text) in made.files.iter().enumerate() {
            std::fs::write(path.join(name(number)), text).unwrap();
        }
        self.written = made.files.len();
        let head = format!("{:020}:{}\n", made.last.number, made.last.hash);
        std::fs::write(self.directory.path().join("audit.head"), head).unwrap();
    }

    /// One bit of what the head vouches for, flipped, is seen.
    fn flip(&self, made: &Made, whole_to: usize, seed: usize, trail: &Trail) {
        if whole_to == 0 {
            return;
        }
        let mut at = seed * 37 % whole_to;
        for (number, text) in made.files.iter().enumerate() {
            if at < text.len() {
                let mut flipped = text.clone();
                flipped[at] ^= 1 << (seed % 8);
                std::fs::write(self.path().join(name(number)), flipped).unwrap();
                assert!(trail.verify(&[]).is_err(), "byte {at} of {number}");
                return;
            }
            at -= text.len();
        }
    }
}

fn name(number: usize) -> String {
    format!("{:06}.jsonl", number + 1)
}

/// The files that an input stands for.
struct Made {
    files: Vec<Vec<u8>>,
    /// What the head names: the last line that got a hash.
    last: Anchor,
    /// Where, in the last file, the lines begin that have none.
    torn_from: usize,
}

impl Made {
    fn of(text: &[u8]) -> Made {
        let mut made = Made {
            files: Vec::new(),
            last: start(),
            torn_from: 0,
        };
        for file in text.split(|byte| *byte == FILE_END).take(3) {
            made.files.push(Vec::new());
            made.torn_from = 0;
            for line in lines(file) {
                made.line(line);
            }
        }
        made
    }

    fn line(&mut self, line: &[u8]) {
        let sealed = line.strip_suffix(b"\n").and_then(|line| self.sealed(line));
        let Some(file) = self.files.last_mut() else {
            return;
        };
        file.extend_from_slice(sealed.as_deref().map_or(line, str::as_bytes));
        if sealed.is_some() {
            self.torn_from = file.len();
        }
    }

    fn sealed(&mut self, line: &[u8]) -> Option<String> {
        let content = std::str::from_utf8(line.strip_prefix(b"+")?).ok()?;
        let torn = &self.files.last()?[self.torn_from..];
        let torn = torn.strip_suffix(b"\n").unwrap_or(torn);
        let seal = format!(
            "\"kind\":\"sealed\",\"bytes\":{},\"digest\":\"{}\"",
            torn.len(),
            Digest::of(torn)
        );
        let number = self.last.number + 1;
        let content = content
            .replace("@N", &number.to_string())
            .replace("@P", &self.last.hash.to_string())
            .replace("@S", &seal);
        let hash = Digest::of(content.as_bytes());
        let line = format!("{}{HASH}{hash}{END}\n", content.strip_suffix('}')?);
        self.last = Anchor { number, hash };
        Some(line)
    }
}
