//! Making a small repository, such as the one of `moat demo`.

use std::path::Path;

use git2::{IndexEntry, IndexTime, Repository, RepositoryInitOptions, Signature, Time};

use crate::error::{Doing as _, StoreError};
use crate::{Identity, SourceError};

/// Makes a repository with one commit of these files, checked out. The directory must be empty or missing.
///
/// # Errors
/// [`SourceError`]; a part of the files may be there then.
pub fn create(
    path: &Path,
    branch: &str,
    files: &[(&str, &str)],
    identity: &Identity,
    subject: &str,
    time: i64,
) -> Result<(), SourceError> {
    crate::harden::harden().doing("prepare libgit2")?;
    for (name, text) in files {
        let file = path.join(name);
        let made = file
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&file, text));
        made.map_err(|error| StoreError::io("write", &file, error))?;
    }
    let mut options = RepositoryInitOptions::new();
    options
        .initial_head(branch)
        .no_reinit(true)
        .external_template(false);
    let repo = Repository::init_opts(path, &options).doing("make a repository")?;
    commit(&repo, files, identity, subject, time)?;
    Ok(())
}

fn commit(
    repo: &Repository,
    files: &[(&str, &str)],
    identity: &Identity,
    subject: &str,
    time: i64,
) -> Result<(), StoreError> {
    let mut index = repo.index().doing("open the index")?;
    for (name, text) in files {
        let zero = IndexTime::new(0, 0);
        let id = repo.blob(text.as_bytes()).doing("write a file")?;
        let entry = IndexEntry {
            ctime: zero,
            mtime: zero,
            dev: 0,
            ino: 0,
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            file_size: 0,
            id,
            flags: 0,
            flags_extended: 0,
            path: name.as_bytes().to_vec(),
        };
        index.add(&entry).doing("add a file")?;
    }
    index.write().doing("write the index")?;
    let tree = index
        .write_tree()
        .and_then(|id| repo.find_tree(id))
        .doing("write a tree")?;
    let who = Signature::new(identity.parts().0, identity.parts().1, &Time::new(time, 0))
        .doing("sign")?;
    repo.commit(Some("HEAD"), &who, &who, subject, &tree, &[])
        .doing("commit")?;
    Ok(())
}
