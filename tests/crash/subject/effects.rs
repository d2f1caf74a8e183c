//! A run whose triage does things outside: where a key is taken, where none is, and one of which it keeps account. What it then makes of the
//! parking meter is deployed.

use std::path::Path;

use support::model::{Answer, script, text};

use super::{Kind, Outside, Subject, commit, demo, edit, free_port, meter, models};
use crate::house::guest;

/// In one line, as the skill writes it.
const MENDED: &str = "def fee(minutes): return (200 if minutes <= 60 else 400) if minutes >= 0 else int(\"negative\")";

const LIMITS: &str = "\n[limits]\nmemory = \"128MiB\"\ntime = \"5m\"\n";

pub fn subject() -> Subject {
    let (template, port) = (super::directory(), free_port());
    let outside = Outside::new();
    let model = script(vec![Answer::Says(vec![text("yes")])]);
    let home = template.path().join("home");
    models(&home, &template.path().join("key"), model.port);
    let repo = meter(template.path());
    let file = repo.join("moat.toml");
    edit(
        &file,
        &[
            ("implement = \"implement\"", "implement = \"doer\""),
            ("triage = \"triage\"", "triage = \"asker\""),
        ],
    );
    demo::deploys(&file, "doer", port);
    skills(&repo, &outside);
    std::fs::write(home.join("policy.toml"), policy(outside.port())).unwrap();
    commit(&repo);
    let report = format!(
        "DEEDS\nPOST {}\nPOST {}\nMIGRATE 0042 {}\nPOST {}\nITEM\none full hour is charged as two\nDO chat hello\nDO write meter/fees.py {MENDED}\nDO chat done\n",
        outside.plain("mail"),
        outside.keyed("ticket"),
        outside.keyed("0042"),
        outside.plain("page"),
    );
    Subject {
        kind: Kind::Effects,
        template: template.path().to_owned(),
        repo: "meter",
        report,
        model: Some(model),
        outside: Some(outside),
        port: Some(port),
        _kept: Box::new(template),
    }
}

fn skills(repo: &Path, outside: &Outside) {
    let port = outside.port();
    let rule = |methods: &str, path: &str, more: &str| {
        format!(
            "[[network]]\nhost = \"localhost\"\nscheme = \"http\"\nport = {port}\nmethods = [\"{methods}\"]\npaths = [\"{path}\"]\n{more}reason = \"r\"\n\n"
        )
    };
    let asks = [
        rule("POST", "/v1/plain", ""),
        rule("POST", "/v1/keyed", "idempotency = \"Idempotency-Key\"\n"),
        rule("GET", "/v1/keyed", ""),
        imports(10),
        "[release]\nreason = \"the component imports it\"\n".into(),
    ];
    let works = [
        "[[files]]\npath = \".\"\naccess = \"write\"\nreason = \"r\"\n\n".into(),
        imports(4000),
    ];
    for (name, role, more, component) in [
        (
            "asker",
            "triage",
            asks.concat(),
            guest("guests", "probe.wasm"),
        ),
        (
            "doer",
            "implement",
            works.concat(),
            guest("doer", "doer.wasm"),
        ),
    ] {
        let folder = repo.join("tools").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let manifest = format!(
            "[skill]\nname = \"{name}\"\nversion = \"0.1.0\"\nrole = \"{role}\"\ndescription = \"does as it is told\"\n\n{more}{LIMITS}"
        );
        std::fs::write(folder.join("skill.toml"), manifest).unwrap();
        std::fs::write(folder.join("component.wasm"), component).unwrap();
    }
    let file = repo.join("moat.toml");
    let origin = format!("http://localhost:{port}");
    let grants = format!(
        "\n[skills]\nasker = \"tools/asker\"\ndoer = \"tools/doer\"\n\n\
         [[grant]]\nskill = \"asker\"\nnetwork = [\"POST {origin}/v1/plain\", \"POST {origin}/v1/keyed\", \"GET {origin}/v1/keyed\"]\n\
         commands = [\"test\"]\nmodels = [\"coder\"]\nrelease = true\n\n\
         [[grant]]\nskill = \"doer\"\nwrite = [\".\"]\ncommands = [\"test\"]\nmodels = [\"coder\"]\n"
    );
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, text + &grants).unwrap();
}

/// What both components import, whether or not they use it.
fn imports(tokens: u32) -> String {
    format!(
        "[[processes]]\nproject = \"test\"\nreason = \"r\"\n\n[model]\naliases = [\"coder\"]\nmax-tokens = {tokens}\nreason = \"r\"\n\n"
    )
}

/// Lets skills speak to the service, which is on this machine.
fn policy(port: u16) -> String {
    format!(
        "hidden = []\n[[ceiling]]\nread = [\".\"]\nwrite = [\".\"]\ncommands = [\"*\"]\nmodels = [\"*\"]\nmax-tokens = 100000\nrelease = true\n\
         memory = \"1GiB\"\ntime = \"10m\"\nnetwork = [\"http://localhost:{port}\"]\nprivate = [\"http://localhost:{port}\"]\n"
    )
}
