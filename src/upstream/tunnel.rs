//! A tunnel through an HTTP proxy (RFC 9110 §9.3.6).

use crate::config::ProxyUrl;
use crate::upstream::reason::{Kind, Reason};
use base64::prelude::{BASE64_STANDARD, Engine};
use std::io::{ErrorKind, Read, Write};

/// The largest answer of a proxy that is read.
const MAX_HEAD: usize = 16 * 1024;

/// Fields of an answer that are read.
const MAX_FIELDS: usize = 64;

/// Asks the proxy at the other end of `stream` to connect it to `host`.
///
/// # Errors
/// When it refuses, says something else, or breaks off.
pub(super) fn open(
    stream: &mut (impl Read + Write),
    proxy: &ProxyUrl,
    host: &str,
    port: u16,
) -> Result<(), Reason> {
    let broken = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock => {
            Reason::new(Kind::ConnectTimeout, format!("the proxy {proxy} did not answer in time"))
        }
        _ => Reason::new(Kind::Connect, format!("the proxy {proxy} broke off: {error}")),
    };
    stream.write_all(&ask(proxy, host, port)).map_err(broken)?;
    let mut head = Vec::new();
    loop {
        let mut piece = [0; 1024];
        let read = stream.read(&mut piece).map_err(broken)?;
        if read == 0 {
            return Err(Reason::new(
                Kind::Connect,
                format!("the proxy {proxy} closed the connection without an answer"),
            ));
        }
        head.extend_from_slice(&piece[..read]);
        if let Some(answer) = judge(&head, proxy, host, port) {
            return answer;
        }
    }
}

fn ask(proxy: &ProxyUrl, host: &str, port: u16) -> Vec<u8> {
    let mut ask = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(credentials) = proxy.credentials() {
        let encoded = BASE64_STANDARD.encode(credentials.expose());
        ask.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
    }
    ask.push_str("\r\n");
    ask.into_bytes()
}

/// What the proxy's answer means; `None` while it is not complete. The head of a 2xx is followed by what the upstream
/// sends, which speaks only when spoken to.
fn judge(head: &[u8], proxy: &ProxyUrl, host: &str, port: u16) -> Option<Result<(), Reason>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let refused = |text: String| Some(Err(Reason::new(Kind::Connect, text)));
    match response.parse(head) {
        Ok(httparse::Status::Partial) if head.len() <= MAX_HEAD => None,
        Ok(httparse::Status::Complete(length)) => match response.code.unwrap_or_default() {
            200..300 if length == head.len() => Some(Ok(())),
            407 => refused(format!(
                "the proxy {proxy} wants a user and a password (407): give them in the URL of outbound_proxy or of the environment's variable, http://USER:PASSWORD@HOST:PORT"
            )),
            code @ 300.. => {
                let reason: String = response
                    .reason
                    .unwrap_or_default()
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(60)
                    .collect();
                refused(format!("the proxy {proxy} answered {code} {reason} when asked for {host}:{port}"))
            }
            code => refused(format!("the proxy {proxy} answered {code} and more than that")),
        },
        _ => refused(format!("what answers at {proxy} is not an HTTP proxy")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    struct Scripted {
        answer: &'static [u8],
        asked: Vec<u8>,
        piece: usize,
    }

    impl Read for Scripted {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let limit = self.piece.min(into.len());
            self.answer.read(&mut into[..limit])
        }
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn opened(answer: &'static [u8]) -> (Result<(), String>, String) {
        let proxy = ProxyUrl::parse("http://user:secret@p:3128").unwrap();
        let mut results = Vec::new();
        for piece in [1, 7, 1024] {
            let mut stream = Scripted { answer, asked: Vec::new(), piece };
            let result = open(&mut stream, &proxy, "h.example", 443).map_err(|reason| reason.text);
            results.push((result, String::from_utf8(stream.asked).unwrap()));
        }
        results.pop().unwrap()
    }

    #[test]
    fn a_2xx_is_a_tunnel_and_the_password_goes_to_the_proxy() {
        let (result, asked) = opened(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n");
        assert_eq!(result, Ok(()));
        assert_eq!(
            asked,
            "CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n"
        );
    }

    #[test]
    fn a_refusal_says_what_the_proxy_said_and_no_password() {
        for (answer, words) in [
            (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], "407"),
            (
                b"HTTP/1.1 403 Filtered\r\nContent-Length: 2\r\n\r\nno",
                "answered 403 Filtered when asked for h.example:443",
            ),
            (b"HTTP/1.0 302 Found\r\nLocation: /login\r\n\r\n", "302 Found"),
            (b"SSH-2.0-OpenSSH\r\n", "not an HTTP proxy"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", "answered 100"),
            (b"HTTP/1.1 200", "closed the connection"),
            (b"", "closed the connection"),
        ] {
            let (result, _) = opened(answer);
            let text = result.unwrap_err();
            assert!(text.contains(words) && text.contains("p:3128") && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn an_endless_head_has_an_end() {
        let endless: &'static [u8] = Vec::leak([&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'x'; 40_000]].concat());
        assert!(opened(endless).0.unwrap_err().contains("not an HTTP proxy"));
    }
}
