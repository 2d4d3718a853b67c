//! Simulator and checkers.
