//! Out through a proxy: what it is asked, what it may answer, and that a call through it can be given up.

use crate::ask::{chat, models};
use crate::patience::PATIENCE;
use crate::sidecar::{Sidecar, base};
use crate::upstream::Upstream;
use crate::wire;
use nvidia_sidecar::config::{OutboundProxy, ProxyUrl};
use std::io::{Read, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// A proxy that answers each CONNECT as the test says, and tunnels to one place after a 200.
struct Proxy {
    address: String,
    asked: Receiver<String>,
    listener: Arc<TcpListener>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    fn answering(answer: &'static str, to: &Upstream) -> Proxy {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap().to_string();
        let (heads, asked) = channel();
        let (accepting, to) = (listener.clone(), to.authority());
        let accept = move || {
            while let Ok((mut client, _)) = accepting.accept() {
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while wire::head_end(&head).is_none() && client.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                let _ = heads.send(String::from_utf8_lossy(&head).into_owned());
                let _ = client.write_all(answer.as_bytes());
                if answer.contains(" 200 ") {
                    tunnel(client, TcpStream::connect(&to).unwrap());
                }
            }
        };
        Proxy { address, asked, listener, acceptor: Some(Builder::new().spawn(accept).unwrap()) }
    }

    fn sidecar(&self) -> Sidecar {
        let unused = Upstream::start();
        let url = ProxyUrl::parse(&format!("http://al%40ice:s3cret@{}", self.address)).unwrap();
        Sidecar::with(&unused, |c| {
            // A name that only the proxy knows: nothing looks it up here.
            c.upstream.url = base("http://nim.invalid:8000/v1");
            c.upstream.outbound_proxy = OutboundProxy::Url(url);
            c.upstream.max_attempts = 1;
        })
    }
}

fn tunnel(client: TcpStream, upstream: TcpStream) {
    let ways = [(client.try_clone().unwrap(), upstream.try_clone().unwrap()), (upstream, client)];
    for (mut from, mut to) in ways {
        let carry = move || {
            let _ = copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        };
        drop(Builder::new().spawn(carry).unwrap());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = socket2::SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        self.acceptor.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

#[test]
fn requests_leave_through_the_proxy_with_its_user_and_password_and_connections_are_kept() {
    let upstream = Upstream::start();
    let proxy = Proxy::answering("HTTP/1.1 200 Connection established\r\n\r\n", &upstream);
    let sidecar = proxy.sidecar();
    for _ in 0..3 {
        assert_eq!(sidecar.ask(chat("a")).status(), 200);
    }
    assert_eq!(sidecar.ask(models()).status(), 200);
    let asked = proxy.asked.recv_timeout(PATIENCE).unwrap();
    assert!(asked.starts_with("CONNECT nim.invalid:8000 HTTP/1.1\r\nHost: nim.invalid:8000\r\n"), "{asked}");
    assert!(asked.contains("\r\nProxy-Authorization: Basic YWxAaWNlOnMzY3JldA==\r\n"), "{asked}");
    assert!(proxy.asked.try_recv().is_err(), "one tunnel serves one request after the other");
    let received = &upstream.received()[0];
    assert_eq!(received.field("host").as_deref(), Some("nim.invalid:8000"));
    assert_eq!(received.field("proxy-authorization"), None);
}

#[test]
fn a_proxy_that_refuses_or_dies_is_named_with_what_it_said_and_without_its_password() {
    let upstream = Upstream::start();
    for (answer, words) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        ("HTTP/1.1 403 Filtered\r\n\r\n", "403 Filtered"),
        ("", "closed the connection without an answer"),
        ("SSH-2.0-x\r\n\r\n", "not an HTTP proxy"),
    ] {
        let proxy = Proxy::answering(answer, &upstream);
        let response = proxy.sidecar().ask(chat("a"));
        response.assert_error(502, "UpstreamError");
        let text = response.text();
        assert!(text.contains(words) && text.contains(&proxy.address) && !text.contains("s3cret"), "{text}");
    }
    assert_eq!(upstream.received().len(), 0);
    let proxy = Proxy::answering("", &upstream);
    let sidecar = proxy.sidecar();
    drop(proxy);
    let text = sidecar.ask(chat("a")).text();
    assert!(text.contains("no connection to the proxy") && text.contains("it refused"), "{text}");
}

#[test]
fn a_client_that_hangs_up_while_the_proxy_is_silent_gives_the_call_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = ProxyUrl::parse(&format!("http://{}", silent.local_addr().unwrap())).unwrap();
    let unused = Upstream::start();
    let sidecar = Sidecar::with(&unused, |c| {
        c.upstream.url = base("http://nim.invalid:8000/v1");
        c.upstream.outbound_proxy = OutboundProxy::Url(url);
    });
    let client = sidecar.begin(chat("a"));
    let (mut asked, _) = silent.accept().unwrap();
    asked.set_read_timeout(Some(PATIENCE + Duration::from_secs(10))).unwrap();
    asked.read_exact(&mut [0; 7]).expect("CONNECT");
    drop(client);
    while asked.read(&mut [0; 4096]).expect("the call is given up") > 0 {}
}
