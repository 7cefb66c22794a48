//! Logits processors, truncations, penalties and seeded draws for language models, on plain slices of f32.
