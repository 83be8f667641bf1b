//! Keys, catalogue and custody of Sealtape.
