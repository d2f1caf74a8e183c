//! Live progress: one line an event, and on a terminal a last line that says what is going on now.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use driver::Watcher;
use flow::money::Spend;
use flow::{Event, Recorded};

use crate::show::line;
use crate::show::text::{one_line, span};

/// Tells a person on standard error; standard output stays for results.
pub struct Terminal {
    begun: Instant,
    live: bool,
    quiet: bool,
    spend: Mutex<Spend>,
    out: Mutex<()>,
}

impl Terminal {
    /// Quiet says nothing at all, for `--json`.
    pub fn new(quiet: bool) -> Terminal {
        Terminal {
            begun: Instant::now(),
            live: std::io::stderr().is_terminal(),
            quiet,
            spend: Mutex::default(),
            out: Mutex::new(()),
        }
    }

    fn say(&self, text: &str, stays: bool) {
        let _one_at_a_time = self.out.lock();
        let at = span(self.begun.elapsed().as_millis() as u64);
        let mut stderr = std::io::stderr();
        // The line before may be one that was to go: it is cleared first.
        let clear = if self.live { "\r\u{1b}[2K" } else { "" };
        let end = if stays { "\n" } else { "" };
        let _ = write!(stderr, "{clear}{at:>10}  {text}{end}");
        let _ = stderr.flush();
    }
}

impl Watcher for Terminal {
    fn event(&self, recorded: &Recorded) {
        if let Event::Settled { spend, .. } = &recorded.event {
            let mut sum = self.spend.lock().unwrap_or_else(PoisonError::into_inner);
            *sum = sum.plus(*spend);
        }
        if self.quiet {
            return;
        }
        let begins = matches!(recorded.event, Event::StepStarted { .. });
        if let Some(text) = line::of(recorded) {
            // A step that begins is news only while it lasts.
            if self.live || !begins {
                self.say(&text, !begins);
            }
        }
    }

    fn note(&self, text: &str) {
        if self.live && !self.quiet {
            let spend = *self.spend.lock().unwrap_or_else(PoisonError::into_inner);
            let cost = match spend.calls {
                0 => String::new(),
                _ => format!("   [{} so far, {} tokens]", spend.money, spend.tokens),
            };
            self.say(&format!("{}{cost}", one_line(text, 100)), false);
        }
    }
}
