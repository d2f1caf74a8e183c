//! One budget for all memories and tables of a call.

use wasmtime::ResourceLimiter;

/// Bytes of one table element, for the budget.
const ELEMENT_BYTES: usize = 16;

/// Counts what was granted; refuses beyond the limit, which the guest sees as a failed `memory.grow`.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: usize,
    used: usize,
    peak: usize,
    pub(crate) refused: bool,
}

impl Limiter {
    pub(crate) fn new(limit_bytes: u64) -> Limiter {
        Limiter {
            limit: usize::try_from(limit_bytes).unwrap_or(usize::MAX),
            used: 0,
            peak: 0,
            refused: false,
        }
    }

    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak as u64
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let after = self.used.saturating_sub(current).saturating_add(desired);
        if after > self.limit {
            self.refused = true;
            return false;
        }
        self.used = after;
        self.peak = self.peak.max(after);
        true
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(
            current.saturating_mul(ELEMENT_BYTES),
            desired.saturating_mul(ELEMENT_BYTES),
        ))
    }

    fn instances(&self) -> usize {
        100
    }

    fn tables(&self) -> usize {
        100
    }

    fn memories(&self) -> usize {
        20
    }
}
