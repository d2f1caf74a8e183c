//! Servers on loopback that record every byte and answer whatever a test wants.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What a test's answer writes to.
pub(crate) trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// Whether a connection is used for another request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    KeepOn,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) port: u16,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    requests: Vec<String>,
    connections: usize,
    names: Vec<Option<String>>,
}

impl Server {
    /// In the clear.
    pub(crate) fn plain(
        ip: &str,
        answer: impl Fn(&str, &mut dyn Wire) -> Then + Send + Sync + 'static,
    ) -> Server {
        Server::on(ip, 0, None, answer)
    }

    /// At a port that is known already.
    pub(crate) fn plain_at(
        ip: &str,
        port: u16,
        answer: impl Fn(&str, &mut dyn Wire) -> Then + Send + Sync + 'static,
    ) -> Server {
        Server::on(ip, port, None, answer)
    }

    /// Over TLS, HTTP/1.1.
    pub(crate) fn tls(
        authority: &Authority,
        name: &str,
        answer: impl Fn(&str, &mut dyn Wire) -> Then + Send + Sync + 'static,
    ) -> Server {
        let config = authority.server(name, &[b"http/1.1"]);
        Server::on("127.0.0.1", 0, Some(Arc::new(config)), answer)
    }

    fn on(
        ip: &str,
        port: u16,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&str, &mut dyn Wire) -> Then + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind((ip, port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = Arc::<Mutex<Log>>::default();
        let kept = Arc::clone(&log);
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer, tls) = (Arc::clone(&kept), Arc::clone(&answer), tls.clone());
                log.lock().unwrap().connections += 1;
                std::thread::spawn(move || serve(stream.unwrap(), tls, &log, &*answer));
            }
        });
        Server { port, log }
    }

    /// Every request, byte for byte.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap().requests.clone()
    }

    /// How many connections were taken.
    pub(crate) fn connections(&self) -> usize {
        self.log.lock().unwrap().connections
    }

    /// The names that were asked for by TLS.
    pub(crate) fn names(&self) -> Vec<Option<String>> {
        self.log.lock().unwrap().names.clone()
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    log: &Mutex<Log>,
    answer: &dyn Fn(&str, &mut dyn Wire) -> Then,
) {
    stream.set_nodelay(true).unwrap();
    let mut wire: Box<dyn Wire> = match tls {
        None => Box::new(stream),
        Some(config) => {
            let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
            while stream.conn.is_handshaking() {
                if stream.conn.complete_io(&mut stream.sock).is_err() {
                    return;
                }
            }
            let name = stream.conn.server_name().map(str::to_owned);
            log.lock().unwrap().names.push(name);
            Box::new(stream)
        }
    };
    while let Some(request) = request(&mut *wire) {
        log.lock().unwrap().requests.push(request.clone());
        if answer(&request, &mut *wire) == Then::Close {
            break;
        }
    }
}

/// Reads one request by its content-length; bytes are characters.
fn request(wire: &mut dyn Wire) -> Option<String> {
    let mut text = String::new();
    let mut byte = [0];
    let wanted = |text: &str| {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        Some(length.map_or(0, |n| n.parse::<usize>().unwrap()) - body.chars().count())
    };
    while wanted(&text) != Some(0) {
        match wire.read(&mut byte) {
            Ok(1) => text.push(char::from(byte[0])),
            _ => return None,
        }
    }
    Some(text)
}

/// An answer with a length.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A server that says the same to everybody.
pub(crate) fn saying(answer: Vec<u8>) -> impl Fn(&str, &mut dyn Wire) -> Then + Send + Sync {
    move |_, wire| {
        let _ = wire.write_all(&answer);
        let _ = wire.flush();
        Then::KeepOn
    }
}

/// A certificate authority of a test's own.
pub(crate) struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Authority {
            issuer: rcgen::CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.issuer.pem().into_bytes()
    }

    /// A server's side of TLS for a name.
    pub(crate) fn server(&self, name: &str, protocols: &[&[u8]]) -> ServerConfig {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config
    }
}
