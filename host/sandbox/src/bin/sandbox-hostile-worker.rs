//! A worker that its guest has taken over: it does what its input or its component says, for tests of the broker.

use std::io::{Read, Write};
use std::os::fd::FromRawFd as _;
use std::os::unix::net::UnixStream;

fn main() {
    #[expect(
        unsafe_code,
        reason = "the launcher puts the broker's socket at descriptor 3; nothing else owns it"
    )]
    // SAFETY: as above; this process has just begun.
    let mut stream = unsafe { UnixStream::from_raw_fd(3) };
    let Some(mut asked) = receive(&mut stream) else {
        return;
    };
    if asked.get("Open").is_some() {
        let _ = send(&mut stream, br#""Opened""#);
        let Some(next) = receive(&mut stream) else {
            return;
        };
        asked = next;
    }
    let _ = match asked["Run"]["input"]["do"].as_str() {
        Some(what) => run(&mut stream, what),
        None => compile(&mut stream),
    };
}

fn receive(stream: &mut UnixStream) -> Option<serde_json::Value> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

fn send(stream: &mut UnixStream, body: &[u8]) -> std::io::Result<()> {
    stream.write_all(&(body.len() as u32).to_le_bytes())?;
    stream.write_all(body)
}

fn call(interface: &str, function: &str, args: &str) -> Vec<u8> {
    format!(r#"{{"Call":{{"interface":"{interface}","function":"{function}","args":{args}}}}}"#)
        .into_bytes()
}

fn done(outcome: &str, printed: &str) -> Vec<u8> {
    format!(
        r#"{{"Done":{{"outcome":{outcome},"fuel":18446744073709551615,"peak_memory_bytes":1,"printed":"{printed}"}}}}"#
    )
    .into_bytes()
}

fn wait() -> ! {
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

fn run(stream: &mut UnixStream, what: &str) -> std::io::Result<()> {
    let large = || "x".repeat(40 << 20);
    match what {
        "exit" => Ok(()),
        "silence" => wait(),
        "garbage" => stream.write_all(&[0xff; 4096]),
        "no-json" => send(stream, b"\xff\xfe not json"),
        "announce-all" => stream.write_all(&u32::MAX.to_le_bytes()),
        "announce-much" => {
            stream.write_all(&(90u32 << 20).to_le_bytes())?;
            wait()
        }
        "half-a-frame" => stream.write_all(&[100, 0, 0, 0, b'{']),
        "dense" => {
            let list = format!("[{}0]", "0,".repeat(40 << 20));
            send(stream, &call("moat:host/progress", "note", &list))?;
            wait()
        }
        "deep" => {
            let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
            send(stream, &call("moat:host/progress", "note", &deep))?;
            wait()
        }
        "unknown-function" => {
            send(stream, &call("moat:host/process", "exec", "[]"))?;
            wait()
        }
        "unknown-interface" => {
            send(stream, &call("moat:host/secrets", "read", "[]"))?;
            wait()
        }
        "not-granted" => {
            send(stream, &call("moat:host/release", "versions", "[]"))?;
            wait()
        }
        "wrong-arguments" => {
            send(
                stream,
                &call("moat:host/process", "run", r#"[{"what":1},2,3]"#),
            )?;
            wait()
        }
        // A call of the tester's own making: interface, function and arguments.
        _ if what.starts_with("call ") => {
            let mut words = what.splitn(4, ' ').skip(1);
            let mut word = || words.next().unwrap_or_default();
            send(stream, &call(word(), word(), word()))?;
            // An answer would be one too many, but to be refused is not to be malformed.
            receive(stream);
            send(stream, &done(r#"{"Ok":{"ok":"{}"}}"#, ""))
        }
        // A harmless call that tells this of time.
        _ if what.starts_with("time ") => {
            let call = format!(
                r#"{{"Call":{{"interface":"moat:host/model","function":"aliases","args":[],"time":{}}}}}"#,
                &what[5..]
            );
            send(stream, call.as_bytes())?;
            receive(stream);
            send(stream, &done(r#"{"Ok":{"ok":"{}"}}"#, ""))
        }
        "compiled" => send(stream, br#""Compiled""#),
        "flood" => loop {
            // Answers are never read: the broker must not wait for that without end.
            send(stream, &call("moat:host/process", "project-commands", "[]"))?;
        },
        "many-denials" => {
            for n in 0..5000 {
                let args = format!(
                    r#"[{{"what":{{"program":{{"program":"p{n}","args":[]}}}},"directory":"","stdin":[],"timeout-ms":null}}]"#
                );
                send(stream, &call("moat:host/process", "run", &args))?;
                if receive(stream).is_none() {
                    break;
                }
            }
            send(stream, &done(r#"{"Ok":{"ok":"{}"}}"#, ""))
        }
        "much-printed" => send(stream, &done(r#"{"Ok":{"ok":"{}"}}"#, &large())),
        "long-story" => send(
            stream,
            &done(&format!(r#"{{"Err":{{"Trap":"{}"}}}}"#, large()), ""),
        ),
        _ => Ok(()),
    }
}

/// The wish is the last line of the component.
fn compile(stream: &mut UnixStream) -> std::io::Result<()> {
    let component = std::fs::read("/component.wasm")?;
    let text = String::from_utf8_lossy(&component).into_owned();
    let wish = text
        .rsplit("wish:")
        .next()
        .unwrap_or_default()
        .trim_end_matches('\0');
    let out = std::path::Path::new("/out/component.cwasm");
    match wish {
        "nothing" => {}
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        "killed" => {
            // What the machine does to a process when its memory runs out.
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
        "directory" => std::fs::create_dir(out)?,
        "pipe" => {
            let made = rustix::fs::mknodat(
                rustix::fs::CWD,
                out,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RWXU,
                0,
            );
            made?;
        }
        "two-names" => {
            std::fs::write("/out/other", "x")?;
            std::fs::hard_link("/out/other", out)?;
        }
        "deep" => {
            let mut path = std::path::PathBuf::from("/out");
            for _ in 0..1500 {
                path.push("d");
                if std::fs::create_dir(&path).is_err() {
                    break;
                }
            }
        }
        target => std::os::unix::fs::symlink(target, out)?,
    }
    send(stream, br#""Compiled""#)?;
    wait()
}
