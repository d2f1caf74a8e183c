//! Server-sent events, as the WHATWG HTML standard (section 9.2) has them, from bytes that arrive in any pieces.

use crate::reply::StreamError;

/// One event of a model's stream has a few kilobytes; a line without an end is an attack on memory.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its type; empty where the stream names none.
    pub(crate) name: String,
    /// Its data, lines joined.
    pub(crate) data: String,
}

/// What has arrived of the next event.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    name: String,
    data: String,
    has_data: bool,
    after_return: bool,
    begun: bool,
}

impl Parser {
    /// Takes bytes and gives the events that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, StreamError> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                // The second half of a line break whose first half ended the line.
                b'\n' if after_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
                return Err(StreamError::broken("an event of the stream is too large"));
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Result<Option<Event>, StreamError> {
        let line = std::mem::take(&mut self.line);
        let line =
            String::from_utf8(line).map_err(|_| StreamError::broken("the stream is not UTF-8"))?;
        let line = match std::mem::replace(&mut self.begun, true) {
            false => line.strip_prefix('\u{feff}').unwrap_or(&line),
            true => &line,
        };
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = std::mem::take(&mut self.data);
            return Ok(std::mem::take(&mut self.has_data).then_some(Event { name, data }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // Comments (an empty field), ids and retry times mean nothing here.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use proptest::prelude::*;

    fn events(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        pieces
            .iter()
            .flat_map(|piece| parser.push(piece).unwrap())
            .map(|event| (event.name, event.data))
            .collect()
    }

    #[test]
    fn fields_comments_and_line_ends_are_those_of_the_standard() {
        let text = b"\xef\xbb\xbf: ping\nevent: a\ndata: one\ndata:two\r\n\r\ndata\n\nevent: lost\n\nid: 7\rdata: {\"x\": \"y: z\"}\r\r";
        let wanted = [("a", "one\ntwo"), ("", ""), ("", "{\"x\": \"y: z\"}")];
        let wanted = wanted.map(|(name, data)| (name.to_owned(), data.to_owned()));
        assert_eq!(events(&[text]), wanted);
    }

    #[test]
    fn what_is_no_text_or_has_no_end_is_refused() {
        assert!(Parser::default().push(b"data: \xff\n").is_err());
        assert!(
            Parser::default()
                .push(&vec![b'x'; EVENT_BYTES_MAX + 1])
                .is_err()
        );
        let mut parser = Parser::default();
        let many = b"data: 0123456789\n".repeat(EVENT_BYTES_MAX / 10);
        assert!(parser.push(&many).is_err());
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "((event|data|id|:)?:? ?[a-zé{}\"]{0,6}(\n|\r\n|\r)){0,12}", cuts in prop::collection::vec(0usize..200, 0..6)) {
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(&pieces), events(&[bytes]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Parser::default().push(&bytes);
        }
    }
}
