#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::test_server::{Asked, Reply, Server};
use super::super::{NoProgress, Secret};
use super::*;

const COMMIT: &str = "00112233445566778899aabbccddeeff00112233";

fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

fn sha(content: &[u8]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(content);
    hasher.finish()
}

/// A listing as the hub gives it: weights with SHA-256, other files with git's hash.
fn listing(files: &[(&str, &[u8])]) -> Vec<u8> {
    let siblings: Vec<_> = files
        .iter()
        .map(|(name, content)| {
            let mut file = serde_json::json!({"rfilename": name, "size": content.len(), "blobId": &sha(content)[..40]});
            if is_weights(name) {
                file["lfs"] = serde_json::json!({"sha256": sha(content), "size": content.len(), "pointerSize": 134});
            }
            file
        })
        .collect();
    serde_json::to_vec(&serde_json::json!({"id": "org/repo", "sha": COMMIT, "siblings": siblings}))
        .unwrap()
}

/// Serves `org/repo` with one file; `reply` answers for the file.
fn one_file(
    name: &'static str,
    content: Vec<u8>,
    reply: impl Fn(&Asked, Vec<u8>) -> Reply + Send + Sync + 'static,
) -> Server {
    let list = listing(&[(name, &content)]);
    Server::start(move |asked| {
        if asked.path.starts_with("/api/") {
            Reply::Body(list.clone())
        } else {
            reply(asked, content.clone())
        }
    })
}

struct Setup {
    _folder: tempfile::TempDir,
    cache: PathBuf,
    options: Options,
}

fn setup(endpoint: &str) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("hub");
    let options = Options {
        hub_endpoint: endpoint.into(),
        hub_cache: Some(cache.clone()),
        ..Options::default()
    };
    Setup {
        _folder: folder,
        cache,
        options,
    }
}

const REPO: Wanted<'static> = Wanted {
    repo: "org/repo",
    revision: None,
    file: None,
    pinned: None,
};

impl Setup {
    fn pull(&self) -> Result<Found, SourceError> {
        pull(&self.options, REPO, &mut NoProgress)
    }

    fn blobs(&self) -> Vec<String> {
        let folder = self.cache.join("models--org--repo/blobs");
        let entries = fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn cached(&self) -> Option<PathBuf> {
        cached(&self.options, REPO).ok().flatten().map(|f| f.path)
    }
}

#[test]
fn a_file_is_fetched_verified_and_found_again_without_network() {
    let content = bytes(300_000);
    let server = one_file("sub/m.gguf", content.clone(), |_, c| Reply::Body(c));
    let setup = setup(&server.url());
    let found = setup.pull().unwrap();
    assert!(found.verified);
    assert_eq!(fs::read(&found.path).unwrap(), content);
    assert_eq!(setup.blobs(), [sha(&content)]);
    assert_eq!(setup.cached().unwrap(), found.path);
    assert_eq!(
        server.asked()[0].path,
        "/api/models/org/repo/revision/main?blobs=true"
    );
    assert_eq!(
        server.asked()[1].path,
        format!("/org/repo/resolve/{COMMIT}/sub/m.gguf")
    );

    let again = setup.pull().unwrap();
    assert_eq!(again.path, found.path);
    assert_eq!(
        server.asked_for("m.gguf").len(),
        1,
        "what is there is not fetched again"
    );
}

#[test]
fn a_folder_gets_the_files_it_needs_and_no_others() {
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("README.md", bytes(10)),
        ("config.json", bytes(20)),
        ("tokenizer.json", bytes(30)),
        ("model-00001-of-00002.safetensors", bytes(70_000)),
        ("model-00002-of-00002.safetensors", bytes(80_000)),
        ("model.safetensors.index.json", bytes(50)),
        ("pytorch_model.bin", bytes(60)),
        ("onnx/model.onnx", bytes(60)),
    ];
    let list = listing(
        &files
            .iter()
            .map(|(n, c)| (*n, c.as_slice()))
            .collect::<Vec<_>>(),
    );
    let server =
        Server::start(
            move |asked| match files.iter().find(|(n, _)| asked.path.ends_with(n)) {
                Some((_, content)) => Reply::Body(content.clone()),
                None => Reply::Body(list.clone()),
            },
        );
    let setup = setup(&server.url());
    let mut watch = Watch::default();
    let found = pull(&setup.options, REPO, &mut watch).unwrap();
    assert!(found.verified && found.path.is_dir());
    assert_eq!(
        fs::read(found.path.join("tokenizer.json")).unwrap(),
        bytes(30)
    );
    assert_eq!(fs::read_dir(&found.path).unwrap().count(), 5);
    assert_eq!(setup.cached().unwrap(), found.path);
    assert_eq!(watch.totals, [None, Some(150_100)]);
    assert_eq!(watch.last, 150_100);
    assert_eq!(watch.open, 0);
}

#[derive(Default)]
struct Watch {
    totals: Vec<Option<u64>>,
    last: u64,
    open: i32,
    stop_at: Option<u64>,
}

impl Progress for Watch {
    fn start(&mut self, _what: &str, total: Option<u64>) {
        assert_eq!(self.open, 0, "bars do not nest");
        self.totals.push(total);
        self.open += 1;
        self.last = 0;
    }
    fn advance(&mut self, done: u64) {
        assert!(done >= self.last);
        self.last = done;
    }
    fn finish(&mut self) {
        self.open -= 1;
    }
    fn cancelled(&self) -> bool {
        self.stop_at.is_some_and(|at| self.last >= at)
    }
}

#[test]
fn a_redirect_is_followed_and_the_token_stays_at_home() {
    let content = bytes(1000);
    let (body, other_body) = (content.clone(), content.clone());
    let other = Server::start(move |_| Reply::Body(other_body.clone()));
    let elsewhere = format!("{}/cdn/m.gguf?Signature=secret", other.url());
    let server = one_file("m.gguf", body, move |asked, _| match asked.path.as_str() {
        "/moved/m.gguf" => Reply::Redirect(elsewhere.clone()),
        _ => Reply::Redirect("/moved/m.gguf".into()),
    });
    let mut setup = setup(&server.url());
    setup.options.hub_token = Some(Secret::new("hf_test"));
    assert_eq!(fs::read(setup.pull().unwrap().path).unwrap(), content);
    assert_eq!(server.asked().len(), 3);
    assert!(
        server
            .asked()
            .iter()
            .all(|a| a.authorization.as_deref() == Some("Bearer hf_test"))
    );
    assert_eq!(other.asked().len(), 1);
    assert_eq!(other.asked()[0].authorization, None);
}

#[test]
fn endless_redirects_end() {
    let server = one_file("m.gguf", bytes(10), |asked, _| {
        Reply::Redirect(format!("{}x", asked.path))
    });
    let setup = setup(&server.url());
    let error = setup.pull().unwrap_err();
    assert!(matches!(error, SourceError::BadAnswer { .. }), "{error}");
    assert!(server.asked().len() < 20);
}

#[test]
fn a_cut_connection_goes_on_where_it_stopped() {
    let content = bytes(400_000);
    let server = one_file("m.gguf", content.clone(), |_, c| Reply::Cut(c, 150_000));
    let setup = setup(&server.url());
    assert_eq!(fs::read(setup.pull().unwrap().path).unwrap(), content);
    let starts: Vec<u64> = server.asked_for("m.gguf").iter().map(|a| a.from).collect();
    assert_eq!(starts, [0, 150_000, 300_000]);
}

#[test]
fn a_server_without_ranges_starts_over() {
    let content = bytes(200_000);
    let server = one_file("m.gguf", content.clone(), |asked, c| match asked.from {
        0 => Reply::Cut(c, 90_000),
        _ => Reply::IgnoringRange(c),
    });
    let setup = setup(&server.url());
    assert_eq!(fs::read(setup.pull().unwrap().path).unwrap(), content);
    assert_eq!(server.asked_for("m.gguf").len(), 2);
}

#[test]
fn another_range_than_asked_for_is_refused() {
    let wrong = |range: &str| {
        format!("HTTP/1.1 206 x\r\nconnection: close\r\n{range}content-length: 100000\r\n\r\n")
    };
    for range in [
        "",
        "content-range: bytes 0-99999/200000\r\n",
        "content-range: x\r\n",
    ] {
        let head = wrong(range);
        let server = one_file("m.gguf", bytes(200_000), move |asked, c| match asked.from {
            0 => Reply::Cut(c, 100_000),
            from => Reply::Raw([head.as_bytes(), &c[from as usize..]].concat()),
        });
        let error = setup(&server.url()).pull().unwrap_err();
        assert!(
            matches!(error, SourceError::BadAnswer { .. }),
            "{range}: {error}"
        );
    }
}

#[test]
fn a_fetch_that_gave_up_is_resumed_by_the_next() {
    let content = bytes(200_000);
    let cut = one_file("m.gguf", content.clone(), |asked, c| match asked.from {
        0 => Reply::Cut(c, 100_000),
        _ => Reply::Cut(c, 0),
    });
    let mut setup = setup(&cut.url());
    let error = setup.pull().unwrap_err();
    assert!(
        matches!(
            error,
            SourceError::CutOff {
                got: 100_000,
                wanted: Some(200_000),
                ..
            }
        ),
        "{error}"
    );
    assert!(error.is_retryable());
    assert_eq!(setup.blobs(), [format!("{}.incomplete", sha(&content))]);
    assert_eq!(setup.cached(), None, "half a file is no model");

    let whole = one_file("m.gguf", content.clone(), |_, c| Reply::Body(c));
    setup.options.hub_endpoint = whole.url();
    assert_eq!(fs::read(setup.pull().unwrap().path).unwrap(), content);
    assert_eq!(whole.asked_for("m.gguf")[0].from, 100_000);
    assert_eq!(setup.blobs(), [sha(&content)]);
}

#[test]
fn a_cancelled_fetch_is_resumed_too() {
    let content = bytes(2_000_000);
    let server = one_file("m.gguf", content.clone(), |_, c| Reply::Body(c));
    let setup = setup(&server.url());
    let mut watch = Watch {
        stop_at: Some(500_000),
        ..Watch::default()
    };
    assert!(
        pull(&setup.options, REPO, &mut watch)
            .unwrap_err()
            .is_cancelled()
    );
    assert_eq!(watch.open, 0);
    assert_eq!(fs::read(setup.pull().unwrap().path).unwrap(), content);
    assert!(server.asked_for("m.gguf")[1].from >= 500_000);
}

#[test]
fn a_wrong_content_is_found_and_thrown_away() {
    let content = bytes(100_000);
    let server = one_file("m.gguf", content.clone(), |_, mut c| {
        c[50_000] ^= 1;
        Reply::Body(c)
    });
    let mut setup = setup(&server.url());
    let error = setup.pull().unwrap_err();
    assert!(
        matches!(&error, SourceError::ChecksumMismatch { wanted, .. } if *wanted == sha(&content)),
        "{error}"
    );
    assert!(error.is_corrupt());
    assert!(setup.blobs().is_empty() && setup.cached().is_none());
    assert_eq!(server.asked_for("m.gguf").len(), 1);

    let good = one_file("m.gguf", content, |_, c| Reply::Body(c));
    setup.options.hub_endpoint = good.url();
    assert!(setup.pull().is_ok());
}

#[test]
fn a_damaged_beginning_does_not_survive_a_resume() {
    let content = bytes(100_000);
    let server = one_file("m.gguf", content.clone(), |_, c| Reply::Body(c));
    let setup = setup(&server.url());
    let part = setup
        .cache
        .join("models--org--repo/blobs")
        .join(format!("{}.incomplete", sha(&content)));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, [7; 5000]).unwrap();
    assert!(setup.pull().unwrap_err().is_corrupt());
    assert!(!part.exists());
    assert!(setup.pull().is_ok());
    fs::remove_file(
        setup
            .cache
            .join("models--org--repo/blobs")
            .join(sha(&content)),
    )
    .unwrap();
    fs::write(&part, [7; 200_000]).unwrap();
    assert!(setup.pull().is_ok(), "longer than the file: begun anew");
}

#[test]
fn refusals_say_what_to_do() {
    for (status, word) in [
        (401, "HF_TOKEN"),
        (403, "licence"),
        (404, "no such repository"),
        (429, "too many"),
        (500, "500"),
    ] {
        let server = Server::start(move |_| Reply::Status(status));
        let error = setup(&server.url()).pull().unwrap_err();
        assert!(
            matches!(error, SourceError::Status { status: s, .. } if s == status),
            "{error}"
        );
        assert!(error.to_string().contains(word), "{error}");
        let server = one_file("m.gguf", bytes(10), move |_, _| Reply::Status(status));
        assert!(
            matches!(setup(&server.url()).pull(), Err(SourceError::Status { status: s, .. }) if s == status)
        );
    }
}

#[test]
fn hostile_listings_are_refused() {
    let with = |list: Vec<u8>| {
        let server = Server::start(move |asked| {
            if asked.path.starts_with("/api/") {
                Reply::Body(list.clone())
            } else {
                Reply::Body(b"evil".to_vec())
            }
        });
        let setup = setup(&server.url());
        let result = setup.pull();
        assert!(
            server.asked().len() == 1 || result.is_ok(),
            "nothing is fetched"
        );
        (result, setup)
    };
    for name in [
        "../x.gguf",
        "/outside/x.gguf",
        "a/../../x.gguf",
        "..\\x.gguf",
        "C:\\x.gguf",
        "a\u{0}b.gguf",
        "a//b.gguf",
    ] {
        let (result, _setup) = with(listing(&[(name, b"evil")]));
        assert!(
            matches!(result, Err(SourceError::UnsafeName { .. })),
            "{name:?}: {result:?}"
        );
    }
    for list in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"sha":"../../x","siblings":[{"rfilename":"m.gguf"}]}"#,
        r#"{"sha":"","siblings":[{"rfilename":"m.gguf"}]}"#,
        r#"{"sha":"aa","siblings":[{"rfilename":"m.gguf","size":-1}]}"#,
        r#"{"sha":"aa","siblings":[{"rfilename":"m.gguf","size":1e400}]}"#,
        "<html>sign in</html>",
        &"[".repeat(200_000),
    ] {
        let (result, _setup) = with(list.as_bytes().to_vec());
        assert!(
            matches!(result, Err(SourceError::BadAnswer { .. })),
            "{list:.80}: {result:?}"
        );
    }
    let (result, _setup) = with(br#"{"sha":"aa","siblings":[]}"#.to_vec());
    assert!(
        matches!(result, Err(SourceError::NotAModel { .. })),
        "{result:?}"
    );
    // A hash that is none is not used as a file name.
    let odd = r#"{"sha":"aa","siblings":[{"rfilename":"m.gguf","blobId":"../../x","lfs":{"sha256":"../y","size":4}}]}"#;
    let (result, setup) = with(odd.as_bytes().to_vec());
    let found = result.unwrap();
    assert!(!found.verified && fs::read(&found.path).unwrap() == b"evil");
    assert_eq!(setup.blobs()[0].len(), 64);
}

#[test]
fn limits_hold() {
    let huge = r#"{"sha":"aa","siblings":[{"rfilename":"m.gguf","size":18446744073709551615}]}"#;
    let server = Server::start(move |_| Reply::Body(huge.as_bytes().to_vec()));
    let error = setup(&server.url()).pull().unwrap_err();
    assert!(
        matches!(
            error,
            SourceError::TooLarge {
                limit_name: "max_file_bytes",
                ..
            }
        ),
        "{error}"
    );

    let many: Vec<String> = (0..50).map(|i| format!("{i}.txt")).collect();
    let list = listing(
        &many
            .iter()
            .map(|n| (n.as_str(), b"x".as_slice()))
            .collect::<Vec<_>>(),
    );
    let server = Server::start(move |_| Reply::Body(list.clone()));
    let mut small = setup(&server.url());
    small.options.limits.max_files = 49;
    assert!(matches!(
        small.pull(),
        Err(SourceError::TooManyFiles {
            given: 50,
            limit: 49,
            ..
        })
    ));
    small.options.limits.max_listing_bytes = 100;
    assert!(matches!(
        small.pull(),
        Err(SourceError::TooLarge { limit: 100, .. })
    ));
}

#[test]
fn endless_bodies_end() {
    let server = Server::start(|_| Reply::Endless);
    let mut endless = setup(&server.url());
    endless.options.limits.max_listing_bytes = 1 << 20;
    assert!(matches!(
        endless.pull(),
        Err(SourceError::TooLarge {
            limit_name: "max_listing_bytes",
            ..
        })
    ));

    let server = one_file("m.gguf", bytes(10_000), |_, _| Reply::Endless);
    assert!(matches!(
        setup(&server.url()).pull(),
        Err(SourceError::SizeMismatch { wanted: 10_000, .. })
    ));

    let unknown = r#"{"sha":"aa","siblings":[{"rfilename":"m.gguf"}]}"#;
    let server = Server::start(move |asked| {
        if asked.path.starts_with("/api/") {
            Reply::Body(unknown.as_bytes().to_vec())
        } else {
            Reply::Endless
        }
    });
    let mut endless = setup(&server.url());
    endless.options.limits.max_file_bytes = 1 << 20;
    assert!(matches!(
        endless.pull(),
        Err(SourceError::TooLarge {
            limit_name: "max_file_bytes",
            ..
        })
    ));
}

#[test]
fn an_announced_length_that_differs_is_an_error() {
    let server = one_file("m.gguf", bytes(1000), |_, _| Reply::Body(bytes(999)));
    let error = setup(&server.url()).pull().unwrap_err();
    assert!(
        matches!(
            error,
            SourceError::SizeMismatch {
                given: 999,
                wanted: 1000,
                ..
            }
        ),
        "{error}"
    );
}

fn impatient(endpoint: &str) -> Setup {
    let mut setup = setup(endpoint);
    setup.options.answer_timeout = Duration::from_secs(1);
    setup.options.stall_timeout = Duration::from_millis(300);
    setup
}

/// Far above any timeout of these tests, far below "hangs".
const SOON: Duration = Duration::from_secs(20);

#[test]
fn silence_refusal_and_noise_are_given_up() {
    let begun = Instant::now();
    let silent = Server::start(|_| Reply::Silence);
    let error = impatient(&silent.url()).pull().unwrap_err();
    assert!(
        matches!(error, SourceError::NoAnswer { .. }) && error.is_timeout(),
        "{error}"
    );

    let silent_file = one_file("m.gguf", bytes(10), |_, _| Reply::Silence);
    assert!(matches!(
        impatient(&silent_file.url()).pull(),
        Err(SourceError::NoAnswer { .. })
    ));

    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", refused.local_addr().unwrap());
    drop(refused);
    let error = impatient(&closed).pull().unwrap_err();
    assert!(
        matches!(error, SourceError::Network { .. }) && error.is_retryable(),
        "{error}"
    );

    let noise = Server::start(|_| Reply::Raw(b"SSH-2.0-x\r\n\r\n".to_vec()));
    assert!(matches!(
        impatient(&noise.url()).pull(),
        Err(SourceError::Network { .. })
    ));
    let hangs_up = Server::start(|_| Reply::Raw(Vec::new()));
    assert!(matches!(
        impatient(&hangs_up.url()).pull(),
        Err(SourceError::Network { .. })
    ));

    let nobody = impatient("http://name.invalid").pull().unwrap_err();
    assert!(
        matches!(
            nobody,
            SourceError::Network { .. } | SourceError::NoAnswer { .. }
        ),
        "{nobody}"
    );
    assert!(begun.elapsed() < SOON);
}

#[test]
fn a_drip_is_given_up() {
    let begun = Instant::now();
    let server = one_file("m.gguf", bytes(1_000_000), |_, c| Reply::Drip(c));
    let error = impatient(&server.url()).pull().unwrap_err();
    assert!(matches!(error, SourceError::Stalled { .. }), "{error}");
    assert_eq!(server.asked_for("m.gguf").len(), 1);
    let server = Server::start(|_| Reply::Drip(bytes(100_000)));
    assert!(matches!(
        impatient(&server.url()).pull(),
        Err(SourceError::Stalled { .. })
    ));
    let server =
        Server::start(|_| Reply::Raw(b"HTTP/1.1 200 x\r\ncontent-length: 5\r\n\r\n".to_vec()));
    assert!(setup(&server.url()).pull().is_err());
    assert!(begun.elapsed() < SOON);
}

#[test]
fn crumbs_do_not_last_for_ever() {
    let server = one_file("m.gguf", bytes(1_000_000), |_, c| Reply::Cut(c, 10));
    let error = setup(&server.url()).pull().unwrap_err();
    assert!(matches!(error, SourceError::CutOff { .. }), "{error}");
    assert_eq!(server.asked_for("m.gguf").len(), 3);
}

#[test]
fn two_at_once_download_once() {
    let content = bytes(1_000_000);
    let server = one_file("m.gguf", content.clone(), |_, c| Reply::Body(c));
    let setup = setup(&server.url());
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| setup.pull().unwrap());
        let two = scope.spawn(|| setup.pull().unwrap());
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_eq!(one.path, two.path);
    assert_eq!(fs::read(one.path).unwrap(), content);
    assert_eq!(server.asked_for("m.gguf").len(), 1);
}

#[test]
fn a_pinned_file_is_compared_with_the_pin() {
    let content = bytes(5000);
    let server = one_file("m.gguf", content.clone(), |_, c| Reply::Body(c));
    let setup = setup(&server.url());
    let right = sha(&content);
    let wrong = "0".repeat(64);
    let wanted = |len, sha| Wanted {
        file: Some("m.gguf"),
        pinned: Some((len, sha)),
        ..REPO
    };
    let error = pull(&setup.options, wanted(5001, &right), &mut NoProgress).unwrap_err();
    assert!(matches!(error, SourceError::SizeMismatch { .. }), "{error}");
    let error = pull(&setup.options, wanted(5000, &wrong), &mut NoProgress).unwrap_err();
    assert!(
        matches!(error, SourceError::ChecksumMismatch { .. }),
        "{error}"
    );
    assert!(
        pull(&setup.options, wanted(5000, &right), &mut NoProgress)
            .unwrap()
            .verified
    );
    assert!(
        cached(&setup.options, wanted(5000, &right))
            .unwrap()
            .is_some()
    );
    assert!(
        cached(&setup.options, wanted(5001, &right))
            .unwrap()
            .is_none()
    );
    #[cfg(unix)]
    assert!(
        cached(&setup.options, wanted(5000, &wrong))
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_branch_that_moves_is_followed_when_asked() {
    let round = std::sync::Arc::new(AtomicUsize::new(0));
    let now = std::sync::Arc::clone(&round);
    let server = Server::start(move |asked| {
        let content = bytes(100 + now.load(Ordering::Relaxed));
        let list = String::from_utf8(listing(&[("m.gguf", &content)])).unwrap();
        let list = list.replace(COMMIT, &format!("{:040}", now.load(Ordering::Relaxed)));
        if asked.path.starts_with("/api/") {
            Reply::Body(list.into_bytes())
        } else {
            Reply::Body(content)
        }
    });
    let setup = setup(&server.url());
    let first = setup.pull().unwrap();
    round.store(1, Ordering::Relaxed);
    let second = setup.pull().unwrap();
    assert_ne!(first.path, second.path);
    assert_eq!(
        fs::read(&first.path).unwrap().len(),
        100,
        "the older snapshot stays"
    );
    assert_eq!(setup.cached().unwrap(), second.path);
}
