//! A program that stands still is found; one that is only silent, or slow, or was stopped together with moat, is not.

use std::time::Duration;

use confine::{Ending, Finished};

use crate::place::{Place, text};

const IDLE: Duration = Duration::from_millis(1500);

async fn run(program: &str, args: &[&str]) -> Finished {
    let place = Place::new();
    let mut command = place.command(program, args, Duration::from_secs(40));
    command.limits.idle = Some(IDLE);
    place.launcher.run(command).await.unwrap()
}

#[tokio::test]
async fn what_stands_still_is_ended() {
    for script in [
        "sleep 60",
        // Stopped, by itself: it does not even wait.
        "kill -STOP $$",
        // The program waits for one of its own that never ends.
        "sleep 60 & wait",
        // Two that wait for each other.
        "mkfifo a b; cat a > b & cat b > a & wait",
    ] {
        let finished = run("sh", &["-c", script]).await;
        assert_eq!(finished.ending, Ending::Idle, "{script}");
        assert!(finished.duration >= IDLE, "{script}");
    }
}

#[tokio::test]
async fn what_goes_on_in_silence_lives() {
    for script in [
        // Computes and says nothing.
        "import time\nend = time.time() + 5\nwhile time.time() < end: pass",
        // Its child does, and it waits.
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time\\nend = time.time() + 5\\nwhile time.time() < end: pass'])",
        // One short program after another, as a build has them: their time is that of whoever waited for them.
        "import subprocess, time\nend = time.time() + 5\nwhile time.time() < end: subprocess.run(['true'])",
        // In a thread.
        "import threading, time\ndef work():\n end = time.time() + 5\n while time.time() < end: pass\nt = threading.Thread(target=work); t.start(); t.join()",
    ] {
        let finished = run("python3", &["-c", script]).await;
        assert_eq!(
            finished.ending,
            Ending::Exited(0),
            "{script}: {}",
            text(&finished.stderr)
        );
    }
}

#[tokio::test]
async fn what_says_something_now_and_then_lives() {
    let script = "for n in 1 2 3 4 5 6; do sleep 0.7; echo $n; done; exec >&-; for n in 1 2 3; do sleep 0.7; echo $n >&2; done";
    let finished = run("sh", &["-c", script]).await;
    assert_eq!(finished.ending, Ending::Exited(0));
    assert!(text(&finished.stdout).ends_with("6\n"));
}
