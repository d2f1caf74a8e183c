//! Finding secrets in what passes by, whatever they are encoded in and however it is cut into pieces.
//!
//! Needles are a secret as it is, in both cases of hex, and in both alphabets of base64 at its three alignments. The text is looked
//! through in four readings at once: without the bytes that UTF-16 and line breaks put between, and with the escapes of
//! percent-encoding, JSON and HTML undone. What could be the beginning of a secret is held back until it is known not to be.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use zeroize::{Zeroize as _, Zeroizing};

use crate::reading::{Reading, readings};
use crate::secret::Secret;

/// What stands where a secret was.
const SCRUBBED: &str = "[secret]";

/// A secret was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found;

/// No child, no sibling.
const NONE: u32 = u32::MAX;

/// The state in which nothing of any needle was seen.
const ROOT: u32 = 0;

/// A prefix of one or more needles.
#[derive(Clone)]
struct Node {
    byte: u8,
    /// A needle ends here.
    ends: bool,
    /// How long the prefix is.
    depth: u32,
    child: u32,
    sibling: u32,
    /// The longest shorter prefix of a needle that ends as this one does.
    fallback: u32,
}

/// All spellings of some secrets, to be looked for in one pass (after Aho and Corasick). Overwritten when dropped.
pub(crate) struct Needles {
    nodes: Vec<Node>,
    /// The prefixes of one byte, by it.
    first: Box<[u32; 256]>,
    /// Bytes that nothing can begin with are passed over at once.
    begins: Box<[bool; 256]>,
}

impl Needles {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Needles {
        let mut needles = Needles {
            nodes: vec![Node {
                byte: 0,
                ends: false,
                depth: 0,
                child: NONE,
                sibling: NONE,
                fallback: ROOT,
            }],
            first: Box::new([ROOT; 256]),
            begins: Box::new([false; 256]),
        };
        for secret in secrets {
            for spelling in spellings(secret.expose().as_bytes()) {
                needles.add(&spelling);
            }
        }
        needles.connect();
        for byte in 0..=u8::MAX {
            needles.begins[usize::from(byte)] =
                needles.first[usize::from(byte)] != ROOT || Reading::opens(byte);
        }
        needles
    }

    /// Nothing to look for.
    pub(crate) fn nothing() -> Arc<Needles> {
        Arc::new(Needles::new([]))
    }

    /// Whether there is nothing to look for.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Whether a whole text holds a secret.
    pub(crate) fn are_in(&self, text: &[u8]) -> bool {
        let mut scan = Scan::new();
        text.iter().any(|byte| scan.step(self, *byte).is_some())
    }

    /// A text with [`SCRUBBED`] where a secret stood.
    pub(crate) fn scrub(self: &Arc<Needles>, text: &str) -> String {
        let mut scrubber = Scrubber::new(Arc::clone(self));
        let mut scrubbed = scrubber
            .replace(Bytes::copy_from_slice(text.as_bytes()))
            .to_vec();
        scrubbed.extend_from_slice(&scrubber.finish());
        String::from_utf8_lossy(&scrubbed).into_owned()
    }

    fn child(&self, node: u32, byte: u8) -> Option<u32> {
        if node == ROOT {
            let child = self.first[usize::from(byte)];
            return (child != ROOT).then_some(child);
        }
        let mut next = self.nodes[node as usize].child;
        while next != NONE {
            let node = &self.nodes[next as usize];
            if node.byte == byte {
                return Some(next);
            }
            next = node.sibling;
        }
        None
    }

    fn add(&mut self, needle: &[u8]) {
        let mut at = ROOT;
        for byte in needle {
            at = match self.child(at, *byte) {
                Some(child) => child,
                None => self.grow(at, *byte),
            };
        }
        self.nodes[at as usize].ends = true;
    }

    fn grow(&mut self, parent: u32, byte: u8) -> u32 {
        let new = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        let above = &mut self.nodes[parent as usize];
        let (sibling, depth) = (above.child, above.depth + 1);
        above.child = new;
        self.nodes.push(Node {
            byte,
            ends: false,
            depth,
            child: NONE,
            sibling,
            fallback: ROOT,
        });
        if parent == ROOT {
            self.first[usize::from(byte)] = new;
        }
        new
    }

    /// Sets the fallbacks, shorter prefixes first.
    fn connect(&mut self) {
        let mut order: Vec<u32> = self.first.iter().copied().filter(|n| *n != ROOT).collect();
        let mut next = 0;
        while let Some(parent) = order.get(next).copied() {
            next += 1;
            let mut child = self.nodes[parent as usize].child;
            while child != NONE {
                order.push(child);
                let byte = self.nodes[child as usize].byte;
                let fallback = self.step(self.nodes[parent as usize].fallback, byte);
                let ends = self.nodes[fallback as usize].ends;
                let node = &mut self.nodes[child as usize];
                node.fallback = fallback;
                node.ends |= ends;
                child = node.sibling;
            }
        }
    }

    fn step(&self, from: u32, byte: u8) -> u32 {
        let mut at = from;
        loop {
            match self.child(at, byte) {
                Some(child) => return child,
                None if at == ROOT => return ROOT,
                None => at = self.nodes[at as usize].fallback,
            }
        }
    }
}

impl Drop for Needles {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.byte.zeroize();
        }
        self.first.zeroize();
    }
}

/// What a secret looks like in a text whose escapes are undone.
fn spellings(secret: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut all = vec![
        secret.to_vec(),
        hex::encode(secret).into_bytes(),
        hex::encode_upper(secret).into_bytes(),
    ];
    for shift in 0..3 {
        let mut shifted = Zeroizing::new(vec![0; shift]);
        shifted.extend_from_slice(secret);
        // Characters that hold bits of a neighbour are left out: the first ones of the shift, and the last when bits are left over.
        let (from, to) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = Zeroizing::new(engine.encode(&*shifted));
            all.push(encoded.as_bytes()[from..to].to_vec());
        }
    }
    all.into_iter().map(Zeroizing::new).collect()
}

/// One reading, and how far it has come.
struct Track {
    reading: Reading,
    state: u32,
    /// Where in the text each byte of the prefix that was seen begins.
    starts: VecDeque<u64>,
}

/// How far each reading has come.
struct Scan {
    tracks: [Track; 4],
    /// Bytes of the text so far.
    at: u64,
}

impl Scan {
    fn new() -> Scan {
        let track = |reading| Track {
            reading,
            state: ROOT,
            starts: VecDeque::new(),
        };
        Scan {
            tracks: readings().map(track),
            at: 0,
        }
    }

    /// Takes the next byte; where a secret ends with it, gives the part of the text that says it.
    fn step(&mut self, needles: &Needles, byte: u8) -> Option<Range<u64>> {
        self.at += 1;
        let at = self.at;
        let mut found: Option<Range<u64>> = None;
        for track in &mut self.tracks {
            let Track {
                reading,
                state,
                starts,
            } = track;
            if *state == ROOT && reading.is_at_rest() && !needles.begins[usize::from(byte)] {
                continue;
            }
            reading.read(byte, |read| {
                *state = needles.step(*state, read.byte);
                let node = &needles.nodes[*state as usize];
                let start = at - read.back as u64;
                starts.push_back(start);
                while starts.len() > node.depth as usize {
                    starts.pop_front();
                }
                if node.ends {
                    let (from, to) = (starts[0], start + read.length as u64);
                    let all = found.take().unwrap_or(from..to);
                    found = Some(all.start.min(from)..all.end.max(to));
                }
            });
        }
        found
    }

    /// How many of the last bytes could be part of a secret that is not whole yet.
    fn open(&self, needles: &Needles) -> usize {
        self.tracks
            .iter()
            .map(|track| {
                let depth = needles.nodes[track.state as usize].depth;
                track.reading.bytes_max(depth as usize)
            })
            .max()
            .unwrap_or(0)
    }
}

/// Looks through a stream: either [`Scrubber::pass`] all of it, or [`Scrubber::replace`].
pub(crate) struct Scrubber {
    needles: Arc<Needles>,
    scan: Scan,
    held: BytesMut,
    /// Where in the stream what is held begins.
    from: u64,
    /// Secrets in what is held, in order.
    found: VecDeque<Range<u64>>,
}

impl Scrubber {
    pub(crate) fn new(needles: Arc<Needles>) -> Scrubber {
        Scrubber {
            needles,
            scan: Scan::new(),
            held: BytesMut::new(),
            from: 0,
            found: VecDeque::new(),
        }
    }

    /// Takes the next piece, and gives what can be passed on; that may be nothing.
    ///
    /// # Errors
    /// [`Found`]: nothing that is held may be passed on any more.
    pub(crate) fn pass(&mut self, piece: Bytes) -> Result<Bytes, Found> {
        if self.needles.is_empty() {
            return Ok(piece);
        }
        for byte in &piece {
            if self.scan.step(&self.needles, *byte).is_some() {
                return Err(Found);
            }
        }
        Ok(self.known(piece))
    }

    /// Takes the next piece, and gives what can be passed on, with [`SCRUBBED`] where a secret stood; that may be nothing.
    pub(crate) fn replace(&mut self, piece: Bytes) -> Bytes {
        if self.needles.is_empty() {
            return piece;
        }
        for byte in &piece {
            if let Some(found) = self.scan.step(&self.needles, *byte) {
                self.note(found);
            }
        }
        self.known(piece)
    }

    /// Gives what was held when nothing more comes.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.give(self.scan.at)
    }

    /// Gives what is known to be no beginning of a secret.
    fn known(&mut self, piece: Bytes) -> Bytes {
        let open = self.scan.open(&self.needles);
        if self.held.is_empty() && open == 0 && self.found.is_empty() {
            self.from = self.scan.at;
            return piece;
        }
        self.held.extend_from_slice(&piece);
        self.give(self.scan.at.saturating_sub(open as u64))
    }

    /// Secrets that overlap are one.
    fn note(&mut self, mut found: Range<u64>) {
        while let Some(last) = self.found.pop_back_if(|last| last.end >= found.start) {
            found = last.start.min(found.start)..last.end.max(found.end);
        }
        self.found.push_back(found);
    }

    fn give(&mut self, until: u64) -> Bytes {
        let mut given = BytesMut::new();
        while let Some(found) = self.found.pop_front_if(|found| found.start < until) {
            given.extend_from_slice(&self.take(found.start));
            self.take(found.end);
            given.extend_from_slice(SCRUBBED.as_bytes());
        }
        let rest = self.take(until);
        if given.is_empty() {
            return rest.freeze();
        }
        given.extend_from_slice(&rest);
        given.freeze()
    }

    /// Takes what is held up to there; nothing where that was taken before.
    fn take(&mut self, until: u64) -> BytesMut {
        let count = usize::try_from(until.saturating_sub(self.from)).unwrap_or(usize::MAX);
        let taken = self.held.split_to(count.min(self.held.len()));
        self.from += taken.len() as u64;
        taken
    }
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Needles")
    }
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrubber")
    }
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
