//! Identifiers of the protocol, defined with the codecs.

pub use isis_wire::id::{GroupHandle, GroupId, Nonce, ProcessId, SiteKey, SystemId};
