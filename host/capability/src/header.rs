//! The one list of header rules: what a header is by its name, who may write and see it, and how large a head may be.
//!
//! Manifests, the sandbox's broker and worker, and the outbound door all ask here.

/// Header fields of one message.
pub const FIELDS_MAX: usize = 100;

/// A request's headers together, as [`Size`] counts them. Servers take about as much.
pub const REQUEST_BYTES_MAX: usize = 16 << 10;

/// An answer's headers, or its trailers, together.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A path with its query. Servers take about as much.
pub const PATH_BYTES_MAX: usize = 8 << 10;

/// What a header is, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Frames a message, speaks of one connection, or names another way to the host.
    Connection,
    /// Says where a request goes or came from, or makes a server take it for another one than it was checked as.
    Route,
    /// Proves who asks, or keeps a session: between the host and the server.
    Session,
    /// What services call the header that carries their key.
    Key,
    /// Asks for a piece of an answer: pieces of one that repeats a secret would hold pieces of it.
    Piece,
    /// Says what a message as a whole is.
    Content,
    /// Any other.
    Plain,
}

const NAMES: &[(&str, Header)] = &[
    ("alt-svc", Header::Connection),
    ("connection", Header::Connection),
    ("expect", Header::Connection),
    ("host", Header::Connection),
    ("http2-settings", Header::Connection),
    ("keep-alive", Header::Connection),
    ("te", Header::Connection),
    ("trailer", Header::Connection),
    ("transfer-encoding", Header::Connection),
    ("upgrade", Header::Connection),
    ("forwarded", Header::Route),
    ("via", Header::Route),
    ("x-host", Header::Route),
    ("x-http-method", Header::Route),
    ("x-http-method-override", Header::Route),
    ("x-method-override", Header::Route),
    ("x-original-host", Header::Route),
    ("x-original-url", Header::Route),
    ("x-real-ip", Header::Route),
    ("x-rewrite-url", Header::Route),
    ("authentication-info", Header::Session),
    ("authorization", Header::Session),
    ("cookie", Header::Session),
    ("cookie2", Header::Session),
    ("set-cookie", Header::Session),
    ("set-cookie2", Header::Session),
    ("www-authenticate", Header::Session),
    ("api-key", Header::Key),
    ("x-api-key", Header::Key),
    ("x-auth-key", Header::Key),
    ("if-range", Header::Piece),
    ("range", Header::Piece),
    ("accept-encoding", Header::Content),
    ("content-encoding", Header::Content),
    ("content-length", Header::Content),
    ("content-range", Header::Content),
    ("content-type", Header::Content),
    ("location", Header::Content),
    ("user-agent", Header::Content),
];

/// As [`NAMES`], by how they begin.
const BEGINNINGS: &[(&str, Header)] = &[
    ("proxy-", Header::Connection),
    ("sec-websocket-", Header::Connection),
    ("x-forwarded", Header::Route),
];

/// As [`NAMES`], by how they end.
const ENDINGS: &[(&str, Header)] = &[
    ("token", Header::Key),
    ("secret", Header::Key),
    ("signature", Header::Key),
    ("apikey", Header::Key),
    ("api-key", Header::Key),
    ("access-key", Header::Key),
    ("auth-key", Header::Key),
    ("subscription-key", Header::Key),
];

/// Servers that hand headers on as variables take `_` and `-` for the same.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Whether servers may take two names for one.
pub fn alike(one: &str, other: &str) -> bool {
    folded(one) == folded(other)
}

impl Header {
    /// What the header of this name is; cases, `_` and `-` make no difference.
    pub fn of(name: &str) -> Header {
        let name = folded(name);
        let exactly = NAMES.iter().find(|(known, _)| name == *known);
        exactly
            .or_else(|| BEGINNINGS.iter().find(|(known, _)| name.starts_with(known)))
            .or_else(|| ENDINGS.iter().find(|(known, _)| name.ends_with(known)))
            .map_or(Header::Plain, |(_, header)| *header)
    }

    /// Whether it is kept from guests both ways: theirs neither to write nor to see.
    pub fn is_hosts(self) -> bool {
        matches!(self, Header::Connection | Header::Session)
    }

    /// Whether a guest may write it into a request.
    pub fn may_be_asked(self) -> bool {
        !self.is_hosts() && !matches!(self, Header::Route | Header::Key)
    }

    /// Whether a request that carries a secret may have it.
    pub fn may_go_with_a_secret(self) -> bool {
        self != Header::Piece
    }

    /// Whether a guest may see it in the trailers of an answer: they change nothing of what was said before.
    pub fn may_trail(self) -> bool {
        !self.is_hosts() && self != Header::Content
    }

    /// Whether the host may put a secret into it.
    pub fn may_carry_a_secret(self) -> bool {
        matches!(self, Header::Session | Header::Key | Header::Plain)
    }
}

/// Whether a header, by its lower-case name, says nothing beyond one connection. Names that only look like it are no such headers.
pub fn ends_with_the_connection(name: &str) -> bool {
    let true_name = !name.contains('_');
    true_name && (name == "content-length" || Header::of(name) == Header::Connection)
}

/// How much a message's headers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// How many.
    pub fields: usize,
    /// Names and values with what is between two of them on the wire.
    pub bytes: usize,
}

impl Size {
    /// Of headers, each by the lengths of its name and its value.
    pub fn of(fields: impl IntoIterator<Item = (usize, usize)>) -> Size {
        let mut size = Size::default();
        for (name, value) in fields {
            size.fields += 1;
            size.bytes = size
                .bytes
                .saturating_add(name)
                .saturating_add(value)
                .saturating_add(": \r\n".len());
        }
        size
    }

    /// Whether a request may have so much.
    pub fn fits_a_request(self) -> bool {
        self.fields <= FIELDS_MAX && self.bytes <= REQUEST_BYTES_MAX
    }

    /// Whether an answer may have so much, and its trailers as much again.
    pub fn fits_an_answer(self) -> bool {
        self.fields <= FIELDS_MAX && self.bytes <= ANSWER_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_the_same_in_every_spelling() {
        for (names, header) in [
            (
                &[
                    "transfer-encoding",
                    "Transfer_Encoding",
                    "TE",
                    "Proxy-Anything",
                    "Sec-WebSocket-Key",
                    "Alt-Svc",
                ][..],
                Header::Connection,
            ),
            (
                &[
                    "Forwarded",
                    "x_forwarded_for",
                    "X-Forwarded-Host",
                    "X-HTTP-Method-Override",
                ],
                Header::Route,
            ),
            (
                &["Authorization", "Cookie", "SET_COOKIE2", "www-authenticate"],
                Header::Session,
            ),
            (
                &[
                    "X-Vault-Token",
                    "x_api_key",
                    "Ocp-Apim-Subscription-Key",
                    "X-Hub-Signature",
                ],
                Header::Key,
            ),
            (&["Range", "If-Range"], Header::Piece),
            (
                &["Content_Length", "Location", "User-Agent"],
                Header::Content,
            ),
            (
                &["accept", "x-mine", "tokens", "if-match", "tea", ""],
                Header::Plain,
            ),
        ] {
            for name in names {
                assert_eq!(Header::of(name), header, "{name}");
            }
        }
    }

    #[test]
    fn every_name_is_listed_once_and_as_it_is_looked_for() {
        for (at, (name, _)) in NAMES.iter().enumerate() {
            assert_eq!(folded(name), *name);
            assert!(
                NAMES[at + 1..].iter().all(|(other, _)| other != name),
                "{name}"
            );
        }
    }

    #[test]
    fn who_may_do_what_with_which_header() {
        use Header::{Connection, Content, Key, Piece, Plain, Route, Session};
        let all = [Connection, Route, Session, Key, Piece, Content, Plain];
        let which =
            |may: fn(Header) -> bool| all.into_iter().filter(|one| may(*one)).collect::<Vec<_>>();
        assert_eq!(which(Header::is_hosts), [Connection, Session]);
        assert_eq!(which(Header::may_be_asked), [Piece, Content, Plain]);
        assert_eq!(which(Header::may_trail), [Route, Key, Piece, Plain]);
        assert_eq!(which(Header::may_carry_a_secret), [Session, Key, Plain]);
        assert!(!Piece.may_go_with_a_secret() && Plain.may_go_with_a_secret());
    }

    #[test]
    fn what_ends_with_a_connection_is_told_by_its_true_name() {
        for name in ["connection", "content-length", "proxy-x", "te"] {
            assert!(ends_with_the_connection(name), "{name}");
        }
        for name in [
            "transfer_encoding",
            "content_length",
            "accept",
            "authorization",
        ] {
            assert!(!ends_with_the_connection(name), "{name}");
        }
    }

    #[test]
    fn a_head_is_counted_with_what_stands_between() {
        let size = Size::of([(1, 2), (3, 0)]);
        assert_eq!(
            size,
            Size {
                fields: 2,
                bytes: 14
            }
        );
        assert!(Size::of([(0, REQUEST_BYTES_MAX - 4)]).fits_a_request());
        assert!(!Size::of([(0, REQUEST_BYTES_MAX - 3)]).fits_a_request());
        assert!(Size::of([(0, ANSWER_BYTES_MAX - 4)]).fits_an_answer());
        assert!(!Size::of([(usize::MAX, usize::MAX)]).fits_an_answer());
        let many = |count| Size::of(std::iter::repeat_n((1, 1), count));
        assert!(many(FIELDS_MAX).fits_a_request() && !many(FIELDS_MAX + 1).fits_a_request());
        assert!(many(FIELDS_MAX).fits_an_answer() && !many(FIELDS_MAX + 1).fits_an_answer());
    }
}
