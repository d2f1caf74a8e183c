//! What was written down: the events of a run and the entries of a transcript, read again by whatever version comes later.

use flow::Recorded;

use crate::transcript::Entry;

/// Lines of JSON. What can be read is the same once written and read again, and no order of events makes the rules panic.
pub(crate) fn journal(data: &[u8]) {
    let mut run = None;
    for line in data.split(|byte| *byte == b'\n').take(64) {
        if let Ok(entry) = serde_json::from_slice::<Entry>(line) {
            let written = serde_json::to_vec(&entry).unwrap();
            assert_eq!(serde_json::from_slice::<Entry>(&written).unwrap(), entry);
        }
        let Ok(recorded) = serde_json::from_slice::<Recorded>(line) else {
            continue;
        };
        let written = serde_json::to_vec(&recorded).unwrap();
        assert_eq!(
            serde_json::from_slice::<Recorded>(&written).unwrap(),
            recorded
        );
        let before = run.clone();
        run = match flow::apply(run, &recorded) {
            Ok(after) => {
                let _ = flow::next(&after);
                Some(after)
            }
            Err(_) => before,
        };
    }
}
