//! What is left of a secret in this process's memory when nobody holds it any more.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use zeroize::{Zeroize as _, Zeroizing};

use crate::secret::Secret;
use crate::store::file;

/// In this form it is in the program; only what the stores make of it has the plain one.
const MASK: u8 = 0x15;

fn masked() -> Vec<u8> {
    (0..40u8).map(|n| (b'a' + n % 26) ^ MASK).collect()
}

/// Places in writable memory that hold the plain form. `buffer` is left out, and holds nothing of it afterwards.
fn places(masked: &[u8], buffer: &mut [u8]) -> usize {
    let own = buffer.as_ptr_range();
    let own = own.start as u64..own.end as u64;
    let memory = File::open("/proc/self/mem").unwrap();
    let mut found = 0;
    for line in std::fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let mut at = from;
        while at < to {
            let part = ((to - at) as usize).min(buffer.len());
            // Pages that are not there any more, or of devices, cannot be read.
            if memory.read_exact_at(&mut buffer[..part], at).is_ok() {
                for (offset, window) in buffer[..part].windows(masked.len()).enumerate() {
                    let plain = window[0] == masked[0] ^ MASK
                        && window.iter().zip(masked).all(|(a, b)| *a == b ^ MASK);
                    found += usize::from(plain && !own.contains(&(at + offset as u64)));
                }
            }
            buffer.zeroize();
            // A secret that lies over the border of two parts is in neither: go back by its length.
            at += if part == buffer.len() {
                part - masked.len()
            } else {
                part
            } as u64;
        }
    }
    found
}

/// A secret through its whole way: file, value, header.
fn used(path: &std::path::Path) -> (Secret, reqwest::header::HeaderValue) {
    let secret = file::read(path).unwrap();
    let header = secret.header("Bearer {}").unwrap();
    (secret, header)
}

#[test]
fn a_secret_that_nobody_holds_any_more_is_nowhere_in_memory() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("token");
    let masked = masked();
    {
        let plain: Zeroizing<Vec<u8>> = Zeroizing::new(masked.iter().map(|b| b ^ MASK).collect());
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.unwrap().write_all_at(&plain, 0).unwrap();
    }
    let mut buffer = vec![0; 1 << 20];
    assert_eq!(places(&masked, &mut buffer), 0, "before it is read");
    let (secret, header) = used(&path);
    let copy = header.clone();
    assert!(places(&masked, &mut buffer) >= 2, "while it is held");
    drop(secret);
    drop(header);
    assert_eq!(places(&masked, &mut buffer), 1, "a clone of the header");
    drop(copy);
    assert_eq!(places(&masked, &mut buffer), 0, "when nobody holds it");
}
