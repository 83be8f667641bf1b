//! sealtape
fn main() {}
