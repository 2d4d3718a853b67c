//! The simulator: whole systems of endpoints in virtual time.
//!
//! Read in this order: [`timeline`] (the one heap of events), [`network`], [`payload`] (what messages carry),
//! [`engine`] (what an application calls), [`application`] and [`behaviour`] (who calls the engine, and when), [`node`] (a process and its loop), [`world`] (all of
//! it), [`plan`] (what a seed draws), [`run`] (a seeded run: safety phase, healing, liveness phase).
//!
//! One seed and one commit are one execution: all chance comes from seeded generators, events come from one heap by
//! (time, sequence), and nothing iterates a hash map. A test compares repeated runs byte by byte.

pub mod application;
pub mod behaviour;
pub mod engine;
pub mod network;
pub mod node;
pub mod payload;
pub mod plan;
pub mod run;
pub mod timeline;
pub mod world;
