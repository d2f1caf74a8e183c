//! Verifying: every line from the first, and the head.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;

use flow::id::Digest;

use crate::chain::{Trail, cut_off, head_is_gone};
use crate::entry::{Entry, Sealed};
use crate::head::Anchor;
use crate::{Broken, TrailError, files, line};

/// A line of a file of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name.
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        Ok(())
    }
}

/// A trail whose every line is as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its lines.
    pub entries: u64,
    /// Its files.
    pub files: u64,
    /// The last line: kept elsewhere, it shows later whether the trail was written anew.
    pub last: Anchor,
    /// Lines that a crash cut off; each but one at the very end is followed by the entry that says so.
    pub torn: Vec<Place>,
}

/// How far the trail goes while others append: a file and how many bytes of it.
pub(crate) type Extent = Vec<(u32, u64)>;

impl Trail {
    /// Checks the whole trail, its head, and that it goes through these places.
    ///
    /// # Errors
    /// [`TrailError::Broken`] with the first place that does not hold; [`TrailError`] when it cannot be read.
    pub fn verify(&self, anchors: &[Anchor]) -> Result<Verified, TrailError> {
        let (extent, head) = {
            let _held = self.hold()?;
            (self.extent()?, self.head()?)
        };
        let mut walk = Walk::new(head.iter().chain(anchors));
        for (at, (number, bytes)) in extent.iter().enumerate() {
            walk.file = files::name(*number);
            if *number as usize != at + 1 {
                let missing = files::name(at as u32 + 1);
                return Err(walk.broken(0, format!("{missing} is missing")).into());
            }
            if *bytes > files::FILE_BYTES_MAX {
                let why = "it is larger than any file of the trail".to_owned();
                return Err(walk.broken(0, why).into());
            }
            let text = self.read(*number, *bytes)?;
            walk.lines(&text, at + 1 == extent.len())?;
        }
        let head = head.ok_or_else(|| head_is_gone(self))?;
        walk.end(&head, anchors, extent.len() as u64)
            .map_err(TrailError::from)
    }

    pub(crate) fn extent(&self) -> Result<Extent, TrailError> {
        let failed = |error: &std::io::Error| TrailError::of(self.directory(), error);
        let mut extent = Extent::new();
        for number in files::numbers(self.directory()).map_err(|error| failed(&error))? {
            let path = files::path(self.directory(), number);
            let bytes = std::fs::metadata(&path).map_err(|error| failed(&error))?;
            extent.push((number, bytes.len()));
        }
        Ok(extent)
    }

    pub(crate) fn read(&self, number: u32, bytes: u64) -> Result<Vec<u8>, TrailError> {
        let path = files::path(self.directory(), number);
        let mut text = Vec::new();
        files::open(&path)
            .and_then(|file| file.take(bytes).read_to_end(&mut text))
            .map_err(|error| TrailError::of(&path, &error))?;
        Ok(text)
    }
}

/// Bytes that are no line, from this line on.
struct Junk {
    line: u64,
    from: usize,
    upto: usize,
}

/// On the way through the lines.
struct Walk {
    file: String,
    last: Anchor,
    /// Hashes at the numbers that head and anchors name, as found.
    wanted: BTreeMap<u64, Option<Digest>>,
    torn: Vec<Place>,
    last_line: u64,
}

impl Walk {
    fn new<'a>(anchors: impl Iterator<Item = &'a Anchor>) -> Walk {
        let start = Anchor::start();
        let mut wanted: BTreeMap<_, _> = anchors.map(|anchor| (anchor.number, None)).collect();
        wanted.insert(start.number, Some(start.hash.clone()));
        Walk {
            file: files::name(1),
            last: start,
            wanted,
            torn: Vec::new(),
            last_line: 0,
        }
    }

    fn broken(&self, line: u64, why: impl Into<String>) -> Broken {
        let place = Place {
            file: self.file.clone(),
            line,
        };
        Broken {
            place,
            why: why.into(),
        }
    }

    fn lines(&mut self, text: &[u8], is_last_file: bool) -> Result<(), Broken> {
        let mut junk: Option<Junk> = None;
        let (mut from, mut number) = (0, 0);
        while from < text.len() {
            number += 1;
            let end = text[from..].iter().position(|byte| *byte == b'\n');
            let upto = end.map_or(text.len(), |end| from + end);
            let one = &text[from..upto];
            // A line without its break was never acknowledged, whatever it holds.
            match line::link(one).filter(|_| end.is_some()) {
                Some(link) => {
                    let (given, expected) = ((link.number, link.previous), self.last.number + 1);
                    if given != (expected, self.last.hash.clone()) {
                        if let Some(junk) = junk {
                            return Err(self.changed(junk.line));
                        }
                        let why = format!(
                            "it does not follow the line before: entry {expected} should be here, and this is entry {}",
                            given.0
                        );
                        return Err(self.broken(number, why));
                    }
                    self.sealed(one, junk.take(), text, number)?;
                    self.pass(Anchor {
                        number: link.number,
                        hash: link.hash,
                    });
                }
                None => match &mut junk {
                    Some(junk) => junk.upto = upto,
                    None => {
                        junk = Some(Junk {
                            line: number,
                            from,
                            upto,
                        });
                    }
                },
            }
            from = upto + 1;
        }
        self.last_line = number;
        match junk {
            Some(junk) if is_last_file => {
                self.torn.push(Place {
                    file: self.file.clone(),
                    line: junk.line,
                });
                Ok(())
            }
            Some(junk) => Err(self.changed(junk.line)),
            None => Ok(()),
        }
    }

    fn changed(&self, line: u64) -> Broken {
        self.broken(line, "its hash is not that of its text: it was changed")
    }

    /// What is no line must be told of by the next, and only that.
    fn sealed(
        &mut self,
        one: &[u8],
        junk: Option<Junk>,
        text: &[u8],
        number: u64,
    ) -> Result<(), Broken> {
        let seal = line::entry(one).and_then(|recorded| match recorded.entry {
            Entry::Sealed(sealed) => Some(sealed),
            _ => None,
        });
        let found = junk.as_ref().map(|junk| {
            let bytes = &text[junk.from..junk.upto];
            Sealed {
                bytes: bytes.len() as u64,
                digest: Digest::of(bytes),
            }
        });
        match (seal == found, junk) {
            (true, Some(junk)) => self.torn.push(Place {
                file: self.file.clone(),
                line: junk.line,
            }),
            (true, None) => {}
            (false, Some(junk)) => return Err(self.changed(junk.line)),
            (false, None) => {
                return Err(self.broken(number, "it seals a torn line, and there is none"));
            }
        }
        Ok(())
    }

    fn pass(&mut self, anchor: Anchor) {
        if let Some(found) = self.wanted.get_mut(&anchor.number) {
            *found = Some(anchor.hash.clone());
        }
        self.last = anchor;
    }

    fn end(mut self, head: &Anchor, anchors: &[Anchor], files: u64) -> Result<Verified, Broken> {
        for anchor in std::iter::once(head).chain(anchors) {
            let found = self.wanted.get(&anchor.number).cloned().flatten();
            if found.as_ref() == Some(&anchor.hash) {
                continue;
            }
            // A last line that is none, where the head knows of one, was changed and not torn.
            if let Some(place) = self.torn.pop().filter(|_| found.is_none()) {
                return Err(Broken {
                    why: self.changed(0).why,
                    place,
                });
            }
            let place = Place {
                file: self.file.clone(),
                line: self.last_line,
            };
            if anchor == head {
                return Err(cut_off(place, head, self.last.number));
            }
            let why = match found {
                Some(_) => format!(
                    "entry {} is another one than the one that was kept",
                    anchor.number
                ),
                None => format!(
                    "there is no entry {}: what came after entry {} was cut off",
                    anchor.number, self.last.number
                ),
            };
            return Err(Broken { place, why });
        }
        Ok(Verified {
            entries: self.last.number,
            files,
            last: self.last,
            torn: self.torn,
        })
    }
}
