//! One file from an address to disk: resumed where it stopped, hashed as it comes, bounded in time and size.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_RANGE, HeaderMap};

use super::hash::{CHUNK, Hasher};
use super::http::{Http, Piece, read_piece, shown};
use super::{Progress, SourceError};

/// Bytes that make an attempt worth another one.
const GAIN: u64 = 64 * 1024;
/// Attempts in a row that gain less.
const MAX_FUTILE: u32 = 3;
/// Attempts at all, against a server that hands out a file in crumbs.
const MAX_ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(100);

/// A file to fetch.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) url: Url,
    /// The unfinished file on disk; what it has is kept.
    pub(super) part: &'a Path,
    /// Name in errors.
    pub(super) name: &'a str,
    pub(super) size: Option<u64>,
    pub(super) sha256: Option<&'a str>,
    /// Largest size, and the name of that limit.
    pub(super) limit: (u64, &'static str),
    /// Bytes of other files that the progress has counted already.
    pub(super) before: u64,
}

/// Fetches a file, compares it with what was promised, and returns its length. It still has the name of the unfinished
/// one; a file that differs is deleted.
pub(super) fn fetch(
    http: &Http,
    job: &Job<'_>,
    progress: &mut dyn Progress,
) -> Result<u64, SourceError> {
    check_limit(job, job.size.unwrap_or(0))?;
    let mut sink = Sink::open(job, progress)?;
    let (mut futile, mut attempts) = (0, 0);
    while job.size != Some(sink.hash.bytes()) {
        let had = sink.hash.bytes();
        let Err(error) = attempt(http, job, &mut sink, progress) else {
            break;
        };
        attempts += 1;
        futile = if sink.hash.bytes() >= had.saturating_add(GAIN) {
            0
        } else {
            futile + 1
        };
        let silent = futile > 0 && error.is_timeout();
        if !error.is_retryable() || silent || futile >= MAX_FUTILE || attempts >= MAX_ATTEMPTS {
            return Err(error);
        }
        tracing::debug!(%error, "fetching {} again from byte {}", job.name, sink.hash.bytes());
        thread::sleep(PAUSE * futile);
    }
    sink.finish(job)
}

/// The unfinished file and the hash of what is in it.
struct Sink<'a> {
    file: File,
    path: &'a Path,
    hash: Hasher,
}

impl<'a> Sink<'a> {
    fn open(job: &Job<'a>, progress: &mut dyn Progress) -> Result<Self, SourceError> {
        let path = job.part;
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let mut sink = Self {
            file: file.map_err(SourceError::io("open", path))?,
            path,
            hash: Hasher::default(),
        };
        let there = sink
            .file
            .metadata()
            .map_err(SourceError::io("open", path))?
            .len();
        if there > job.size.unwrap_or(job.limit.0) {
            sink.restart()?;
        } else {
            sink.hash
                .read_all(&mut sink.file, path, u64::MAX, &mut |done| {
                    progress.advance(job.before.saturating_add(done));
                    progress.cancelled()
                })?;
        }
        Ok(sink)
    }

    fn restart(&mut self) -> Result<(), SourceError> {
        self.hash = Hasher::default();
        let empty = self
            .file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)));
        empty.map(drop).map_err(SourceError::io("empty", self.path))
    }

    fn write(&mut self, data: &[u8]) -> Result<(), SourceError> {
        self.file
            .write_all(data)
            .map_err(SourceError::io("write", self.path))?;
        self.hash.update(data);
        Ok(())
    }

    fn finish(self, job: &Job<'_>) -> Result<u64, SourceError> {
        let (bytes, given) = (self.hash.bytes(), self.hash.finish());
        let what = || job.name.to_string();
        let wrong = match (job.size, job.sha256) {
            (Some(wanted), _) if wanted != bytes => Some(SourceError::SizeMismatch {
                what: what(),
                given: bytes,
                wanted,
            }),
            (_, Some(wanted)) if !wanted.eq_ignore_ascii_case(&given) => {
                Some(SourceError::ChecksumMismatch {
                    what: what(),
                    given,
                    wanted: wanted.into(),
                })
            }
            _ => None,
        };
        if let Some(error) = wrong {
            drop(self.file);
            fs::remove_file(self.path).map_err(SourceError::io("delete", self.path))?;
            return Err(error);
        }
        self.file
            .sync_all()
            .map_err(SourceError::io("write", self.path))?;
        Ok(bytes)
    }
}

fn attempt(
    http: &Http,
    job: &Job<'_>,
    sink: &mut Sink<'_>,
    progress: &mut dyn Progress,
) -> Result<(), SourceError> {
    let mut response = http.get(&job.url, sink.hash.bytes())?;
    let url = shown(response.url());
    match response.status().as_u16() {
        200 if sink.hash.bytes() > 0 => sink.restart()?,
        200 => {}
        206 if range_start(response.headers()) == Some(sink.hash.bytes()) => {}
        206 => {
            return Err(SourceError::BadAnswer {
                url,
                reason: "it sent another range than asked for".into(),
            });
        }
        416 if sink.hash.bytes() > 0 => {
            sink.restart()?;
            return Err(SourceError::CutOff {
                url,
                got: 0,
                wanted: job.size,
            });
        }
        status => return Err(SourceError::Status { url, status }),
    }
    let announced = response
        .content_length()
        .map(|left| sink.hash.bytes().saturating_add(left));
    check_limit(job, announced.unwrap_or(0))?;
    if let (Some(given), Some(wanted)) = (announced, job.size)
        && given != wanted
    {
        return Err(SourceError::SizeMismatch {
            what: job.name.into(),
            given,
            wanted,
        });
    }
    receive(
        http,
        job,
        &mut response,
        sink,
        announced.or(job.size),
        progress,
    )
}

fn receive(
    http: &Http,
    job: &Job<'_>,
    response: &mut Response,
    sink: &mut Sink<'_>,
    wanted: Option<u64>,
    progress: &mut dyn Progress,
) -> Result<(), SourceError> {
    let url = shown(response.url());
    let (stall_timeout, min_bytes) = http.patience();
    let (mut window, mut at_window) = (Instant::now(), sink.hash.bytes());
    let mut buffer = vec![0; CHUNK];
    loop {
        let got = sink.hash.bytes();
        progress.advance(job.before.saturating_add(got));
        if progress.cancelled() {
            return Err(SourceError::Cancelled);
        }
        match read_piece(response, &mut buffer) {
            Piece::Data(n) => {
                let total = got.saturating_add(n as u64);
                check_limit(job, total)?;
                if let Some(wanted) = job.size.filter(|&wanted| total > wanted) {
                    return Err(SourceError::SizeMismatch {
                        what: job.name.into(),
                        given: total,
                        wanted,
                    });
                }
                sink.write(&buffer[..n])?;
            }
            Piece::Quiet => {}
            Piece::End if wanted.is_some_and(|wanted| got < wanted) => {
                return Err(SourceError::CutOff { url, got, wanted });
            }
            Piece::End => return Ok(()),
            Piece::Broken(cause) => {
                tracing::debug!(%cause, "the connection broke");
                return Err(SourceError::CutOff { url, got, wanted });
            }
        }
        if window.elapsed() >= stall_timeout {
            let got = sink.hash.bytes();
            if got - at_window < min_bytes {
                return Err(SourceError::Stalled {
                    url,
                    got,
                    min_bytes,
                    after: window.elapsed(),
                });
            }
            (window, at_window) = (Instant::now(), got);
        }
    }
}

fn check_limit(job: &Job<'_>, given: u64) -> Result<(), SourceError> {
    let (limit, limit_name) = job.limit;
    if given <= limit {
        return Ok(());
    }
    Err(SourceError::TooLarge {
        what: job.name.into(),
        given,
        limit,
        limit_name,
    })
}

/// 5 for `bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range
        .trim()
        .strip_prefix("bytes ")?
        .split_once('-')?
        .0
        .trim()
        .parse()
        .ok()
}
