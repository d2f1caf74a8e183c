//! Secrets of the machine's owner, from every source, through the whole program; and what others of the same user see of it.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::canary::assert_free;
use support::vault::{Mood, State, Vault};

use crate::house::{House, told};
use crate::ordinary::Stranger;

const CANARIES: [&str; 5] = [
    "canary-env-41c7",
    "canary-file-93d0",
    "canary-command-77aa",
    "canary-vault-05fe",
    "hvs.canary-token-6b",
];

fn private(path: &Path, text: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode);
    file.open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A house with a secret of each source that needs nothing of the machine's own.
struct Owner {
    house: House,
    vault: Vault,
}

impl Owner {
    fn new() -> Owner {
        let house = House::new();
        let [_, file, command, vault, token] = CANARIES;
        private(&house.path("file"), &format!("{file}\n"), 0o600);
        private(&house.path("token"), token, 0o600);
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = 'a b' ] && [ -z \"$SECRET\" ] && [ \"$MORE\" = more ] && echo {command}\n"
        );
        private(&house.path("program"), &script, 0o700);
        let vault = Vault::start(State {
            token: token.into(),
            gossip: format!("{vault} {token}"),
            secrets: vec![("a", json!({"token": vault}))],
            ..State::default()
        });
        let owner = Owner { house, vault };
        let place = owner.house.path("");
        let place = place.display().to_string();
        owner.write(&format!(
            r#"
[secrets.env]
hosts = ["https://a.example", "https://b.example:8443"]
env = "SECRET"
[secrets.file]
hosts = ["https://a.example"]
file = "{place}file"
[secrets.command]
hosts = ["https://a.example"]
command = ["{place}program", "a b"]
command-env = ["MORE"]
[secrets.vault]
hosts = ["https://a.example"]
vault = {{ path = "secret/data/a", field = "token" }}
[vault]
address = "{}"
token-file = "{place}token"
"#,
            owner.vault.address()
        ));
        owner
    }

    fn write(&self, text: &str) {
        private(&self.house.home().join("secrets.toml"), text, 0o600);
    }

    fn moat(&self, args: &[&str]) -> Output {
        self.house
            .command(args)
            .env("SECRET", CANARIES[0])
            .env("MORE", "more")
            .env("MOAT_LOG", "trace")
            .output()
            .unwrap()
    }
}

fn assert_clean(owner: &Owner, what: &str, output: &Output) {
    for canary in CANARIES {
        assert_free(what, &output.stdout, canary);
        assert_free(what, &output.stderr, canary);
        assert_nothing_kept(&owner.house.home(), canary);
    }
}

fn assert_nothing_kept(directory: &Path, canary: &str) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            assert_nothing_kept(&path, canary);
        } else if let Ok(bytes) = std::fs::read(&path) {
            assert_free(&path.display().to_string(), &bytes, canary);
        }
    }
}

#[test]
fn every_source_is_read_and_no_value_is_shown_or_kept() {
    let owner = Owner::new();
    for args in [
        &["secret", "list"][..],
        &["secret", "check"],
        &["secret", "check", "command"],
        &["--json", "secret", "list"],
        &["--json", "secret", "check"],
        &["doctor"],
    ] {
        let output = owner.moat(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", told(&output));
        assert_clean(&owner, &format!("{args:?}"), &output);
    }
    let listed = owner.moat(&["--json", "secret", "check"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let names: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["command", "env", "file", "vault"]);
    assert_eq!(
        listed[1]["hosts"],
        json!(["https://a.example", "https://b.example:8443"])
    );
    let keys: Vec<_> = listed[0].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["name", "source", "from", "hosts", "resolves", "trouble"]
    );
    let unknown = owner.moat(&["secret", "check", "other"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", told(&unknown));
}

#[test]
fn whatever_goes_wrong_is_told_without_a_value() {
    let owner = Owner::new();
    private(&owner.house.path("file"), CANARIES[1], 0o600);
    std::fs::set_permissions(
        owner.house.path("file"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    private(
        &owner.house.path("program"),
        &format!("#!/bin/sh\necho {0}; echo {0} >&2; exit 7\n", CANARIES[2]),
        0o700,
    );
    for mood in [
        Mood::Sealed,
        Mood::Status(403),
        Mood::Status(500),
        Mood::Says(CANARIES[3].into()),
    ] {
        owner.vault.change(|state| state.mood = mood);
        let output = owner.moat(&["secret", "check"]);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        let told = told(&output);
        for word in ["chmod 600", "exited with status 7", "MISSING"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert_clean(&owner, "a failed check", &output);
    }
    private(
        &owner.house.path("program"),
        &format!("#!/bin/sh\nprintf '{}\\r\\nX: y'\n", CANARIES[2]),
        0o700,
    );
    let output = owner
        .house
        .command(&["secret", "check"])
        .env("SECRET", format!("{} \u{fe}", CANARIES[0]))
        .env("MORE", "more")
        .env("MOAT_LOG", "trace")
        .output()
        .unwrap();
    assert!(told(&output).contains("white space"), "{}", told(&output));
    assert_clean(&owner, "a malformed value", &output);
    // Without its variable a program is not run.
    let output = owner.house.moat(&["secret", "check", "command"]);
    assert!(
        told(&output).contains("the variable MORE"),
        "{}",
        told(&output)
    );
}

#[test]
fn a_broken_or_foreign_secrets_toml_stops_everything() {
    let owner = Owner::new();
    let path = owner.house.home().join("secrets.toml");
    owner.write("[secrets.a]\nhosts = [\"https://a.example\"]\nvalue = \"canary-env-41c7\"\n");
    for args in [&["doctor"][..], &["secret", "list"]] {
        let output = owner.moat(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", told(&output));
        let told = told(&output);
        assert!(
            told.contains("secrets.toml:3:") && told.contains("mend:"),
            "{told}"
        );
        for canary in CANARIES {
            assert_free("an error", told.as_bytes(), canary);
        }
    }
    owner.write("");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let output = owner.moat(&["doctor"]);
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains("chmod go-w"), "{}", told(&output));
}

/// What a process of the same user learns of another: whether it can read its environment and memory, and trace it.
const LOOK: &str = r#"
import ctypes, os, sys
pid = int(sys.argv[1])
def tried(what, act):
    try:
        act()
        print(what, "open")
    except OSError as error:
        print(what, "refused")
def read(name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        file.read(1)
libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno())
def remote():
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
    start = int(open(f"/proc/{pid}/maps").readline().split("-")[0], 16)
    buffer = ctypes.create_string_buffer(8)
    own, other = Vector(ctypes.addressof(buffer), 8), Vector(start, 8)
    call(libc.process_vm_readv(pid, ctypes.byref(own), 1, ctypes.byref(other), 1, 0))
tried("environ", lambda: read("environ"))
tried("maps", lambda: read("maps"))
def memory():
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
tried("mem", memory)
tried("fd", lambda: os.listdir(f"/proc/{pid}/fd"))
tried("cwd", lambda: os.readlink(f"/proc/{pid}/cwd"))
tried("process_vm_readv", remote)
def trace():
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    call(libc.ptrace(16, pid, None, None))
    os.waitpid(pid, 0)
    libc.ptrace(17, pid, None, None)
tried("ptrace", trace)
"#;

const LOOKED_AT: [&str; 7] = [
    "environ",
    "maps",
    "mem",
    "fd",
    "cwd",
    "process_vm_readv",
    "ptrace",
];

#[test]
fn a_process_of_the_same_user_cannot_look_into_moat() {
    let Some(stranger) = Stranger::new() else {
        return;
    };
    if !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let home = stranger.home();
    // Its own program holds moat up while it is looked at.
    let config =
        "[secrets.slow]\nhosts = [\"https://a.example\"]\ncommand = [\"/bin/sleep\", \"25\"]\n";
    let file = home.join(".local/state/moat/secrets.toml");
    private(&file, config, 0o600);
    stranger.give(&home);
    let mut moat = stranger.command(&stranger.program(), &["secret", "check"]);
    let mut moat = moat
        .env("SECRET", CANARIES[0])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let sleeper = child_of(moat.id());
    let look = |pid: u32| -> Vec<String> {
        let output = stranger.run("/usr/bin/python3", &["-c", LOOK, &pid.to_string()]);
        let text = told(&output);
        text.lines().map(str::to_owned).collect()
    };
    let (shielded, usual) = (look(moat.id()), look(sleeper));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", moat.id())).unwrap();
    moat.kill().unwrap();
    moat.wait().unwrap();
    for what in LOOKED_AT {
        assert!(
            shielded.contains(&format!("{what} refused")),
            "{what}: {shielded:?}"
        );
        // This test can fail: of its child, which has no secrets, all of it can be seen.
        assert!(usual.contains(&format!("{what} open")), "{what}: {usual:?}");
    }
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        core.split_whitespace().filter(|word| *word == "0").count(),
        2,
        "{core}"
    );
}

fn child_of(parent: u32) -> u32 {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        let listed = std::fs::read_dir(format!("/proc/{parent}/task"))
            .into_iter()
            .flatten()
            .flatten();
        for task in listed {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace() {
                let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                if line.starts_with(b"/bin/sleep") {
                    return child.parse().unwrap();
                }
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("moat did not run its owner's program");
}

/// Puts a key into the user's keyring, leaves the session for one that has no keyring of the user's, as a service has, and becomes moat.
const WITH_KEY: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
value = b"canary-keyring-8e"
add, control, account = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
key = libc.syscall(add, b"user", f"moat-test:{account}".encode(), value, len(value), -4)
if key < 0:
    sys.exit(77)
# Gone after a minute.
libc.syscall(control, 15, key, 60)
if libc.syscall(control, 1, None) < 0:
    sys.exit(77)
os.execv(sys.argv[4], sys.argv[4:])
"#;

#[test]
fn a_key_of_the_kernels_is_read_also_in_a_session_without_the_users_keyring() {
    let Some(stranger) = Stranger::new() else {
        return;
    };
    let (add, control) = match std::env::consts::ARCH {
        "x86_64" => ("248", "250"),
        "aarch64" => ("217", "219"),
        _ => return,
    };
    let home = stranger.home();
    let file = home.join(".local/state/moat/secrets.toml");
    let account = format!("cli-{}", std::process::id());
    let config = format!(
        "[secrets.key]\nhosts = [\"https://a.example\"]\nkeyring = {{ service = \"moat-test\", account = \"{account}\" }}\n"
    );
    private(&file, &config, 0o600);
    stranger.give(&home);
    let missing = stranger.moat(&["secret", "check"]);
    assert!(told(&missing).contains("keyctl padd"), "{}", told(&missing));
    let output = stranger.run(
        "/usr/bin/python3",
        &[
            "-c",
            WITH_KEY,
            add,
            control,
            &account,
            &stranger.program(),
            "secret",
            "check",
        ],
    );
    // Where a container forbids keyrings there is nothing to read.
    if output.status.code() != Some(77) {
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_free("the check", told(&output).as_bytes(), "canary-keyring-8e");
    }
}

/// Somebody who ends moat by a signal that leaves a core file gets none.
#[test]
fn no_core_file_is_left() {
    let house = House::new();
    private(
        &house.home().join("secrets.toml"),
        "[secrets.slow]\nhosts = [\"https://a.example\"]\ncommand = [\"/bin/sleep\", \"25\"]\n",
        0o600,
    );
    let place: PathBuf = house.path("here");
    std::fs::create_dir(&place).unwrap();
    let mut shell = Command::new("/bin/sh");
    let mut moat = shell
        .args([
            "-c",
            "ulimit -c unlimited 2>/dev/null; exec \"$0\" secret check",
            crate::house::MOAT,
        ])
        .env("MOAT_HOME", house.home())
        .env("SECRET", CANARIES[0])
        .current_dir(&place)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child_of(moat.id());
    let killed = Command::new("kill")
        .args(["-ABRT", &moat.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let ended = moat.wait().unwrap();
    assert!(
        !std::os::unix::process::ExitStatusExt::core_dumped(&ended),
        "{ended:?}"
    );
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
}
