//! Tasks of the project: demo, test, bench.
fn main() {}
