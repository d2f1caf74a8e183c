//! Writing the file.

use std::io::Write;

use crate::archive::Contents;

/// Writes a tar in which nothing depends on who writes it, when and where.
///
/// # Errors
/// Those of `out`.
pub fn write(contents: &Contents, out: impl Write) -> std::io::Result<()> {
    let mut tar = tar::Builder::new(out);
    for (path, bytes) in &contents.files {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(contents.at_s);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes.as_slice())?;
    }
    tar.into_inner()?.flush()
}
