//! The rules that can be taken out, one at a time.

/// What is different from the rules as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rules {
    /// Nothing.
    AsWritten,
    /// R6: whoever takes over forms a value of its own, whatever was accepted.
    ProposesAfresh,
    /// R5: a member appends to its stream, and so delivers its own message, after its PROMISE.
    AppendsWhileFrozen,
    /// R5: a member delivers what comes in after its PROMISE.
    DeliversWhileFrozen,
    /// R5: a member's row shows what comes in after its PROMISE.
    FrozenRowMoves,
    /// A member answers attempts lower than the one that it promised.
    BreaksPromise,
    /// The cut of an excluded member is the least that an answerer has.
    CutTooLow,
    /// A member accepts before it has everything up to the cut.
    AcceptsUnfetched,
    /// R8: a view that is over is forgotten as soon as the next one is installed.
    ForgetsOldView,
    /// R8: a process that learns that it is excluded tells nobody.
    EvictedFallsSilent,
    /// Half of the members are a quorum, whichever half.
    AnyHalf,
    /// A member installs a view that lacks it.
    InstallsForeignView,
    /// R9: the quorum of a group is whom the proposer believes alive.
    GroupSuspects,
}
