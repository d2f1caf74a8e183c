//! The door to a service of the owner's: what the service repeats of its key comes back as a mark, in whatever spelling and pieces.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;

use egress::{Credential, Door, Endpoint, PlainHttp, Secret};

const KEY: &str = "sk-canary-93cf";

/// The same in base64, but for what shares bits with what stands beside it.
const BASE64: &str = "c2stY2FuYXJ5LTkzY2";

/// A text in hex.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// A text with every byte escaped as in a URL.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Answers one request with these pieces, each in a packet of its own, and gives what it was asked with.
fn service(pieces: Vec<Vec<u8>>) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut asked = [0; 4096];
        let length = stream.read(&mut asked).unwrap();
        tell.send(String::from_utf8_lossy(&asked[..length]).into_owned())
            .unwrap();
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for piece in pieces {
            answer.extend(format!("{:x}\r\n", piece.len()).bytes());
            answer.extend_from_slice(&piece);
            answer.extend_from_slice(b"\r\n");
            stream.write_all(&answer).unwrap();
            answer.clear();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    (port, told)
}

async fn answered(pieces: Vec<Vec<u8>>) -> String {
    let (port, told) = service(pieces);
    let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}"), PlainHttp::Refused);
    let secret = Secret::new(KEY.into(), "test").unwrap();
    let credential = Credential::new("x-api-key", "{}", &secret).unwrap();
    let door = Door::open(endpoint.unwrap(), Some(credential), None).unwrap();
    let mut body = door.post("v1", &[], b"{}".to_vec()).await.unwrap().body;
    let mut came = Vec::new();
    while let Some(bytes) = body.chunk().await.unwrap() {
        assert!(!bytes.is_empty());
        came.extend_from_slice(&bytes);
    }
    assert!(body.chunk().await.unwrap().is_none(), "an end stays one");
    assert!(told.recv().unwrap().contains(KEY), "it was sent");
    String::from_utf8(came).unwrap()
}

#[tokio::test]
async fn a_service_that_repeats_its_key_brings_back_a_mark_in_its_place() {
    for spelling in [
        KEY.to_owned(),
        format!("{BASE64}Y="),
        percent(KEY),
        hex(KEY),
        hex(KEY).to_uppercase(),
        KEY.replace('-', "\\u002d"),
    ] {
        let text = format!("data: {{\"key\":\"{spelling}\"}}\n\n").into_bytes();
        for cut in 0..text.len() {
            let pieces = [&text[..cut], &text[cut..]].map(<[u8]>::to_vec);
            let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
            let came = answered(pieces.collect()).await;
            assert!(
                came.starts_with("data: {\"key\":\"[secret]") && came.ends_with("\"}\n\n"),
                "{spelling} cut at {cut}: {came}"
            );
            assert!(
                came.len() <= "data: {\"key\":\"[secret]\"}\n\n".len() + 2,
                "{came}"
            );
        }
        let bytes = text.iter().map(|byte| vec![*byte]);
        let came = answered(bytes.collect()).await;
        assert!(
            came.contains("\"[secret]"),
            "{spelling} byte by byte: {came}"
        );
    }
}

#[tokio::test]
async fn what_only_begins_like_the_key_comes_back_as_it_was() {
    let text = format!(
        "{} sk-canary-93ce c2stY2FuYXJ5 sk-canary",
        &KEY[..KEY.len() - 1]
    );
    let pieces = text.as_bytes().chunks(3).map(<[u8]>::to_vec);
    assert_eq!(answered(pieces.collect()).await, text);
}
