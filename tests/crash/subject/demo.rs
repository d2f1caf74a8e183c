//! The demo: a search mends the parking meter, which is then deployed.

use super::{Kind, Subject, commit, edit, free_port, meter};

pub const SERVER: &str = include_str!("../../../host/app/demo/meter/server.py");
pub const SERVER_TESTS: &str = include_str!("../../../host/app/demo/tests/test_server.py");
/// The demo's tariff, so short that a search through it is: what is killed after it has been searched is searched again.
pub const FEES: &str = "\"\"\"The tariff.\"\"\"\n\n\ndef fee(minutes):\n    \"\"\"Gives the fee.\"\"\"\n    if minutes < 0:\n        raise ValueError(\"a stay cannot be negative\")\n    return 200 if minutes < 60 else 400\n";
pub const FEES_TESTS: &str = "import unittest\n\nfrom meter.fees import fee\n\n\nclass Fee(unittest.TestCase):\n    def test_a_begun_hour_counts(self):\n        \
     self.assertEqual(fee(1), 200)\n        self.assertEqual(fee(61), 400)\n\n    def test_a_full_hour_is_one_hour(self):\n        \
     self.assertEqual(fee(60), 200)\n        self.assertEqual(fee(59), 200)\n";
pub const REPORT: &str = "one full hour is charged as two\n\ntests/test_fees.py shows it: fee(60) should be 200 and is 400.";

pub fn subject() -> Subject {
    let (template, port) = (super::directory(), free_port());
    let repo = meter(template.path());
    deploys(&repo.join("moat.toml"), "search-repair", port);
    commit(&repo);
    Subject {
        kind: Kind::Demo,
        template: template.path().to_owned(),
        repo: "meter",
        report: REPORT.to_owned(),
        model: None,
        outside: None,
        port: Some(port),
        _kept: Box::new(template),
    }
}

/// Has the service deployed at this port after `implement`.
pub fn deploys(file: &std::path::Path, implement: &str, port: u16) {
    let step = format!("implement = \"{implement}\"");
    edit(file, &[(&step, &format!("{step}\ndeploy = \"deploy\""))]);
    let more = format!(
        "\n[deploy]\nstart = [\"python3\", \"-m\", \"meter.server\", \"--port\", \"{port}\"]\n\
         health = \"http://127.0.0.1:{port}/health\"\nexpect-status = 200\npatience = \"20s\"\nkeep = 3\n\n\
         [[grant]]\nskill = \"deploy\"\nrelease = true\n"
    );
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, text + &more).unwrap();
}
