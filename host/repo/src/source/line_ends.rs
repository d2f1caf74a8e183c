//! Line ends of a checkout: git may have written CRLF where the blob has LF, and an update keeps to that.

/// Whether a file of a checkout is this blob, as it is or with CRLF line ends.
pub(super) fn same(on_disk: &[u8], blob: &[u8]) -> bool {
    on_disk == blob || (on_disk.len() > blob.len() && !has_cr(blob) && to_crlf(blob) == on_disk)
}

/// What to write for a new version of a file that was the `old` blob until now.
pub(super) fn carry_over(on_disk: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    if on_disk != old && same(on_disk, old) && !has_cr(new) {
        to_crlf(new)
    } else {
        new.to_vec()
    }
}

fn has_cr(bytes: &[u8]) -> bool {
    bytes.contains(&b'\r')
}

fn to_crlf(blob: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(blob.len() + blob.len() / 16);
    for byte in blob {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_keeps_its_line_ends() {
        assert!(same(b"a\r\nb\r\n", b"a\nb\n"));
        assert!(!same(b"a\r\nb\n", b"a\nb\n"));
        assert!(!same(b"a\n", b"a\r\n"));
        assert_eq!(carry_over(b"a\r\n", b"a\n", b"a\nb\n"), b"a\r\nb\r\n");
        assert_eq!(carry_over(b"a\n", b"a\n", b"a\nb\n"), b"a\nb\n");
        assert_eq!(carry_over(b"a\r\n", b"a\n", b"x\r\n"), b"x\r\n");
    }
}
