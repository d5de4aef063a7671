//! TLS over a connection to the upstream, with an end that is only clean when the upstream said so.

use crate::clock::Moment;
use crate::upstream::reason::{Kind, Reason};
use crate::upstream::tcp::Tcp;
use crate::upstream::trust::Refused;
use crate::upstream::wire::Wire;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, InvalidMessage};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

/// A TLS session and what carries it.
pub(super) struct Tls {
    session: ClientConnection,
    under: Box<dyn Wire>,
}

impl Tls {
    /// Shakes hands with `host`, within the time that the connection has.
    pub(super) fn connect(
        config: Arc<ClientConfig>,
        host: &str,
        mut under: Box<dyn Wire>,
    ) -> Result<Tls, Reason> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            Reason::new(Kind::Connect, format!("{host} is not a name that a certificate can have"))
        })?;
        let mut session = ClientConnection::new(config, name).map_err(|error| {
            Reason::new(Kind::Connect, format!("TLS cannot be used with {host}: {error}"))
        })?;
        while session.is_handshaking() {
            match session.complete_io(&mut under) {
                Ok(_) => {}
                Err(error) => return Err(handshake_failure(host, &error)),
            }
        }
        Ok(Tls { session, under })
    }

    fn send_records(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.under)?;
        }
        Ok(())
    }
}

impl Wire for Tls {
    fn tcp(&mut self) -> &mut Tcp {
        self.under.tcp()
    }

    /// What TLS itself sends, such as tickets, may still have to be read.
    fn is_quiet(&mut self) -> bool {
        // Reads what is there without waiting.
        self.tcp().until(Moment::ZERO);
        loop {
            match self.session.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
                _ => return false,
            }
            if self.under.is_quiet() {
                return true;
            }
            if !matches!(self.session.read_tls(&mut self.under), Ok(1..)) {
                return false;
            }
        }
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.session.writer().write(bytes)?;
        self.send_records()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_records()
    }
}

impl Read for Tls {
    /// An end without close_notify is [`ErrorKind::UnexpectedEof`] (RFC 8446 §6.1).
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.session.read_tls(&mut self.under)?;
            let processed = self.session.process_new_packets();
            // A broken record is answered with an alert, a key update with another one.
            self.send_records()?;
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }
}

fn handshake_failure(host: &str, error: &io::Error) -> Reason {
    if error.kind() == ErrorKind::WouldBlock {
        return Reason::new(Kind::ConnectTimeout, format!("the TLS handshake with {host} took too long"));
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(wrong)) => {
            let text = match wrong {
                CertificateError::Other(other) => other.0.downcast_ref::<Refused>().map(ToString::to_string),
                _ => None,
            };
            Reason::new(
                Kind::Untrusted,
                text.unwrap_or_else(|| format!("the certificate of {host} is refused: {wrong}")),
            )
        }
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Reason::new(
            Kind::Connect,
            format!("{host} does not speak TLS on this port: use http:// in its URL"),
        ),
        Some(other) => Reason::new(Kind::Connect, format!("no TLS with {host}: {other}")),
        None => Reason::new(Kind::Connect, format!("{host} ended the TLS handshake: {error}")),
    }
}
