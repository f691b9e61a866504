//! One connection to a gateway.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::ClientError;
use crate::wire::{ErrorBody, ErrorCode};

/// Refusals are short.
const LARGEST_REFUSAL_BYTES: usize = 64 * 1024;

/// Bounds what a gateway can make this process buffer.
const BUFFER_BYTES: usize = 64 * 1024;

/// Where a gateway is.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    authority: String,
}

impl Endpoint {
    pub(super) fn from_url(url: &Url) -> Result<Self, ClientError> {
        let wrong = |reason| ClientError::Url {
            url: url.to_string(),
            reason,
        };
        if url.scheme() != "https" {
            return Err(wrong("it is not https"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || !url.username().is_empty() {
            return Err(wrong("it has more than host and port"));
        }
        let host = match url.host().ok_or_else(|| wrong("it has no host"))? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let port = url.port_or_known_default().ok_or_else(|| wrong("it has no port"))?;
        let server_name =
            ServerName::try_from(host.clone()).map_err(|_| wrong("its host is neither a name nor an address"))?;
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Ok(Self {
            host,
            port,
            server_name,
            authority,
        })
    }

    /// `host:port`.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// A connection for one request. It ends with the response's body.
    pub(super) async fn connect(
        &self,
        tls: Arc<ClientConfig>,
        limit: Duration,
    ) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let unreachable = |source| ClientError::Unreachable {
            gateway: self.authority.clone(),
            source,
        };
        let connecting = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port))
                .await
                .map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            let stream = TlsConnector::from(tls)
                .connect(self.server_name.clone(), stream)
                .await
                .map_err(|error| ClientError::of_connection(&self.authority, error.into()))?;
            http1::Builder::new()
                .max_buf_size(BUFFER_BYTES)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| self.broken(error))
        };
        let (sender, connection) = timeout(limit, connecting)
            .await
            .map_err(|_| self.timed_out("a TLS handshake", limit))??;
        tokio::spawn(async move {
            // The request, or its body, gets the same error.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "gateway connection ended");
            }
        });
        Ok(sender)
    }

    /// Reads a body that must not be larger than `largest`.
    pub(super) async fn read_whole(&self, response: Response<Incoming>, largest: usize) -> Result<Bytes, ClientError> {
        match Limited::new(response.into_body(), largest).collect().await {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(self.nonsense(format!("more than {largest} bytes")))
            }
            Err(error) => Err(ClientError::of_connection(&self.authority, error)),
        }
    }

    /// The reason in an answer that is not 2xx.
    pub(super) async fn refusal(&self, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        let body = match self.read_whole(response, LARGEST_REFUSAL_BYTES).await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|_| {
                ErrorBody::new(ErrorCode::Unknown, format!("HTTP status {status}, without a reason"))
            }),
            Err(error) => return error,
        };
        ClientError::Refused {
            gateway: self.authority.clone(),
            status,
            body,
        }
    }

    pub(super) fn broken(&self, error: hyper::Error) -> ClientError {
        ClientError::of_connection(&self.authority, error.into())
    }

    pub(super) fn timed_out(&self, awaited: &'static str, limit: Duration) -> ClientError {
        ClientError::TimedOut {
            gateway: self.authority.clone(),
            awaited,
            limit,
        }
    }

    pub(super) fn nonsense(&self, what: String) -> ClientError {
        ClientError::Nonsense {
            gateway: self.authority.clone(),
            what,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_with_host_and_port_is_a_gateway() {
        let authority = |url: &str| Endpoint::from_url(&url.parse().expect("a URL")).map(|found| found.authority);
        assert_eq!(
            authority("https://provider.example:8443/").expect("name"),
            "provider.example:8443"
        );
        assert_eq!(authority("https://192.0.2.1").expect("address"), "192.0.2.1:443");
        assert_eq!(authority("https://[2001:db8::1]:9").expect("IPv6"), "[2001:db8::1]:9");
        for url in [
            "http://a:1",
            "https://a/v1",
            "https://a/?x",
            "https://me@a",
            "ftp://a",
            "mailto:a",
        ] {
            assert!(matches!(authority(url), Err(ClientError::Url { .. })), "{url}");
        }
    }
}
