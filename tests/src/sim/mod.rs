//! The simulator: whole systems of endpoints in virtual time.
//!
//! Read in this order: [`timeline`] (the one heap of events), [`link`] and [`network`], [`payload`] (what messages carry),
//! [`application`] and [`behaviour`] (who calls the engine, and when), [`clock`],
//! [`node`] (a process and its loop), [`world`] (all of it), [`plan`] and [`faults`] (what a seed draws), [`run`] (a seeded
//! run: safety phase, healing, liveness phase), [`reduce`] and [`shrink`] (a run that fails, made small), [`enumerate`] (a
//! death after every single action).
//!
//! One seed and one commit are one execution: all chance comes from seeded generators, events come from one heap by
//! (time, sequence), and nothing iterates a hash map. A test compares repeated runs byte by byte.

pub mod application;
pub mod behaviour;
pub mod clock;
pub mod enumerate;
pub mod faults;
pub mod link;
pub mod network;
pub mod node;
pub mod payload;
pub mod plan;
pub mod reduce;
pub mod run;
pub mod settled;
pub mod shrink;
pub mod timeline;
pub mod world;
