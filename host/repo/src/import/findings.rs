//! What a walk has found so far, and the report that it becomes.

use flow::id::TreeId;

use super::{Change, ChangeKind, ImportReport, Refused, RefusedReason};

/// More refusals than a person reads.
const REFUSED_MAX: usize = 1_000;

#[derive(Default)]
pub(super) struct Findings {
    changed: Vec<Change>,
    refused: Vec<Refused>,
    refused_more: u64,
    pub(super) ignored: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Findings {
    pub(super) fn change(&mut self, path: String, kind: ChangeKind) {
        self.changed.push(Change { path, kind });
    }

    /// Takes back what was noted for a path and all below it.
    pub(super) fn forget_changes(&mut self, path: &str) {
        let below = format!("{path}/");
        self.changed
            .retain(|c| c.path != path && !c.path.starts_with(&below));
    }

    pub(super) fn refuse(&mut self, path: String, reason: RefusedReason) {
        if self.refused.len() < REFUSED_MAX {
            self.refused.push(Refused { path, reason });
        } else {
            self.refused_more += 1;
        }
    }

    pub(super) fn into_report(self, tree: TreeId) -> ImportReport {
        let Self {
            mut changed,
            refused,
            refused_more,
            ignored,
            files,
            bytes,
        } = self;
        changed.sort_by(|a, b| a.path.cmp(&b.path));
        ImportReport {
            tree,
            changed,
            refused,
            refused_more,
            ignored,
            files,
            bytes,
        }
    }
}
