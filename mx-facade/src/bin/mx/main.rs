//! The program `mx`.
fn main() {}
