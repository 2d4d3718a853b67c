//! Named counters: what happened, and every reason to drop something.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        /// All counter names, in order.
        pub const NAMES: &[&str] = &[$($text,)*];
    };
}

counters! {
    /// Datagrams that came in.
    PacketsReceived = "packets_received",
    /// Datagrams handed out.
    PacketsSent = "packets_sent",
    /// Not a packet: length or magic.
    IgnoreNotOurs = "ignore_not_ours",
    /// Another protocol version speaks here.
    IgnoreIncompatibleVersion = "ignore_incompatible_version",
    /// Damaged.
    IgnoreBadChecksum = "ignore_bad_checksum",
    /// A body that does not decode.
    IgnoreMalformed = "ignore_malformed",
    /// Another system.
    IgnoreForeignSystem = "ignore_foreign_system",
    /// A process with another `expected_sites`, or a system founded under another.
    IgnoreExpectedSites = "ignore_expected_sites",
    /// Ballots to found a system that this process began (R12).
    FoundingBallots = "founding_ballots",
    /// A process that is not in the system view (R14).
    IgnoreUnknownBirth = "ignore_unknown_birth",
    /// A group that this process is not in.
    IgnoreUnknownGroup = "ignore_unknown_group",
    /// About a view that is over here.
    IgnoreOldView = "ignore_old_view",
    /// About a view that is not installed here yet.
    IgnoreFutureView = "ignore_future_view",
    /// Stream bytes that were here already.
    IgnoreDuplicateData = "ignore_duplicate_data",
    /// Stream bytes for which there was no room.
    IgnoreNoRoom = "ignore_no_room",
    /// Stream bytes named in a neighbour's arena that are not there any more.
    IgnoreOldPlace = "ignore_old_place",
    /// A view-change message that no longer matters.
    IgnoreStaleAttempt = "ignore_stale_attempt",
    /// Pieces of a message that could not be kept.
    IgnorePiece = "ignore_piece",
    /// A request of a client that was delivered before, or could not be kept.
    IgnoreRelayed = "ignore_relayed",
    /// A channel frame or acknowledgement that was of no use.
    IgnoreChannelFrame = "ignore_channel_frame",
    /// A protocol message too long to be sent.
    MessageTooLong = "message_too_long",
    /// NAKs sent.
    NaksSent = "naks_sent",
    /// Repairs sent, datagrams.
    RepairsSent = "repairs_sent",
    /// Of these, sent to the whole group because several asked.
    RepairsToGroup = "repairs_to_group",
    /// Times that less of the own stream may be under way, because something of it was lost.
    FlightsHalved = "flights_halved",
    /// Rows sent alone.
    RowsSent = "rows_sent",
    /// Protocol messages sent through a third process, for a broken link.
    DetoursSent = "detours_sent",
    /// Packets passed on between two processes that do not reach each other.
    DetoursServed = "detours_served",
    /// Digests of a large view's rows sent.
    DigestsSent = "digests_sent",
    /// Heartbeats at which everybody was asked, because a predecessor in a large view was silent.
    GossipAlarms = "gossip_alarms",
    /// Data datagrams sent.
    DataSent = "data_sent",
    /// Those among them that say where the bytes lie in the arena.
    PlacesSent = "places_sent",
    /// Messages handed to the application.
    MessagesDelivered = "messages_delivered",
    /// Messages multicast.
    MessagesMulticast = "messages_multicast",
    /// Sends refused because a window was full.
    SendsRefused = "sends_refused",
    /// The task of ordering a group's ABCASTs was passed on by this process.
    SequencerMoves = "sequencer_moves",
    /// View-change attempts proposed here.
    AttemptsProposed = "attempts_proposed",
    /// Views installed.
    ViewsInstalled = "views_installed",
    /// Suspicions of processes of other sites.
    Suspicions = "suspicions",
    /// Refusals of datagrams to processes of other sites.
    RefusalsHeard = "refusals_heard",
    /// Probes sent to those.
    ProbesSent = "probes_sent",
    /// Own pauses noticed.
    OwnPauses = "own_pauses",
}

/// The counters of one endpoint.
#[derive(Clone, Debug)]
pub struct Counters {
    values: [u64; NAMES.len()],
}

impl Default for Counters {
    fn default() -> Counters {
        Counters { values: [0; NAMES.len()] }
    }
}

impl Counters {
    /// Adds to a counter.
    pub fn add(&mut self, counter: Counter, amount: u64) {
        self.values[counter as usize] += amount;
    }
    /// Reads a counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }
    /// Names and values.
    pub fn list(&self) -> Vec<(&'static str, u64)> {
        NAMES.iter().copied().zip(self.values).collect()
    }
}
