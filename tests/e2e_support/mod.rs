//! Installations of Sealtape for tests: a home folder of its own, both services, cartridges, and real programs that
//! use the nodes. Everything is taken down when the test ends, by a panic too.
#![allow(dead_code, reason = "each suite uses its part of the support")]

pub(crate) mod persons;
#[path = "../support/programs.rs"]
pub(crate) mod programs;
pub(crate) mod site;

pub(crate) use site::{Site, ready};
