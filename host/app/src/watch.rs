//! Live progress: one line an event, and on a terminal a last line that says what is going on now.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use driver::Watcher;
use flow::id::TaskId;
use flow::money::Spend;
use flow::{Event, Recorded};

use crate::show::line;
use crate::show::text::{one_line, span};

/// Tells a person on standard error; standard output stays for results.
pub struct Terminal {
    screen: Arc<Screen>,
    /// Of which of several it tells, where it tells of several.
    of: String,
    /// What the run of a task settles, its parent settles as well: it is counted there.
    is_counted: bool,
}

/// What all of them write on.
struct Screen {
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
            screen: Arc::new(Screen {
                begun: Instant::now(),
                live: std::io::stderr().is_terminal(),
                quiet,
                spend: Mutex::default(),
                out: Mutex::new(()),
            }),
            of: String::new(),
            is_counted: true,
        }
    }

    /// One that names what it tells of, on the same screen.
    pub fn of(&self, name: &str) -> Terminal {
        Terminal {
            screen: self.screen.clone(),
            of: format!("{}[{name}] ", self.of),
            is_counted: self.is_counted,
        }
    }

    fn say(&self, text: &str, stays: bool) {
        let screen = &self.screen;
        let _one_at_a_time = screen.out.lock();
        let at = span(screen.begun.elapsed().as_millis() as u64);
        let mut stderr = std::io::stderr();
        // The line before may be one that was to go: it is cleared first.
        let clear = if screen.live { "\r\u{1b}[2K" } else { "" };
        let end = if stays { "\n" } else { "" };
        let _ = write!(stderr, "{clear}{at:>10}  {}{text}{end}", self.of);
        let _ = stderr.flush();
    }
}

impl Watcher for Terminal {
    fn event(&self, recorded: &Recorded) {
        if let (Event::Settled { spend, .. }, true) = (&recorded.event, self.is_counted) {
            let mut sum = self
                .screen
                .spend
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *sum = sum.plus(*spend);
        }
        if self.screen.quiet {
            return;
        }
        let begins = matches!(recorded.event, Event::StepStarted { .. });
        if let Some(text) = line::of(recorded) {
            // A step that begins is news only while it lasts.
            if self.screen.live || !begins {
                self.say(&text, !begins);
            }
        }
    }

    fn note(&self, text: &str) {
        if self.screen.live && !self.screen.quiet {
            let spend = *self
                .screen
                .spend
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let cost = match spend.calls {
                0 => String::new(),
                _ => format!("   [{} so far, {} tokens]", spend.money, spend.tokens),
            };
            self.say(&format!("{}{cost}", one_line(text, 100)), false);
        }
    }

    fn of_task(&self, task: &TaskId) -> Arc<dyn Watcher> {
        Arc::new(Terminal {
            is_counted: false,
            ..self.of(task.as_str())
        })
    }
}
