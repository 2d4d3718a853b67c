//! What an endpoint is told when it starts.

use crate::id::{Nonce, SiteKey};
use crate::time::{MILLISECOND, SECOND};
use isis_memory::CHUNK_SIZE;
use isis_wire::Address;
use isis_wire::frame::{FRAGMENT_MAX, FRAME_HEADER};

/// Configuration of an [`crate::Endpoint`]. Times are nanoseconds, sizes bytes. `Config::new` gives the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Seed of every random choice of this endpoint.
    pub seed: u64,
    /// 128 random bits, new at every start of the process.
    pub nonce: Nonce,
    /// The site of this process; processes of one site compute the same key.
    pub site: SiteKey,
    /// Where this process receives datagrams.
    pub address: Address,
    /// Where to look for a system besides this site.
    pub seeds: Vec<Address>,
    /// How many sites there are (R12): founding, and every later system view, takes a majority of them. `site` is then the
    /// fingerprint of the site's configured name, and the site has a durable record. 0: unknown; whoever finds no system
    /// founds one.
    pub expected_sites: u16,
    /// How long a process looks for a system before it may found one.
    pub discovery_ns: u64,
    /// How long a process without contact to a quorum goes on before it freezes.
    pub stall_after_ns: u64,
    /// Shortest and longest silence after which a process of another site is suspected; in between the timeout follows the measured jitter.
    pub suspect_min_ns: u64,
    /// See `suspect_min_ns`.
    pub suspect_max_ns: u64,
    /// How often an idle process shows its row.
    pub heartbeat_ns: u64,
    /// Up to so many members tell their rows to each other; in larger views they are gathered on the way. The same for all
    /// processes of a system.
    pub direct_rows: usize,
    /// How long a row waits for company after data came in.
    pub row_delay_ns: u64,
    /// How long a gap may stay before it is reported (a random share of it is added).
    pub nak_delay_ns: u64,
    /// When the sequencer of a group passes its task on to the busiest sender.
    pub handover: Handover,
    /// How long until an unanswered protocol message is sent again.
    pub resend_ns: u64,
    /// How long a view change may make no progress before the next in line takes over.
    pub takeover_ns: u64,
    /// How long `close` and leave wait for the others to confirm.
    pub linger_ns: u64,
    /// What is done about a process of this site that hangs and holds up a view change.
    pub hang: Hang,
    /// With `Hang::Kill`: after how long a silence.
    pub hang_timeout_ns: u64,
    /// How long this process may stay away from its loop; announced to the others, who do not suspect it earlier.
    pub max_pause_ns: u64,
    /// How far a sender's application bytes may be ahead of the slowest member's consumption.
    pub window: u64,
    /// Payload bytes in one fragment of a message, at most; see [`Config::longest_fragment`].
    pub fragment: usize,
    /// The longest message.
    pub max_message: usize,
    /// The most undelivered bytes that a joiner keeps while its state is on the way.
    pub join_backlog: u64,
    /// Largest datagram (UDP payload) towards processes of the same site.
    pub datagram_local: usize,
    /// Largest datagram (UDP payload) towards other sites.
    pub datagram_network: usize,
    /// Where all other members share memory with this one: they read its stream where it lies while frames, headers included, have
    /// so many bytes on average, and get copies of shorter ones.
    pub placed_from: usize,
}

impl Config {
    /// The defaults, for a process with this identity.
    pub fn new(seed: u64, nonce: Nonce, site: SiteKey, address: Address) -> Config {
        Config {
            seed,
            nonce,
            site,
            address,
            seeds: Vec::new(),
            expected_sites: 0,
            discovery_ns: 200 * MILLISECOND,
            stall_after_ns: 2 * SECOND,
            suspect_min_ns: 150 * MILLISECOND,
            suspect_max_ns: 2 * SECOND,
            heartbeat_ns: 30 * MILLISECOND,
            direct_rows: 8,
            row_delay_ns: MILLISECOND / 4,
            nak_delay_ns: MILLISECOND / 4,
            handover: Handover { after: 64, pause_ns: 20 * MILLISECOND },
            resend_ns: 10 * MILLISECOND,
            takeover_ns: 100 * MILLISECOND,
            linger_ns: 2 * SECOND,
            hang: Hang::Wait,
            hang_timeout_ns: 5 * SECOND,
            max_pause_ns: 0,
            window: 1 << 20,
            fragment: 256 << 10,
            max_message: 16 << 20,
            join_backlog: 64 << 20,
            datagram_local: 60_000,
            datagram_network: 1_400,
            placed_from: 384,
        }
    }

    /// The longest fragment of a message: `fragment`, but at most a quarter of the window, which opens so much at a time.
    #[inline]
    pub fn longest_fragment(&self) -> usize {
        fragment_within(self.fragment, self.window)
    }

    /// The longest claim, in bytes: see [`claim_within`].
    pub fn claim_max(&self) -> usize {
        claim_within(self.fragment, self.window)
    }
}

#[inline]
fn fragment_within(fragment: usize, window: u64) -> usize {
    let quarter = (window / 4) as usize / 8 * 8;
    fragment.min(quarter.max(LEAST_FRAGMENT)).min(FRAGMENT_MAX)
}

/// The longest claim with these options, in bytes: it lies within a chunk, and what it leaves of the chunk before, less than it takes
/// itself, counts in the window as well.
pub fn claim_within(fragment: usize, window: u64) -> usize {
    fragment_within(fragment, (window / 2).saturating_sub(4 * FRAME_HEADER as u64)).min(CHUNK_SIZE / 2)
}

/// The shortest fragment that a small window makes.
const LEAST_FRAGMENT: usize = 64;

/// What is done about a process of this site that hangs and holds up a view change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hang {
    /// The others wait, and say so (`Event::Slow`).
    Wait,
    /// It is killed after `hang_timeout_ns`, if it consented.
    Kill,
}

/// When the task of ordering the ABCASTs of a group moves to another member. Each member asks itself while it is its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handover {
    /// So many ABCASTs are counted, at least, before it is compared who sent how many. 0: this process passes it to nobody.
    pub after: u32,
    /// For so long they are counted, at least: bursts even out.
    pub pause_ns: u64,
}

/// How a group's ABCASTs are put into one order. Both schemes give the same guarantees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TotalOrder {
    /// One member says the order [BSS91]: at first the oldest, later whoever sends most ([`Handover`]). An ABCAST of another one
    /// takes one message more; while the sequencer is away, or dead and not yet excluded, none is delivered.
    #[default]
    Sequencer,
    /// Every member proposes a priority, and the highest proposal counts [BJ87]. No member is special; an ABCAST takes one
    /// message more of every member, and while any of them is away none is delivered.
    Priority,
}

/// How an application joins a group.
#[derive(Clone, Debug, Default)]
pub struct JoinOptions {
    /// The joiner wants the group's state before its first view. Without it, it counts as having the state at once.
    pub wants_state: bool,
    /// *Sending view* mode: a message is delivered in the view that its sender was told of when it sent it. A multicast
    /// during a view change is refused with `WouldBlock` instead of being kept for the next view, and no message may be
    /// longer than the window.
    pub sending_view: bool,
    /// The causality domain. Causality reaches across all groups of one domain that a process is in (R4): a multicast in one
    /// of them waits until what this process sent or delivered in the others is delivered at all their members. Groups of
    /// different domains know nothing of each other, and pay nothing. All members of a group should name the same one.
    pub domain: u32,
    /// As a client: the process multicasts into the group and is no member of it; it sees no views and no multicasts. It waits
    /// until there is a group of this name. Of the other options only `domain` has a meaning.
    pub client: bool,
    /// How ABCASTs are ordered, if this process creates the group. It is a property of the group: whoever comes later gets
    /// what its creator chose, whatever it asks for.
    pub total_order: TotalOrder,
}
