//! Loose objects, read by bounded code of our own before libgit2 sees them.
//!
//! libgit2 1.9.7 asks zlib again and again for more where the compressed stream of a loose object ends too early (`git_zstream_get_output`
//! does not look for progress): one cut or flipped byte in a store, and no call that meets it returns. So every repository that is opened
//! gets a reader that answers for all loose objects; libgit2's own finds none. Packs have a reader of libgit2's that does look.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::{Decompress, FlushDecompress, Status};
use git2::ObjectType;

/// `blob 18446744073709551615` and its NUL are shorter; git looks no further either.
const HEADER_BYTES_MAX: usize = 32;

/// What one compressed byte unfolds to at most, by the format.
const RATIO_MAX: u64 = 1032;

/// Where a repository keeps its loose objects: its own store and those it borrows from.
pub(crate) struct Stores(Vec<PathBuf>);

/// Why a loose object is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is no file")]
    NoFile,
    #[error("its header is broken")]
    Header,
    #[error("its compressed data is broken")]
    Compression,
    #[error("its compressed data ends too early")]
    Short,
    #[error("it is longer than it says")]
    Long,
    #[error("it is shorter than it says")]
    Lies,
    #[error("something follows its compressed data")]
    Trailing,
}

impl Fault {
    /// For libgit2's error, with the object's name.
    pub(crate) fn message(&self, hex: &str) -> CString {
        CString::new(format!("loose object {hex} is damaged: {self}")).unwrap_or_default()
    }
}

impl Stores {
    pub(crate) fn new(stores: Vec<PathBuf>) -> Self {
        Self(stores)
    }

    /// The loose object of a name, opened up to its header; none when there is no such file.
    pub(crate) fn find(&self, hex: &str) -> Result<Option<Loose>, Fault> {
        let Some((fan, rest)) = hex.split_at_checked(2) else {
            return Ok(None);
        };
        for store in &self.0 {
            if let Some(compressed) = read(&store.join(fan).join(rest))? {
                return Loose::open(compressed).map(Some);
            }
        }
        Ok(None)
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    // NONBLOCK: opening a pipe that lies there must not wait for its other end.
    let flags = rustix::fs::OFlags::RDONLY
        | rustix::fs::OFlags::NONBLOCK
        | rustix::fs::OFlags::NOCTTY
        | rustix::fs::OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(io::Error::from(errno).into()),
    };
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(Fault::NoFile);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(data.len()).unwrap_or(0).saturating_add(1));
    // Loose objects never change: what is longer now is not what it was.
    file.take(data.len()).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// A loose object whose header was read.
pub(crate) struct Loose {
    pub(crate) kind: ObjectType,
    /// Bytes of content, as the header says.
    pub(crate) size: usize,
    stream: Stream,
    /// What was unfolded with the header: it, its NUL, and the beginning of the content.
    head: Vec<u8>,
    content_at: usize,
}

impl Loose {
    fn open(compressed: Vec<u8>) -> Result<Loose, Fault> {
        let plausible = (compressed.len() as u64).saturating_mul(RATIO_MAX);
        let mut stream = Stream::new(compressed);
        let mut head = vec![0; HEADER_BYTES_MAX];
        let length = stream.fill(&mut head)?;
        head.truncate(length);
        let end = head.iter().position(|b| *b == 0).ok_or(Fault::Header)?;
        let (kind, size) = head.get(..end).and_then(header).ok_or(Fault::Header)?;
        // Before any memory is set aside for it.
        if size > plausible {
            return Err(Fault::Lies);
        }
        Ok(Loose {
            kind,
            size: usize::try_from(size).map_err(|_| Fault::Lies)?,
            stream,
            head,
            content_at: end + 1,
        })
    }

    /// Unfolds the content into `out`, which is one byte longer than [`Loose::size`].
    pub(crate) fn content(mut self, out: &mut [u8]) -> Result<(), Fault> {
        let begun = self.head.get(self.content_at..).unwrap_or_default();
        let (first, rest) = out.split_at_mut_checked(begun.len()).ok_or(Fault::Long)?;
        first.copy_from_slice(begun);
        let found = begun.len() + self.stream.fill(rest)?;
        if found > self.size {
            return Err(Fault::Long);
        }
        if !self.stream.ended {
            return Err(Fault::Short);
        }
        if found < self.size {
            return Err(Fault::Lies);
        }
        if self.stream.used < self.stream.compressed.len() {
            return Err(Fault::Trailing);
        }
        Ok(())
    }
}

/// `blob 12`, without its NUL. No sign, no leading zero: there is one way to write a header.
fn header(text: &[u8]) -> Option<(ObjectType, u64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (kind, size) = text.split_once(' ')?;
    let kind = match kind {
        "blob" => ObjectType::Blob,
        "tree" => ObjectType::Tree,
        "commit" => ObjectType::Commit,
        "tag" => ObjectType::Tag,
        _ => return None,
    };
    let plain = size.bytes().all(|b| b.is_ascii_digit()) && (size == "0" || !size.starts_with('0'));
    Some((kind, size.parse().ok().filter(|_| plain)?))
}

/// Compressed bytes on their way out.
struct Stream {
    inflate: Decompress,
    compressed: Vec<u8>,
    used: usize,
    ended: bool,
}

impl Stream {
    fn new(compressed: Vec<u8>) -> Stream {
        Stream {
            inflate: Decompress::new(true),
            compressed,
            used: 0,
            ended: false,
        }
    }

    /// Unfolds until `out` is full, the stream has ended, or there is nothing more to read; answers how much it was.
    fn fill(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        let mut filled = 0;
        while !self.ended {
            let input = self.compressed.get(self.used..).unwrap_or_default();
            let output = out.get_mut(filled..).unwrap_or_default();
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(input, output, FlushDecompress::None)
                .map_err(|_| Fault::Compression)?;
            let read = self.inflate.total_in() - read;
            let written = self.inflate.total_out() - written;
            self.used += usize::try_from(read).unwrap_or(0);
            filled += usize::try_from(written).unwrap_or(0);
            self.ended = status == Status::StreamEnd;
            if read == 0 && written == 0 {
                break;
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    fn fold(content: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(content.len() + 1000);
        Compress::new(Compression::default(), true)
            .compress_vec(content, &mut out, FlushCompress::Finish)
            .unwrap();
        out
    }

    fn unfold(compressed: Vec<u8>) -> Result<Vec<u8>, Fault> {
        let loose = Loose::open(compressed)?;
        let (size, mut out) = (loose.size, vec![0; loose.size + 1]);
        loose.content(&mut out)?;
        out.truncate(size);
        Ok(out)
    }

    #[test]
    fn contents_of_any_size_come_back() {
        for size in [0, 1, 22, 23, 24, 25, 26, 31, 32, 33, 1_000, 100_000] {
            let content: Vec<u8> = (0..size).map(|n: u64| (n * n / 7) as u8).collect();
            let object = [format!("blob {size}\0").as_bytes(), &content].concat();
            assert_eq!(unfold(fold(&object)).unwrap(), content, "{size}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_ends() {
        let content: Vec<u8> = (0..400u32).map(|n| (n * n / 7) as u8).collect();
        let whole = fold(&[b"blob 400\0".as_slice(), &content].concat());
        for length in 0..whole.len() {
            assert!(unfold(whole[..length].to_vec()).is_err(), "{length}");
        }
        assert!(matches!(
            unfold([whole.clone(), vec![0]].concat()),
            Err(Fault::Trailing)
        ));
    }

    #[test]
    fn sizes_and_kinds_are_taken_at_their_word_only() {
        for (object, fault) in [
            ("blob 3\0ab", "shorter"),
            ("blob 1\0ab", "longer"),
            ("blob 99999999999\0ab", "shorter"),
            ("blob 18446744073709551616\0ab", "header"),
            ("blob +2\0ab", "header"),
            ("blob 02\0ab", "header"),
            ("blob \0ab", "header"),
            ("blob2\0ab", "header"),
            ("bulb 2\0ab", "header"),
            ("blob 2", "header"),
            ("blob 20000000000000000000000000000000000000000\0", "header"),
        ] {
            let said = unfold(fold(object.as_bytes())).unwrap_err().to_string();
            assert!(said.contains(fault), "{object:?}: {said}");
        }
    }
}
