//! `moat runs watch`: all runs as they go on. It reads the journal and nothing else, and writes nothing.

use std::io::{IsTerminal as _, Read as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::board::{Board, News, Seen};
use crate::cli::Shared;
use crate::exit::Exit;
use crate::screen::{self, Screen};
use crate::show::state::Group;
use crate::show::trail::clock;
use crate::show::{frame, line, text};

/// How soon a change shows. Where nothing was written, a look reads one number.
const LOOK: Duration = Duration::from_millis(500);

/// Every so many looks: who drives what, and ages on the screen.
const LOOKS_A_SECOND: u64 = 2;

/// Watches until it is told to end.
pub async fn run(shared: &Shared) -> anyhow::Result<Exit> {
    let board = Board::read(&shared.journal()?)?;
    if shared.json {
        lines(board, &json_line).await?;
    } else if screen::is_there() {
        live(board).await?;
    } else {
        lines(board, &plain_line).await?;
    }
    Ok(Exit::Done)
}

/// What ends it, or interrupts it.
struct Told {
    interrupt: Signals,
    terminate: Signals,
    hangup: Signals,
}

impl Told {
    fn listen() -> std::io::Result<Told> {
        Ok(Told {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn wait_for_end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

fn looks() -> tokio::time::Interval {
    let mut looks = tokio::time::interval(LOOK);
    // A machine that slept needs one look, not all that it missed.
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// How one change of a run, or how it stands at first, is told; `None` where it is not worth a line.
type Telling<'a> = &'a dyn Fn(&Seen, Option<&News>) -> anyhow::Result<Option<String>>;

async fn lines(mut board: Board, telling: Telling<'_>) -> anyhow::Result<()> {
    let mut told = Told::listen()?;
    let say = |seen: &Seen, news: Option<&News>| {
        match telling(seen, news) {
            Ok(Some(line)) => println!("{line}"),
            Ok(None) => {}
            // Nothing that the journal holds has no JSON form.
            Err(error) => not_shown(&error),
        }
    };
    board.runs().iter().for_each(|seen| say(seen, None));
    let (mut looks, mut count) = (looks(), 0);
    loop {
        tokio::select! {
            () = told.wait_for_end() => return Ok(()),
            _ = looks.tick() => {}
        }
        board.events(&mut |seen, news| say(seen, Some(&news)))?;
        if count % LOOKS_A_SECOND == 0 {
            board.drivers(&mut |seen, news| say(seen, Some(&news)))?;
        }
        count += 1;
    }
}

fn not_shown(error: &anyhow::Error) {
    eprintln!("note: a change is not shown: {error}");
}

fn plain_line(seen: &Seen, news: Option<&News>) -> anyhow::Result<Option<String>> {
    let state = seen.state();
    let stands = || {
        format!(
            "{}: {}",
            state.word(),
            text::one_line(&seen.sentence(), 200)
        )
    };
    let what = match news {
        None if state.group() == Group::Ended => return Ok(None),
        None => format!("{}: {}", state.word(), text::one_line(&seen.title(), 120)),
        Some(News::Driving) => stands(),
        Some(News::Event(None)) => stands(),
        Some(News::Event(Some(recorded))) => match line::of(recorded) {
            Some(line) => line,
            None => return Ok(None),
        },
    };
    let at = match news {
        Some(News::Driving) => now_ms(),
        _ => seen.last_at_ms,
    };
    Ok(Some(format!("{}  {}  {what}", clock(at), seen.id)))
}

fn json_line(seen: &Seen, news: Option<&News>) -> anyhow::Result<Option<String>> {
    let recorded = match news {
        Some(News::Event(recorded)) => recorded.as_deref(),
        _ => None,
    };
    let value = json!({
        "event": recorded.map(|recorded| recorded.event.name()),
        "number": recorded.map(|recorded| recorded.number),
        "at-ms": match news {
            Some(News::Driving) => now_ms(),
            _ => recorded.map_or(seen.last_at_ms, |recorded| recorded.at_ms),
        },
        "text": recorded.and_then(line::of),
        "run": seen.json(),
    });
    Ok(Some(text::json(&value)?))
}

async fn live(mut board: Board) -> anyhow::Result<()> {
    let mut told = Told::listen()?;
    let mut sizes = signal(SignalKind::window_change())?;
    let mut stops = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut keys = keys();
    let mut screen = Screen::enter()?;
    let (mut looks, mut count) = (looks(), 0);
    loop {
        draw(&mut screen, &board)?;
        tokio::select! {
            () = told.wait_for_end() => return Ok(()),
            Some(key) = keys.recv() => if matches!(key, b'q' | b'Q' | 4) {
                return Ok(());
            },
            _ = sizes.recv() => screen.resized()?,
            _ = stops.recv() => {
                screen.give_back();
                kill_process(getpid(), Signal::STOP)?;
                screen.take()?;
            }
            _ = looks.tick() => {
                board.events(&mut |_, _| {})?;
                if count % LOOKS_A_SECOND == 0 {
                    board.drivers(&mut |_, _| {})?;
                }
                count += 1;
            }
        }
    }
}

fn draw(screen: &mut Screen, board: &Board) -> std::io::Result<()> {
    let (columns, lines) = screen::size();
    screen.draw(frame::of(board.runs(), columns, lines, now_ms()))
}

/// What is typed. The thread ends with the program: nothing else can end a read of a terminal.
fn keys() -> mpsc::Receiver<u8> {
    let (sender, receiver) = mpsc::channel(16);
    if !std::io::stdin().is_terminal() {
        return receiver;
    }
    let read = move || {
        let mut stdin = std::io::stdin().lock();
        let mut key = [0];
        while matches!(stdin.read(&mut key), Ok(1)) {
            if sender.blocking_send(key[0]).is_err() {
                return;
            }
        }
    };
    // Without it, Ctrl-C ends the watching.
    let _ = std::thread::Builder::new().name("keys".into()).spawn(read);
    receiver
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as u64)
}
