//! Following: the events of all runs as they come, asked for again and again at next to no cost.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::{JournalError, failure};
use crate::format;
use crate::read::{self, Placed};

/// Where someone who follows the journal has come to.
#[derive(Debug)]
pub struct Follow {
    // Its own: the file's version is told by connection.
    connection: Connection,
    path: PathBuf,
    version: Option<i64>,
    position: u64,
}

impl Follow {
    pub(crate) fn of(path: &Path, after: u64) -> Result<Follow, JournalError> {
        Ok(Follow {
            connection: format::connect(path, format::PATIENCE)?,
            path: path.to_owned(),
            version: None,
            position: after,
        })
    }

    /// Visits the events since the last time. Where nobody has written to the journal, it looks at one number and reads nothing.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn news(&mut self, visit: &mut dyn FnMut(Placed<'_>)) -> Result<(), JournalError> {
        self.look(visit)
            .map_err(|error| failure(&self.path, &error))
    }

    fn look(&mut self, visit: &mut dyn FnMut(Placed<'_>)) -> rusqlite::Result<()> {
        let version = self
            .connection
            .prepare_cached("PRAGMA data_version")?
            .query_row([], |row| row.get(0))?;
        if self.version == Some(version) {
            return Ok(());
        }
        // What is written between the two is read now, and looked for in vain the next time.
        let mut last = self.position;
        read::each(&self.connection, self.position, &mut |placed| {
            last = placed.position;
            visit(placed);
        })?;
        self.position = last;
        self.version = Some(version);
        Ok(())
    }
}
