//! A small HTTP server that misbehaves on demand.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a client asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) from: u64,
    pub(super) authorization: Option<String>,
}

/// What the server does.
pub(super) enum Reply {
    Status(u16),
    /// The whole body, or the range asked for.
    Body(Vec<u8>),
    /// The whole body whatever range was asked for.
    IgnoringRange(Vec<u8>),
    /// Announces the body (or its range) and closes after this many bytes.
    Cut(Vec<u8>, usize),
    /// One byte every ten milliseconds.
    Drip(Vec<u8>),
    /// Bytes without end and without a length.
    Endless,
    Redirect(String),
    /// No answer at all.
    Silence,
    /// These bytes instead of an HTTP answer.
    Raw(Vec<u8>),
}

/// Listens until it is dropped.
pub(super) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(super) fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (stopped, log, handler) = (Arc::clone(&stop), Arc::clone(&asked), Arc::new(handler));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (log, handler, stopped) =
                    (Arc::clone(&log), Arc::clone(&handler), Arc::clone(&stopped));
                thread::spawn(move || serve(stream, &log, &*handler, &stopped));
            }
        });
        Self {
            address,
            stop,
            asked,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Requests whose path ends so.
    pub(super) fn asked_for(&self, end: &str) -> Vec<Asked> {
        self.asked()
            .into_iter()
            .filter(|a| a.path.ends_with(end))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Asked>>,
    handler: &(dyn Fn(&Asked) -> Reply + Send + Sync),
    stop: &AtomicBool,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(asked) = read_request(&mut reader) else {
        return;
    };
    log.lock().unwrap().push(asked.clone());
    // The client may hang up at any time.
    let _ = answer(stream, &mut reader, &asked, handler(&asked), stop);
}

fn read_request(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split_whitespace().nth(1)?.to_string();
    let mut asked = Asked {
        path,
        from: 0,
        authorization: None,
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return Some(asked);
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                asked.from = value
                    .strip_prefix("bytes=")?
                    .strip_suffix('-')?
                    .parse()
                    .ok()?
            }
            "authorization" => asked.authorization = Some(value.into()),
            _ => {}
        }
    }
}

fn answer(
    mut stream: TcpStream,
    reader: &mut impl Read,
    asked: &Asked,
    reply: Reply,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let head = |status: u16, extra: &str| {
        format!("HTTP/1.1 {status} x\r\nconnection: close\r\n{extra}\r\n")
    };
    let ranged = |body: &[u8]| {
        let from = (asked.from as usize).min(body.len());
        let extra = match asked.from {
            0 => String::new(),
            from => format!(
                "content-range: bytes {from}-{}/{}\r\n",
                body.len() - 1,
                body.len()
            ),
        };
        let extra = format!("{extra}content-length: {}\r\n", body.len() - from);
        (
            head(if asked.from > 0 { 206 } else { 200 }, &extra),
            body[from..].to_vec(),
        )
    };
    match reply {
        Reply::Status(status) => stream.write_all(head(status, "content-length: 0\r\n").as_bytes()),
        Reply::Body(body) if asked.from > 0 && asked.from >= body.len() as u64 => {
            stream.write_all(head(416, "content-length: 0\r\n").as_bytes())
        }
        Reply::Body(body) => {
            let (head, body) = ranged(&body);
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body)
        }
        Reply::IgnoringRange(body) => {
            let length = format!("content-length: {}\r\n", body.len());
            stream.write_all(head(200, &length).as_bytes())?;
            stream.write_all(&body)
        }
        Reply::Cut(body, after) => {
            let (head, body) = ranged(&body);
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body[..after.min(body.len())])
        }
        Reply::Drip(body) => {
            let (head, body) = ranged(&body);
            stream.write_all(head.as_bytes())?;
            for byte in body {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                stream.write_all(&[byte])?;
                thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        }
        Reply::Endless => {
            stream.write_all(head(200, "").as_bytes())?;
            while !stop.load(Ordering::Relaxed) {
                stream.write_all(&[b' '; 65536])?;
            }
            Ok(())
        }
        Reply::Redirect(to) => stream
            .write_all(head(302, &format!("location: {to}\r\ncontent-length: 0\r\n")).as_bytes()),
        // Blocks until the client gives up and closes.
        Reply::Silence => reader.read(&mut [0; 1]).map(drop),
        Reply::Raw(bytes) => stream.write_all(&bytes),
    }
}
