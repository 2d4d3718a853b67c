//! Model checks of what the engine agrees on: [`agreement`] (view change and flush), [`vote`] (the votes of sites),
//! [`founding`] (one system from the start), [`merge`] (two systems meet).
//!
//! Each model has the rules as written and the rules with one of them taken out. The first must hold in every state within
//! the stated bounds, of each other one a counterexample must be found ([`cases`] lists them). [`check`] runs the search, with the model checker
//! `stateright`. The models are models: what they call the same as the engine does the same there, as each module's table
//! says, but only [`vote`] runs the engine's code. The whole engine is searched by the simulator, at random.
#![forbid(unsafe_code)]

pub mod agreement;
pub mod cases;
pub mod check;
pub mod founding;
pub mod merge;
pub mod vote;
