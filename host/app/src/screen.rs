//! The terminal while `moat runs watch` has it: its own screen, drawn over in place, and the person's given back however the program ends.

use std::io::{IsTerminal as _, Write as _};

use rustix::stdio::{stdin, stdout};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::show::frame::{About, Line};
use crate::show::page::Look;
use crate::show::state::{Group, State};

/// The alternate screen without a cursor, and lines that do not wrap.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l\u{1b}[2J";
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";

/// Terminals that know this show a frame when it is whole.
const BEGIN: &str = "\u{1b}[?2026h";
const END: &str = "\u{1b}[?2026l";

/// Kept for as long as the screen is ours.
pub struct Screen {
    shown: Vec<Line>,
    colour: bool,
    /// How the keyboard was.
    before: Option<Termios>,
}

/// Whether there is a terminal that can be drawn on.
pub fn is_there() -> bool {
    let named = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    named && std::io::stdout().is_terminal()
}

/// Columns and lines.
pub fn size() -> (usize, usize) {
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

impl Screen {
    /// Takes the terminal.
    pub fn enter() -> std::io::Result<Screen> {
        let mut screen = Screen {
            shown: Vec::new(),
            colour: Look::of_stdout().colour,
            before: None,
        };
        screen.take()?;
        Ok(screen)
    }

    /// Takes it again after [`Screen::give_back`].
    pub fn take(&mut self) -> std::io::Result<()> {
        self.shown.clear();
        if let Ok(before) = tcgetattr(stdin()) {
            let mut quiet = before.clone();
            // A key is heard at once and does not show; Ctrl-C and Ctrl-Z stay what they are.
            quiet
                .local_modes
                .remove(LocalModes::ECHO | LocalModes::ICANON);
            let _ = tcsetattr(stdin(), OptionalActions::Now, &quiet);
            self.before = Some(before);
        }
        write(ENTER)
    }

    /// Gives the terminal back as it was.
    pub fn give_back(&mut self) {
        // Nobody is left to be told when this fails.
        let _ = write(LEAVE);
        if let Some(before) = self.before.take() {
            // What was typed here is not for the shell.
            let _ = tcsetattr(stdin(), OptionalActions::Flush, &before);
        }
    }

    /// Forgets what is shown: after the terminal has another size, nothing of it is where it was.
    pub fn resized(&mut self) -> std::io::Result<()> {
        self.shown.clear();
        write("\u{1b}[2J")
    }

    /// Draws the lines that differ from what is shown, in one write.
    pub fn draw(&mut self, lines: Vec<Line>) -> std::io::Result<()> {
        let mut out = String::new();
        for (at, line) in lines.iter().enumerate() {
            if self.shown.get(at) != Some(line) {
                let text = self.painted(line);
                out.push_str(&format!("\u{1b}[{};1H\u{1b}[2K{text}", at + 1));
            }
        }
        self.shown = lines;
        if out.is_empty() {
            return Ok(());
        }
        write(&format!("{BEGIN}{out}{END}"))
    }

    fn painted(&self, line: &Line) -> String {
        let code = match line.about {
            About::All => "1",
            About::Help => "2",
            About::Run(State::Failed | State::Error) => "31",
            About::Run(state) => match state.group() {
                Group::NeedsPerson => "33",
                Group::Goes => "32",
                Group::Stands | Group::Ended => "0",
            },
        };
        match self.colour {
            true => format!("\u{1b}[{code}m{}\u{1b}[0m", line.text),
            false => line.text.clone(),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
