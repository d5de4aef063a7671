//! TLS to the upstream: whose certificates are accepted, what is said of those that are not, and where an answer ends.

use crate::ask::{ask, chat};
use crate::patience::PATIENCE;
use crate::process::{Place, Process};
use crate::sidecar::{Sidecar, base};
use crate::upstream::Upstream;
use crate::wire;
use nvidia_sidecar::config::Config;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

type TlsStream = StreamOwned<ServerConnection, TcpStream>;

/// A certificate with its key, and as text.
struct Certified {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pem: String,
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn certified(certificate: &rcgen::Certificate, key: &KeyPair) -> Certified {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Certified { chain: vec![certificate.der().clone()], key, pem: certificate.pem() }
}

/// What `openssl req -x509 -subj /CN=nim` makes: an authority of its own, for no host.
fn self_signed(name: &str) -> Certified {
    let key = KeyPair::generate().unwrap();
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    certified(&params.self_signed(&key).unwrap(), &key)
}

/// A company's authority, and a certificate of `localhost` from it.
fn of_authority(name: &str) -> (Certified, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = named(name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name = named("server").distinguished_name;
    let issuer = Issuer::new(authority, authority_key);
    (certified(&params.signed_by(&key, &issuer).unwrap(), &key), pem)
}

/// A TLS upstream that does with each connection what the test says.
struct TlsUpstream {
    url: String,
    connections: Arc<AtomicUsize>,
    listener: Arc<TcpListener>,
    acceptor: Option<JoinHandle<()>>,
}

impl TlsUpstream {
    fn new(certified: &Certified, serve: impl Fn(TlsStream) + Send + Sync + 'static) -> TlsUpstream {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certified.chain.clone(), certified.key.clone_key())
            .unwrap();
        let (config, serve) = (Arc::new(config), Arc::new(serve));
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let url = format!("https://localhost:{}/v1", listener.local_addr().unwrap().port());
        let connections = Arc::new(AtomicUsize::new(0));
        let (accepting, counted) = (listener.clone(), connections.clone());
        let accept = move || {
            while let Ok((socket, _)) = accepting.accept() {
                counted.fetch_add(1, Ordering::SeqCst);
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.set_nodelay(true).unwrap();
                let (config, serve) = (config.clone(), serve.clone());
                let served = Builder::new().spawn(move || {
                    serve(StreamOwned::new(ServerConnection::new(config).unwrap(), socket));
                });
                drop(served.unwrap());
            }
        };
        TlsUpstream { url, connections, listener, acceptor: Some(Builder::new().spawn(accept).unwrap()) }
    }

    /// One that answers every request with 200.
    fn answering(certified: &Certified) -> TlsUpstream {
        TlsUpstream::new(certified, |mut stream| {
            while read_request(&mut stream).is_some() {
                let _ = stream.write_all(&wire::json(200, &[], "{}"));
            }
        })
    }

    fn sidecar(&self, configure: impl FnOnce(&mut Config)) -> Sidecar {
        let unused = Upstream::start();
        Sidecar::with(&unused, |c| {
            c.upstream.url = base(&self.url);
            configure(c);
        })
    }
}

impl Drop for TlsUpstream {
    fn drop(&mut self) {
        let _ = socket2::SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        self.acceptor.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// Reads a request; its method, if it came whole.
fn read_request(stream: &mut TlsStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = wire::head_end(&bytes) {
            let length = wire::field_of(&bytes[..end], "content-length").map_or(0, |v| v.parse().unwrap());
            if bytes.len() >= end + length {
                return String::from_utf8_lossy(&bytes).split(' ').next().map(str::to_owned);
            }
        }
        match stream.read(&mut piece) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&piece[..n]),
            _ => return None,
        }
    }
}

#[test]
fn an_authority_in_the_file_is_trusted_alone_or_beside_the_public_ones() {
    let (server, authority) = of_authority("Corp Root");
    let upstream = TlsUpstream::answering(&server);
    let place = Place::new();
    let file = place.file("ca.pem");
    fs::write(&file, authority).unwrap();
    for only in [false, true] {
        let sidecar = upstream.sidecar(|c| {
            c.upstream.ca_file = Some(file.clone());
            c.upstream.ca_only = only;
        });
        assert_eq!(sidecar.ask(chat("a")).status(), 200, "{only}");
    }
}

#[test]
fn a_certificate_that_is_refused_is_not_tried_again_and_its_issuer_and_the_cure_are_named() {
    let (server, _) = of_authority("Corp Root");
    let upstream = TlsUpstream::answering(&server);
    let sidecar = upstream.sidecar(|_| {});
    let answer = sidecar.ask(chat("a"));
    answer.assert_error(502, "UpstreamError");
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("CN=Corp Root") && message.contains("upstream_ca_file"), "{message}");
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
    let ready = sidecar.ask(ask("GET", "/health/ready")).json();
    assert_eq!(ready["problems"][0]["detail"], message, "{ready}");
}

#[test]
fn a_servers_own_certificate_is_accepted_for_that_server_and_no_other() {
    let (own, other) = (self_signed("nim"), self_signed("other"));
    let place = Place::new();
    let file = place.file("nim.pem");
    fs::write(&file, &own.pem).unwrap();
    for only in [false, true] {
        let trusting = |c: &mut Config| {
            c.upstream.ca_file = Some(file.clone());
            c.upstream.ca_only = only;
        };
        let upstream = TlsUpstream::answering(&own);
        assert_eq!(upstream.sidecar(trusting).ask(chat("a")).status(), 200);
        let upstream = TlsUpstream::answering(&other);
        upstream.sidecar(trusting).ask(chat("a")).assert_error(502, "UpstreamError");
    }
}

#[test]
fn the_systems_authorities_are_trusted_and_ssl_cert_file_names_them() {
    let (server, authority) = of_authority("Corp Root");
    let upstream = TlsUpstream::answering(&server);
    let place = Place::new();
    fs::write(place.file("system.pem"), authority).unwrap();
    let path = place.configure(&format!("upstream_url: {}", upstream.url));
    let mut command = Command::new(env!("CARGO_BIN_EXE_nvidia-sidecar"));
    command.env_clear().env("SSL_CERT_FILE", place.file("system.pem")).arg("--config").arg(path);
    let process = Process::of(&mut command);
    assert_eq!(process.ask(chat("a")).status(), 200);
}

#[test]
fn a_plain_port_behind_https_is_named() {
    let plain = Upstream::start();
    let url = plain.url("/v1").replace("http:", "https:");
    let answer = Sidecar::with(&plain, |c| {
        c.upstream.url = base(&url);
        c.upstream.max_attempts = 1;
        // It waits for the end of what it takes for a head.
        c.upstream.first_byte_timeout = Duration::from_secs(1);
    })
    .ask(chat("a"));
    assert!(matches!(answer.status(), 502 | 504), "{}", answer.text());
    assert!(answer.text().contains("TLS"), "{}", answer.text());
}

#[test]
fn an_answer_without_a_length_ends_where_tls_says_so_and_nowhere_else() {
    let (server, authority) = of_authority("Corp Root");
    let place = Place::new();
    let file = place.file("ca.pem");
    fs::write(&file, authority).unwrap();
    for clean in [true, false] {
        let upstream = TlsUpstream::new(&server, move |mut stream| {
            if read_request(&mut stream).is_some() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf of the ans");
                if clean {
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
                let _ = stream.sock.shutdown(Shutdown::Write);
                let _ = stream.sock.read(&mut [0; 64]);
            }
        });
        let sidecar = upstream.sidecar(|c| c.upstream.ca_file = Some(file.clone()));
        let answer = sidecar.begin(chat("a")).try_answer();
        assert_eq!(answer.is_ok(), clean, "{answer:?}");
    }
}

#[test]
fn bytes_behind_an_answer_are_never_the_next_clients_over_tls_either() {
    let (server, authority) = of_authority("Corp Root");
    let place = Place::new();
    let file = place.file("ca.pem");
    fs::write(&file, authority).unwrap();
    let (poisoned, poisonings) = crossbeam_channel::unbounded();
    let upstream = TlsUpstream::new(&server, move |mut stream| {
        while let Some(method) = read_request(&mut stream) {
            let _ = stream.write_all(&wire::json(200, &[], "true"));
            let _ = stream.write_all(&wire::json(200, &[], "POISON"));
            // Not after a probe of readiness, for which nothing waits.
            if method == "POST" {
                let _ = poisoned.send(());
            }
        }
    });
    let sidecar = upstream.sidecar(|c| c.upstream.ca_file = Some(file.clone()));
    for _ in 0..20 {
        assert_eq!(sidecar.ask(chat("a")).text(), "true");
        poisonings.recv_timeout(PATIENCE).unwrap();
    }
    assert!(upstream.connections.load(Ordering::SeqCst) >= 20, "none of them was used again");
}
