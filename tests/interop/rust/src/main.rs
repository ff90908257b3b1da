// SPDX-License-Identifier: Apache-2.0

//! peer server PORT CERT KEY CA ID: serves the files of its directory, and POST bodies back, over mutual TLS.
//! peer client PORT CERT KEY CA ID METHOD PATH: prints the answer's body; standard input is the request's body.
//! ID is the SPIFFE ID that the other side must have. PEER_TLS=1.2 offers no more than that.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn has_id(cert: &CertificateDer, id: &str) -> bool {
    webpki::EndEntityCert::try_from(cert).map_or(false, |c| c.valid_uri_names().any(|u| u == id))
}

/// The chain by webpki, the name by SPIFFE ID instead of host.
#[derive(Debug)]
struct ById {
    roots: Arc<RootCertStore>,
    id: String,
}

impl ServerCertVerifier for ById {
    fn verify_server_cert(&self, leaf: &CertificateDer, between: &[CertificateDer], _: &ServerName, _: &[u8], now: UnixTime) -> Result<ServerCertVerified, Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        let parsed = rustls::server::ParsedCertificate::try_from(leaf)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, between, now, algorithms)?;
        if has_id(leaf, &self.id) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }
    fn verify_tls12_signature(&self, m: &[u8], c: &CertificateDer, d: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(m, c, d, &rustls::crypto::ring::default_provider().signature_verification_algorithms)
    }
    fn verify_tls13_signature(&self, m: &[u8], c: &CertificateDer, d: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(m, c, d, &rustls::crypto::ring::default_provider().signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

fn identity(cert: &str, key: &str, ca: &str) -> Fallible<Identity> {
    let mut roots = RootCertStore::empty();
    for c in CertificateDer::pem_file_iter(ca)? {
        roots.add(c?)?;
    }
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<_, _>>()?;
    Ok(Identity { chain, key: PrivateKeyDer::from_pem_file(key)?, roots: Arc::new(roots) })
}

fn versions() -> &'static [&'static rustls::SupportedProtocolVersion] {
    static OLDER: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
    match std::env::var("PEER_TLS").as_deref() {
        Ok("1.2") => OLDER,
        _ => rustls::ALL_VERSIONS,
    }
}

/// Reads a head; gives its first line and the content length.
fn head(r: &mut impl BufRead) -> Fallible<(String, Option<usize>)> {
    let (mut first, mut length) = (String::new(), None);
    r.read_line(&mut first)?;
    loop {
        let mut l = String::new();
        r.read_line(&mut l)?;
        if l.trim().is_empty() {
            return Ok((first, length));
        }
        if let Some(v) = l.to_ascii_lowercase().strip_prefix("content-length:") {
            length = Some(v.trim().parse()?);
        }
    }
}

fn body(r: &mut impl Read, length: Option<usize>) -> Fallible<Vec<u8>> {
    let mut b = Vec::new();
    match length {
        Some(n) => r.take(n as u64).read_to_end(&mut b)?,
        None => r.read_to_end(&mut b)?,
    };
    Ok(b)
}

fn answer(sock: TcpStream, config: Arc<ServerConfig>, id: &str) -> Fallible<()> {
    let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(config)?, sock);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    if !tls.conn.peer_certificates().is_some_and(|c| has_id(&c[0], id)) {
        return Err(format!("the peer is not {id}").into());
    }
    let mut r = BufReader::new(&mut tls);
    let (first, length) = head(&mut r)?;
    let mut words = first.split(' ');
    let b = match (words.next(), words.next()) {
        (Some("POST"), _) => body(&mut r, length)?,
        (_, Some(path)) => std::fs::read(path.rsplit('/').next().unwrap_or("hello"))?,
        _ => return Err("no request".into()),
    };
    write!(tls, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", b.len())?;
    tls.write_all(&b)?;
    tls.conn.send_close_notify();
    tls.flush()?;
    Ok(())
}

fn serve(port: &str, who: Identity, id: String) -> Fallible<()> {
    let verifier = WebPkiClientVerifier::builder(who.roots).build()?;
    let config = Arc::new(ServerConfig::builder_with_protocol_versions(versions()).with_client_cert_verifier(verifier).with_single_cert(who.chain, who.key)?);
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    for sock in listener.incoming() {
        let (config, id, sock) = (config.clone(), id.clone(), sock?);
        std::thread::spawn(move || {
            if let Err(e) = answer(sock, config, &id) {
                eprintln!("{e}");
            }
        });
    }
    Ok(())
}

fn ask(port: &str, who: Identity, id: String, method: &str, path: &str) -> Fallible<()> {
    let verifier = Arc::new(ById { roots: who.roots, id });
    let config = ClientConfig::builder_with_protocol_versions(versions())
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(who.chain, who.key)?;
    let conn = rustls::ClientConnection::new(Arc::new(config), "reviews.shop.mesh".try_into()?)?;
    let mut tls = rustls::StreamOwned::new(conn, TcpStream::connect(format!("127.0.0.1:{port}"))?);
    let mut out = Vec::new();
    if method == "POST" {
        io::stdin().read_to_end(&mut out)?;
    }
    write!(tls, "{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", out.len())?;
    tls.write_all(&out)?;
    tls.flush()?;
    let mut r = BufReader::new(tls);
    let (status, length) = head(&mut r)?;
    io::stdout().write_all(&body(&mut r, length)?)?;
    if status.contains(" 200 ") { Ok(()) } else { Err(status.into()) }
}

fn main() -> Fallible<()> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "a provider is there")?;
    let a: Vec<String> = std::env::args().collect();
    let who = identity(&a[3], &a[4], &a[5])?;
    match a[1].as_str() {
        "server" => serve(&a[2], who, a[6].clone()),
        _ => ask(&a[2], who, a[6].clone(), &a[7], &a[8]),
    }
}
