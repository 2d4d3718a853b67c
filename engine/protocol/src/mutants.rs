//! Planted bugs. With them the tests show that they would notice: each takes one rule of the protocol out, or breaks one
//! guarantee, and some test must fail.
//!
//! Only isis-tests enables the feature `mutants`. Without it `mutant!` is `false` when it is compiled, and nothing of this
//! file is left: no name, no switch, no branch.
//!
//! Owner: the tests. Invariant: a bug is on for one thread, so tests that run side by side do not disturb each other.

/// Whether this bug is on, for this thread.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::is_on($crate::mutants::Mutant::$name)
    };
}

/// Whether this bug is on: never.
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::none()
    };
}

/// No bug is on. A call, so that lints do not take a condition with a planted bug in it for a constant one.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn none() -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use planted::*;

#[cfg(feature = "mutants")]
mod planted {
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    macro_rules! planted {
        ($($mutant:ident $name:literal $rule:expr, $property:literal $what:literal;)*) => {
            /// A bug.
            #[derive(Clone, Copy, PartialEq, Eq, Debug)]
            pub enum Mutant { $(#[doc = $what] $mutant,)* }

            /// All bugs.
            pub const ALL: &[Planted] =
                &[$(Planted { mutant: Mutant::$mutant, name: $name, rule: $rule, property: $property, what: $what },)*];
        };
    }

    /// What is known of a bug.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Planted {
        /// Which.
        pub mutant: Mutant,
        /// What it is called on the command line.
        pub name: &'static str,
        /// The rule that it takes out: 5 is R5.
        pub rule: Option<u8>,
        /// The guarantee that it violates, by its number. (The one against R13 shows in that rule's story only: no check of
        /// a trace asks whether an eviction had a reason.)
        pub property: u8,
        /// What it does.
        pub what: &'static str,
    }

    planted! {
        WindowStopsControl "window-stops-control" Some(1), 22
            "a full window stops the control records of a batch as well";
        LeavesBeforeSends "leaves-before-sends" Some(3), 22
            "a leave does not wait for the earlier sends of its process";
        CausalWithinGroupOnly "causal-within-group-only" Some(4), 12
            "a message does not wait for what happened before it in other groups";
        AppendsWhileFrozen "appends-while-frozen" Some(5), 23
            "a member appends to its stream between PROMISE and DECIDE";
        FrozenRowMoves "frozen-row-moves" Some(5), 16
            "between PROMISE and DECIDE a member's row still reports what it receives";
        ProposesAfresh "proposes-afresh" Some(6), 4
            "whoever takes a view change over does not propose the accepted value again";
        UnfinishedHidesControl "unfinished-hides-control" Some(7), 13
            "order records inside an unfinished message do not count at the cut";
        ForgetsOldView "forgets-old-view" Some(8), 26
            "the bytes of a view are let go when the next one is installed";
        EvictedFallsSilent "evicted-falls-silent" Some(8), 26
            "an evicted process does not tell the others the decision that excludes it";
        GroupSuspects "group-suspects" Some(9), 4
            "a group excludes whom a member suspects, whatever the system view says";
        OneVotesForSite "one-votes-for-site" Some(10), 4
            "a site has voted as soon as one of its processes has answered";
        AdmitsAllSites "admits-all-sites" Some(11), 26
            "a system view admits any number of new sites";
        FoundsAlone "founds-alone" Some(12), 20
            "one site is enough to found a system, whatever number is expected";
        ForgetsPledge "forgets-pledge" Some(12), 20
            "a site's record does not keep what the site accepted in a founding";
        GivesWayUnadmitted "gives-way-unadmitted" Some(13), 21
            "a system gives way to any other at once, without having been admitted there";
        TrustsAddress "trusts-address" Some(14), 26
            "a packet with an unknown birth is taken for one of the member with that address";
        EndsWithFounder "ends-with-founder" Some(15), 21
            "the directory ends a group when its oldest entry is dead";

        CausalUncovered "causal-uncovered" None, 12
            "a message is delivered before those that it follows causally";
        TotalUnordered "total-unordered" None, 13
            "ABCASTs are delivered as they come";
        SafeUnstable "safe-unstable" None, 16
            "a safe message is delivered before it is stable";
        TailAfterView "tail-after-view" None, 10
            "the last message of an excluded member is delivered after the view that excludes it";
        DeliversUnmarked "delivers-unmarked" None, 7
            "what comes of a client is delivered, whatever its mark says";
        RelaysUnsafe "relays-unsafe" None, 8
            "a client's message is delivered before all members have it";
        JoinerUnmarked "joiner-unmarked" None, 8
            "a joiner is not told that the last message of a client is delivered";
        RepeatsOwn "repeats-own" None, 7
            "a member delivers its last message of the old view in the new one again";
        CutTooLow "cut-too-low" None, 9
            "the cut of a failed member is the least, not the most, that any answerer has";
        JoinerRanksFirst "joiner-ranks-first" None, 5
            "joiners of a group come before its members";
        FlushReturnsEarly "flush-returns-early" None, 19
            "a flush returns without waiting for stability";
        StateTooEarly "state-too-early" None, 18
            "the state for a joiner is captured before the old view's last messages are delivered";
        GlobalTooSoon "global-too-soon" None, 15
            "at the cut GBCASTs are delivered before the other messages";
        TellsOldRank "tells-old-rank" None, 1
            "a view is told with the rank that the member had in the view before";
        KeepsNumber "keeps-number" None, 2
            "a view without changes is told under the number of the view before";
        OvertakesState "overtakes-state" None, 3
            "a joiner's messages do not wait for its state and its first view";
        StableUndated "stable-undated" None, 19
            "a message counts as stable before the record that dates it is";
        PieceTooEarly "piece-too-early" None, 6
            "a frame that reaches into the next chunk is taken for a whole one when its first bytes are here";
        DirtyBuffer "dirty-buffer" None, 6
            "the buffer in which a long message is put together is used again without being emptied";
        SendsUntold "sends-untold" None, 8
            "in sending-view mode a message may belong to a view that its sender was not told of";
        OvertakesWaiting "overtakes-waiting" None, 11
            "a multicast does not queue behind those that wait for room";
        TotalAsFifo "total-as-fifo" None, 14
            "ABCASTs are delivered like FBCASTs, as they come and whatever came before";
        BatchOvertakesHeld "batch-overtakes-held" None, 12
            "a batch of messages is delivered as a whole, though a point-to-point message has its place between two of them";
        UnicastUncovered "unicast-uncovered" None, 12
            "a point-to-point message does not wait for what its sender had delivered";
        TotalUndated "total-undated" None, 12
            "an ABCAST carries no vector of what its sender had delivered";
        StableAtOne "stable-at-one" None, 22
            "stable is what the foremost member has received, not the hindmost";
        GoesOnWithout "goes-on-without" None, 17
            "a member accepts and installs without fetching what it lacks up to the cut";
        AnyHalf "any-half" None, 20
            "half of the sites are a quorum, also without the oldest process's site";
        NeverSuspects "never-suspects" None, 21
            "silence of another site's process is never taken for a failure";
        HintExcludes "hint-excludes" None, 21
            "a refused datagram is taken for a failure, without probing";
        TailUnseen "tail-unseen" None, 22
            "the end of a stream in a row does not show that its last bytes are missing";
        ForgetsUnfinished "forgets-unfinished" None, 23
            "a message that was being appended when the view ended is not appended again";
        SafeByOne "safe-by-one" None, 24
            "a safe message waits until the one after it is stable as well";
        FlushForgetsFollowed "flush-forgets-followed" None, 19
            "a flush does not wait for what its messages follow, though they are dropped where that is lost";
        FlushByOne "flush-by-one" None, 25
            "a flush waits for a byte beyond the last one that it covers";
        KeepsCutOff "keeps-cut-off" None, 21
            "nobody has to go for a broken link between two members that others reach";
        GossipForgetsLast "gossip-forgets-last" None, 12
            "in a large view the members of the last level are not counted in what all have";
        NeverStalls "never-stalls" None, 20
            "a process without contact to a quorum goes on";
        MultiUndecided "multi-undecided" None, 13
            "an ABCAST to several groups is put in its place by one group's proposal";
        NeverSettles "never-settles" Some(2), 17
            "a view change does not ask other groups for final priorities";
        SettlesByFirst "settles-by-first" Some(2), 17
            "one answer of the other groups' processes settles what is open";
        AnswersUnfrozen "answers-unfrozen" Some(2), 17
            "a member that may still learn of a final priority answers that it knows none";
        FinalsUntold "finals-untold" Some(2), 17
            "a joiner is not told the final priorities that its state may rest on";
        PendingUntold "pending-untold" Some(4), 12
            "a joiner is not told of ABCASTs to several groups that are delivered in this one and not in the others";
        FinalByGroup "final-by-group" Some(2), 22
            "a final priority is said in the groups that take it now, without waiting for the others";
        StartsApart "starts-apart" None, 22
            "the copies of an ABCAST to several groups do not wait for each other";
        ForgetsOtherGroups "forgets-other-groups" Some(4), 12
            "a message does not wait until what came here through one group has come through the others that it goes to";
        OrdersUnasked "orders-unasked" None, 13
            "the order that a member says counts before the handover to it was read";
        HandoverForgets "handover-forgets" None, 22
            "a new sequencer orders anew what is ordered and not delivered";
        HandoverUnstable "handover-unstable" None, 13
            "a safe ABCAST does not wait until the handover to the member that orders it is stable";
        PriorityUndecided "priority-undecided" None, 13
            "an ABCAST is put in its place by the priorities proposed so far, without waiting for the others";
    }

    /// Switches one bug on for this thread, or all off.
    pub fn set(mutant: Option<Mutant>) {
        ON.set(mutant);
    }

    /// This bug is on for this thread.
    pub fn is_on(mutant: Mutant) -> bool {
        ON.get() == Some(mutant)
    }

    /// The bug of this name.
    pub fn by_name(name: &str) -> Option<&'static Planted> {
        ALL.iter().find(|planted| planted.name == name)
    }
}
