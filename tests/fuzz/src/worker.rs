//! What a worker that its guest has taken over may send: frames, host calls and their records.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::message::http::{Asked, Head, Piece};
use crate::message::model::Request;
use crate::message::process::Command;
use crate::message::{ToBroker, frame, is_sparse, read_frame};

/// A stream of frames; as the broker reads them, and typed as it takes them.
pub(crate) fn worker(data: &[u8]) {
    let mut stream = data;
    // The length of a first frame that is not there yet would be believed; the broker itself grows as bytes arrive.
    while let Some(length) = stream.first_chunk().map(|four| u32::from_le_bytes(*four)) {
        let whole = stream.len() - 4 >= length as usize;
        if !whole || !is_sparse(&stream[4..4 + length as usize]) {
            break;
        }
        match read_frame::<ToBroker>(&mut stream) {
            Ok(Some(message)) => one(&message),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    // The bytes without a frame around them: the fuzzer need not find the length first.
    if let Ok(message) = serde_json::from_slice::<ToBroker>(data) {
        one(&message);
    }
}

fn one(message: &ToBroker) {
    let framed = frame(message).unwrap();
    let again = read_frame::<ToBroker>(&mut framed.as_slice())
        .unwrap()
        .unwrap();
    assert_eq!(frame(&again).unwrap(), framed);
    if let ToBroker::Call(call) = message {
        for argument in &call.args {
            typed::<Command>(argument);
            typed::<Request>(argument);
            typed::<Head>(argument);
            typed::<Piece>(argument);
            asked(argument);
        }
    }
}

/// A record is the same once written and read again.
fn typed<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(value: &Value) {
    if let Ok(record) = T::deserialize(value) {
        let written = serde_json::to_value(&record).unwrap();
        assert_eq!(serde_json::from_value::<T>(written).unwrap(), record);
    }
}

/// As [`typed`], for a request of a guest.
fn asked(value: &Value) {
    if let Ok(asked) = Asked::deserialize(value) {
        let written = serde_json::to_value(&asked).unwrap();
        let again = Asked::deserialize(&written).unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), written);
        assert_eq!((again.body, again.headers), (asked.body, asked.headers));
    }
}
