//! The trace checker: one function per guarantee, apart from the engine.
//!
//! The guarantees are those of Chockler, Keidar & Vitenberg (2001) [CKV01], specialised to a primary component whose
//! views are ordered by age; `docs/guarantees.md` lists them with the numbers used here. Read in this
//! order: [`history`] (the trace, sorted by process, group and view), [`views`], [`delivery`], [`order`], [`multi`] (what goes to
//! several groups), [`transfer`], [`liveness`].
//!
//! Owner: tests and the simulator. Invariant: a checker function reads nothing but the trace, so a bug of the engine
//! cannot hide itself; each is shown to bite by doctored traces (`doctored`).

pub mod delivery;
pub mod digests;
#[cfg(test)]
mod doctored;
#[cfg(test)]
mod doctored_apart;
#[cfg(test)]
mod doctored_several;
pub mod foundings;
mod history;
pub mod liveness;
mod multi;
pub mod order;
pub mod transfer;
pub mod views;

use crate::trace::Trace;
pub use history::{History, Limits};
use std::fmt;

/// One guarantee broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The property's number.
    pub property: u8,
    /// What is wrong.
    pub what: String,
    /// The offending records of the trace.
    pub records: Vec<usize>,
}

/// A property: number, name, function.
pub struct Property {
    /// Its number in the list of guarantees.
    pub number: u8,
    /// Its name.
    pub name: &'static str,
    /// Its function: `module::function` of this folder.
    pub function: &'static str,
    /// Demanded only of a run that ends with a healed network.
    pub liveness: bool,
    /// Finds the violations.
    pub check: fn(&History<'_>, &mut Vec<Violation>),
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.name)
    }
}

macro_rules! safety {
    ($number:literal, $name:literal, $module:ident::$function:ident) => {
        property!($number, $name, false, $module::$function)
    };
}

macro_rules! liveness {
    ($number:literal, $name:literal, $module:ident::$function:ident) => {
        property!($number, $name, true, $module::$function)
    };
}

macro_rules! property {
    ($number:literal, $name:literal, $liveness:literal, $module:ident::$function:ident) => {
        Property {
            number: $number,
            name: $name,
            function: concat!(stringify!($module), "::", stringify!($function)),
            liveness: $liveness,
            check: $module::$function,
        }
    };
}

/// All properties, by number.
pub static PROPERTIES: [Property; 26] = [
    safety!(1, "self inclusion", views::self_inclusion),
    safety!(2, "local monotonicity", views::local_monotonicity),
    safety!(3, "initial view", views::initial_view),
    safety!(4, "primary order", views::primary_order),
    safety!(5, "ranking by age", views::ranking_by_age),
    safety!(6, "delivery integrity", delivery::integrity),
    safety!(7, "no duplication", delivery::no_duplication),
    safety!(8, "same view delivery", delivery::same_view),
    safety!(9, "virtual synchrony", delivery::virtual_synchrony),
    safety!(10, "clean failure", delivery::clean_failure),
    safety!(11, "FIFO", delivery::fifo),
    safety!(12, "causal order", order::causal),
    safety!(13, "total order", order::total),
    safety!(14, "total order extends causal order", order::total_extends_causal),
    safety!(15, "GBCAST", order::global),
    safety!(16, "safe delivery", delivery::safe),
    safety!(17, "atomicity", delivery::atomicity),
    safety!(18, "state transfer", transfer::state),
    safety!(19, "flush", transfer::flush),
    safety!(20, "at most one primary", views::one_primary),
    liveness!(21, "membership precision", liveness::membership_precision),
    liveness!(22, "multicast liveness", liveness::multicast),
    liveness!(23, "self delivery", liveness::self_delivery),
    liveness!(24, "safe indication liveness", liveness::safe_indication),
    liveness!(25, "join, leave and state transfer complete", liveness::requests_complete),
    liveness!(26, "no wedge", liveness::no_wedge),
];

/// The property of this number.
pub fn property(number: u8) -> Option<&'static Property> {
    PROPERTIES.iter().find(|property| property.number == number)
}

/// The name of a property.
pub fn name(number: u8) -> &'static str {
    property(number).map_or("no panic, no endless work", |p| p.name)
}

/// Checks every property. Liveness is demanded only of a trace that says that the network healed and the run ended.
pub fn check(trace: &Trace, limits: Limits) -> Vec<Violation> {
    let history = History::new(trace, limits);
    let mut found = Vec::new();
    for property in &PROPERTIES {
        if !property.liveness || history.complete() {
            (property.check)(&history, &mut found);
        }
    }
    found
}

/// The violations as text, with their records, at most `limit` of them.
pub fn report(trace: &Trace, violations: &[Violation], limit: usize) -> String {
    let mut text = String::new();
    for violation in violations.iter().take(limit) {
        text.push_str(&format!("property {} ({}): {}\n", violation.property, name(violation.property), violation.what));
        for &record in violation.records.iter().take(12) {
            text.push_str(&format!("{record:6} {}\n", trace.records[record]));
        }
    }
    if violations.len() > limit {
        text.push_str(&format!("… and {} more\n", violations.len() - limit));
    }
    text
}
