//! The file-backed drive from outside: against the reference tape, under power cuts, and on real files.

mod behaviour;
mod commands;
mod cut;
mod damage;
mod files;
mod model;
mod superblocks;
