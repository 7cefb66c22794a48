//! Encrypted servers, with certificates made for the test by the system's `openssl`.

use crate::server::{KEY, quick};
use mx_remote::{Axionic, AxionicOptions, Error, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const AUTHORITY: &str = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority \
    -keyout ca.key -out ca.pem -addext keyUsage=critical,keyCertSign";
const REQUEST: &str = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout leaf.key -out leaf.csr";
const SIGN: &str = "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile leaf.txt -out leaf.pem";
const LEAF: &str =
    "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n";

/// Makes `ca.pem`, `leaf.pem` and `leaf.key`; `None` without the program.
fn certificates(folder: &Path) -> Option<()> {
    std::fs::write(folder.join("leaf.txt"), LEAF).unwrap();
    for line in [AUTHORITY, REQUEST, SIGN] {
        let done = Command::new("openssl")
            .args(line.split_whitespace())
            .current_dir(folder)
            .output()
            .ok()?;
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Some(())
}

/// Answers every connection, and returns its address.
fn serve(folder: &Path, answer: &'static str) -> String {
    let chain: Vec<_> = CertificateDer::pem_file_iter(folder.join("leaf.pem"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("leaf.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            // A client that does not trust us has gone.
            let _ = stream.write_all(answer.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    format!("https://{address}")
}

fn client(base_url: String, extra_certificates: Vec<String>) -> Axionic {
    let transport = Transport {
        extra_certificates,
        ..quick()
    };
    Axionic::new(AxionicOptions {
        base_url,
        transport,
        ..AxionicOptions::with_key(KEY)
    })
    .unwrap()
}

#[test]
fn only_trusted_servers_are_talked_to() {
    let folder = tempfile::tempdir().unwrap();
    if certificates(folder.path()).is_none() {
        eprintln!("skipped: no openssl program");
        return;
    }
    let authority = vec![std::fs::read_to_string(folder.path().join("ca.pem")).unwrap()];
    let url = serve(
        folder.path(),
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]",
    );
    assert_eq!(
        client(url.clone(), authority.clone())
            .models(None)
            .wait()
            .unwrap(),
        []
    );
    let error = client(url.clone(), vec![]).models(None).wait().unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    // The certificate is for 127.0.0.1.
    let named = url.replace("127.0.0.1", "localhost");
    let error = client(named, authority.clone())
        .models(None)
        .wait()
        .unwrap_err();
    assert!(error.to_string().contains("not valid for"), "{error}");

    let url = serve(
        folder.path(),
        "HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: http://127.0.0.1:1/models\r\ncontent-length: 0\r\n\r\n",
    );
    let error = client(url, authority).models(None).wait().unwrap_err();
    assert!(error.to_string().contains("from https to http"), "{error}");
}
