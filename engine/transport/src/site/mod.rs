//! The site: the processes of one host that share a runtime directory.
//!
//! - `directory`: the runtime directory, its safety, and the site's key;
//! - `process_file`: the file by which any process tests whether another one lives;
//! - `site_record`: which system the site belongs to;
//! - `state_file`: what the site has written down for good;
//! - `message`: what is said over the link; `socket`: what it is said through;
//! - `search`: whether it is worth a look into the directory;
//! - `exit_notice`: how a process lets the others know at once that it exits, and `exiting`: whether one does;
//! - `link`: the connections, discovery, the data path; `link::deaths`: what is known of deaths, and how.
//!
//! Networks part sites, never the processes of one site; and a death on the site is known for certain.

mod directory;
mod exit_notice;
mod exiting;
mod link;
mod message;
mod process_file;
mod search;
mod site_record;
mod socket;
mod state_file;

pub(crate) use directory::{RuntimeDirectory, fnv128};
pub(crate) use link::{SiteLink, SiteLinkEvent};
pub(crate) use process_file::has_exited;
pub use site_record::Founding;
pub(crate) use socket::Descriptors;
pub(crate) use state_file::StateFile;
pub use state_file::is_site_name;
