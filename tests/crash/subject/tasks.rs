//! Eight tasks, some of which ask a model; done at the same time, and merged as one.

use super::{Kind, Subject, models};
use crate::planned::Planned;

/// `e` claims what `a` claims, `h` what `d` does; `f` comes after `b` and `c`, `g` after `f`. The first attempt at `b` leaves its claims.
const EIGHT: &str = "eight parts\n\
    TASK a|a.txt||append a.txt a; chat a\n\
    TASK b|b/**||write shared.txt mine; chat b; AGAIN write b/b.txt b\n\
    TASK c|c.txt||write c.txt c\n\
    TASK d|d.txt||append d.txt d; chat d; chat again\n\
    TASK e|A.TXT||append a.txt e\n\
    TASK f|f.txt|b,c|append f.txt f; test; chat f\n\
    TASK g|g.txt|f|write g.txt g\n\
    TASK h|d*||append d.txt h";

pub fn subject() -> Subject {
    let Planned {
        house,
        server,
        repo: _,
        base: _,
    } = Planned::with("0", |text| text.to_owned());
    models(&house.home(), &house.path("key"), server.port);
    Subject {
        kind: Kind::EightTasks,
        template: house.path(""),
        repo: "parts",
        report: EIGHT.to_owned(),
        model: Some(server),
        outside: None,
        port: None,
        _kept: Box::new(house),
    }
}
