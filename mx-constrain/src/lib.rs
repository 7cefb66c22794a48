//! JSON Schema, regex and grammar constraints as token masks.
