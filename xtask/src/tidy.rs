//! `cargo xtask tidy`: what ARCHITECTURE.md promises and a program can check.

use anyhow::{Context, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Most packages (normal and build dependencies, without our own) that a crate may pull in.
const PACKAGES: [(&str, &[&str], usize); 6] = [
    ("mx-sampling", &[], 15),
    ("mx-constrain", &[], 70),
    ("mx-remote", &[], 110),
    ("mx-facade", REMOTE_ONLY, 170),
    (
        "mx-facade",
        &["--no-default-features", "--features", "local"],
        300,
    ),
    ("mx-facade", &[], 350),
];

/// The facade without local models.
const REMOTE_ONLY: &[&str] = &["--no-default-features"];

/// What compiles no burn.
const WITHOUT_BURN: [(&str, &[&str]); 4] = [
    ("mx-sampling", &[]),
    ("mx-constrain", &[]),
    ("mx-remote", &[]),
    ("mx-facade", REMOTE_ONLY),
];

/// The crates that know none of the others.
const LOWER: [&str; 5] = [
    "mx-sampling",
    "mx-steering",
    "mx-constrain",
    "mx-runtime",
    "mx-remote",
];

/// File or folder names in which unsafe code may be allowed.
const UNSAFE_PLACES: [&str; 5] = ["map.rs", "pieces.rs", "simd", "kernels", "threads"];

/// Longest source file, in lines, before its first test module.
const MAX_LINES: usize = 600;

/// Everything that is wrong, one line each; empty when the house is tidy.
///
/// # Errors
/// When the workspace cannot be read or cargo does not run.
pub fn run(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (name, flags, most) in PACKAGES {
        let packages = packages(root, name, flags)?;
        if packages.len() > most {
            wrong.push(format!(
                "{name} {flags:?} has {} packages, at most {most}",
                packages.len()
            ));
        }
    }
    for (name, flags) in WITHOUT_BURN {
        let packages = packages(root, name, flags)?;
        wrong.extend(
            packages
                .iter()
                .filter(|package| package.starts_with("burn"))
                .map(|package| format!("{name} depends on {package}")),
        );
    }
    for name in LOWER {
        let manifest = std::fs::read_to_string(root.join(name).join("Cargo.toml"))?;
        let others = LOWER
            .iter()
            .filter(|other| **other != name && manifest.contains(**other));
        wrong.extend(others.map(|other| format!("{name}/Cargo.toml names {other}")));
    }
    for file in rust_files(root)? {
        check_file(root, &file, &mut wrong)?;
    }
    Ok(wrong)
}

fn check_file(root: &Path, file: &Path, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let name = file
        .strip_prefix(root)
        .unwrap_or(file)
        .display()
        .to_string();
    let text = std::fs::read_to_string(file).with_context(|| name.clone())?;
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let is_test = name.contains("tests/") || name.ends_with("tests.rs");
    let lines = if is_test { 0 } else { code.lines().count() };
    if lines > MAX_LINES {
        wrong.push(format!("{name} has {lines} lines, at most {MAX_LINES}"));
    }
    let switched_on = text.contains(concat!("allow(", "unsafe_code"));
    let parts: Vec<&str> = name.split(['/', '\\']).collect();
    let allowed = UNSAFE_PLACES.iter().any(|place| {
        parts
            .iter()
            .any(|part| part == place || part.strip_suffix(".rs") == Some(place))
    });
    if switched_on && !allowed && !is_test {
        wrong.push(format!("{name} allows unsafe code"));
    }
    if !text.starts_with("//!") && !is_test {
        wrong.push(format!("{name} does not begin by saying what it is for"));
    }
    Ok(())
}

/// Name and version of everything that a crate pulls in.
fn packages(root: &Path, name: &str, flags: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .current_dir(root)
        .args([
            "tree",
            "--offline",
            "--package",
            name,
            "--edges",
            "normal,build",
        ])
        .args(["--prefix", "none", "--format", "{p}"])
        .args(flags)
        .output()
        .context("cargo tree")?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "cargo tree --package {name}: {errors}"
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Our own packages are listed with their path in parentheses; proc macros with "(proc-macro)".
    let foreign = text
        .lines()
        .filter(|line| !line.contains("(/") && !line.contains(":\\"));
    let name_of = |line: &str| line.split(" (").next().unwrap_or_default().to_owned();
    Ok(foreign
        .map(name_of)
        .filter(|name| !name.is_empty())
        .collect())
}

/// All Rust files of the members.
fn rust_files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = LOWER
        .iter()
        .chain(&["mx-facade", "xtask", "tests"])
        .map(|name| root.join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
