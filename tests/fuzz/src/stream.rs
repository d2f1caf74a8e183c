//! What a model's server streams, in both wire formats and in any pieces.

use crate::reply::StreamError;
use crate::sse::{Event, Parser};
use crate::{anthropic, openai};

/// The first byte says how long the pieces are; the rest is the stream.
pub(crate) fn stream(data: &[u8]) {
    let Some((piece, body)) = data.split_first() else {
        return;
    };
    let whole = events(&[body]);
    let pieces: Vec<&[u8]> = body.chunks(usize::from(*piece).max(1)).collect();
    assert_eq!(whole, events(&pieces), "pieces matter");
    let Ok(events) = whole else { return };

    let mut decoder = anthropic::Decoder::default();
    if feed(&events, |event| decoder.event(event)).is_ok() {
        let usage = decoder.usage();
        let _ = usage.plus(usage).tokens();
        let _ = decoder.assembly.tokens_reckoned();
        let _ = decoder.finish(usage);
    }
    let mut decoder = openai::Decoder::default();
    if feed(&events, |event| decoder.event(event)).is_ok() {
        let usage = decoder.usage();
        let _ = usage.plus(usage).tokens();
        let _ = decoder.assembly.tokens_reckoned();
        let _ = decoder.finish(usage);
    }
}

fn events(pieces: &[&[u8]]) -> Result<Vec<Event>, StreamError> {
    let mut parser = Parser::default();
    let mut all = Vec::new();
    for piece in pieces {
        all.extend(parser.push(piece)?);
    }
    Ok(all)
}

/// As the client does: until the decoder says that it is done.
fn feed(
    events: &[Event],
    mut take: impl FnMut(&Event) -> Result<bool, StreamError>,
) -> Result<(), StreamError> {
    for event in events.iter().filter(|event| !event.data.trim().is_empty()) {
        if take(event)? {
            break;
        }
    }
    Ok(())
}
