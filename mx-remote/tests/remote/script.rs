// A server that answers connection after connection as its script says, and remembers what it was asked.
//
// Included by tests and by the crate page's examples; plain std.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// What the server was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A part of an answer.
#[derive(Debug, Clone)]
pub enum Part {
    /// These bytes.
    Send(Vec<u8>),
    /// Nothing for so long, or until the client hangs up.
    Pause(Duration),
    /// These bytes again and again until the client hangs up.
    Forever(Vec<u8>),
    /// These bytes one by one, with so long between them, until the client hangs up.
    Drip(Vec<u8>, Duration),
}

/// A whole answer; the connection is closed after it.
pub type Answer = Vec<Part>;

/// A server with its own thread. The script's answers are given in turn, the last one to whoever still asks.
pub struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    hung_up: mpsc::Receiver<Instant>,
    stop: Arc<std::sync::atomic::AtomicBool>,
}

impl Server {
    pub fn start(script: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (told, hung_up) = mpsc::channel();
        let (seen, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut turn = 0;
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let Some(request) = read(&stream) else {
                    continue;
                };
                seen.lock().unwrap().push(request);
                let answer = script[turn.min(script.len() - 1)].clone();
                turn += 1;
                let told = told.clone();
                // Each answer has a thread, so that a slow one does not hold up the next.
                std::thread::spawn(move || {
                    if play(stream, answer).is_err() {
                        let _ = told.send(Instant::now());
                    }
                });
            }
        });
        Server { address, asked, hung_up, stop }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until a client hangs up on an answer that is not over.
    pub fn hung_up_on(&self, within: Duration) -> Option<Instant> {
        self.hung_up.recv_timeout(within).ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        // Wakes the listener, so that it sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut asked = Asked { line: line.trim_end().to_owned(), headers, body: String::new() };
    let length = asked.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).ok()?;
    Some(asked)
}

fn play(mut stream: TcpStream, answer: Answer) -> std::io::Result<()> {
    for part in answer {
        match part {
            Part::Send(bytes) => stream.write_all(&bytes)?,
            Part::Pause(time) => wait(&mut stream, time)?,
            Part::Forever(bytes) => loop {
                stream.write_all(&bytes)?;
            },
            Part::Drip(bytes, time) => {
                for byte in bytes {
                    stream.write_all(&[byte])?;
                    wait(&mut stream, time)?;
                }
            }
        }
    }
    Ok(())
}

/// A client that hangs up is an error.
fn wait(stream: &mut TcpStream, time: Duration) -> std::io::Result<()> {
    stream.set_read_timeout(Some(time.max(Duration::from_millis(1))))?;
    match stream.read(&mut [0]) {
        Ok(0) => Err(std::io::ErrorKind::ConnectionReset.into()),
        Err(e) if !matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => Err(e),
        _ => Ok(()),
    }
}

/// A head and a body.
pub fn reply(status: u16, headers: &[&str], body: &str) -> Answer {
    let mut text = format!("HTTP/1.1 {status} Whatever\r\nconnection: close\r\n");
    for header in headers {
        text += header;
        text += "\r\n";
    }
    text += &format!("content-length: {}\r\n\r\n{body}", body.len());
    vec![Part::Send(text.into_bytes())]
}

/// A JSON answer.
pub fn json(body: &str) -> Answer {
    reply(200, &["content-type: application/json"], body)
}

/// The head of a stream without a length.
pub fn stream_head() -> Part {
    Part::Send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n".to_vec())
}

/// A whole stream.
pub fn events(text: &str) -> Answer {
    vec![stream_head(), Part::Send(text.as_bytes().to_vec())]
}
