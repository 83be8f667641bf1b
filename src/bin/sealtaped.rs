//! sealtaped
fn main() {}
