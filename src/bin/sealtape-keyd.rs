//! sealtape-keyd
fn main() {}
