//! Founding a system under `expected_sites` (rule R12): a Paxos instance between named sites for every founding.
//!
//! - [`acceptor`]: a site's vote. It is a durable record that all processes of the site share, so what is promised
//!   outlives them. The core only says what is to be done with it; the runtime does it under the site's lock.
//! - [`founder`]: one attempt of one process to have a founding decided.
//!
//! ```text
//!  founder:  (nothing found) ──PLEDGE──▶ pledging ──majority──▶ accepting ──majority──▶ FOUNDED
//!  site:     PLEDGE ──record written──▶ pledged ──FOUNDING ACCEPT, nobody here is in a system──▶ accepted
//! ```
//! What makes the first system the only one is Paxos: a majority of `expected_sites` accepts, and a later ballot proposes
//! again what it finds accepted. What lets a system follow one that was lost, and never beside it: a site accepts a new
//! system only while none of its processes lives in another one, and after that no process of it enters an older one. So
//! when founding n + 1 is decided, a majority of sites has no vote in the system of founding n any more, which therefore
//! decides nothing from then on. A founding that was accepted by too few while the old system goes on is closed by the
//! decision that the old one *goes on* ([`isis_wire::founding::Foundation`] without members).

pub mod acceptor;
pub mod founder;

pub use acceptor::{Applied, RecordOperation};
pub use founder::{Founder, Pledge, Step};
