//! Each model holds as written, and loses a property with any one of its rules taken out. `--nocapture` shows the counts.
//!
//! The large bounds are searched by `cargo run --release -- --big`.

use isis_model::cases;

fn search(name: &str) {
    let case = cases::all().into_iter().find(|case| case.name == name).expect("a case of this name");
    let report = case.run();
    println!("{}: {report}", case.name);
    assert!(report.states > 10, "only {} states", report.states);
    assert_eq!(case.objection(&report), None, "{report}");
}

macro_rules! searches {
    ($($test:ident: $name:literal;)*) => {
        $(
            #[test]
            fn $test() {
                search($name);
            }
        )*

        /// No case is left out but the big ones.
        #[test]
        fn every_case_has_a_test() {
            let tested = [$($name),*];
            for case in cases::all().into_iter().filter(|case| !case.big) {
                assert!(tested.contains(&case.name), "{} has no test", case.name);
            }
        }
    };
}

searches! {
    change_two_members_and_a_joiner: "change, two members and a joiner";
    change_one_attempt: "change, one attempt";
    change_one_message: "change, one message";
    change_nobody_joins: "change, nobody joins";
    change_proposes_afresh: "change, ProposesAfresh";
    change_breaks_promise: "change, BreaksPromise";
    change_any_half: "change, AnyHalf";
    change_appends_while_frozen: "change, AppendsWhileFrozen";
    change_delivers_while_frozen: "change, DeliversWhileFrozen";
    change_cut_too_low: "change, CutTooLow";
    change_frozen_row_moves: "change, FrozenRowMoves";
    change_installs_foreign_view: "change, InstallsForeignView";
    change_accepts_unfetched: "change, AcceptsUnfetched";
    change_forgets_old_view: "change, ForgetsOldView";
    change_evicted_falls_silent: "change, EvictedFallsSilent";
    group_the_oldest_is_excluded: "group, the oldest is excluded";
    group_the_youngest_is_excluded: "group, the youngest is excluded";
    group_group_suspects: "group, GroupSuspects";
    vote_the_oldest_shares_its_site: "vote, the oldest shares its site";
    vote_the_youngest_share_a_site: "vote, the youngest share a site";
    vote_two_sites: "vote, two sites";
    vote_later_deaths_count: "vote, LaterDeathsCount";
    vote_one_votes_for_site: "vote, OneVotesForSite";
    founding_three_sites: "founding, three sites";
    founding_four_sites: "founding, four sites";
    founding_forgets_pledges: "founding, ForgetsPledges";
    founding_answers_unwritten: "founding, AnswersUnwritten";
    founding_pledges_time_out: "founding, PledgesTimeOut";
    founding_majority_of_seen: "founding, MajorityOfSeen";
    founding_sites_named_by_boot: "founding, SitesNamedByBoot";
    founding_half_of_expected: "founding, HalfOfExpected";
    merge_both_alive: "merge, both alive";
    merge_the_older_one_stalled: "merge, the older one stalled";
    merge_the_younger_one_stalled: "merge, the younger one stalled";
    merge_gives_way_unadmitted: "merge, GivesWayUnadmitted";
    merge_both_give_way: "merge, BothGiveWay";
    merge_stalled_stays: "merge, StalledStays";
    merge_joins_stalled: "merge, JoinsStalled";
    merge_a_death_at_the_wrong_moment: "merge, a death at the wrong moment";
}
