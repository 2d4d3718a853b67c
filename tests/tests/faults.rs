//! The faults of the simulator do what their names say, and seeds draw all of them.

use isis_protocol::event::Kind;
use isis_protocol::random::Random;
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_tests::scenario::Scenario;
use isis_tests::sim::faults::Step;
use isis_tests::sim::link::MILLION;
use isis_tests::sim::plan::{Options, Plan};

/// Damaged packets are noticed, each and every one: they count as lost, and in a counter, and their messages come all the
/// same, whole.
#[test]
fn every_damaged_packet_is_counted() {
    let mut s = Scenario::new(&[2, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    let nobody = s.world.network.tally.nobody;
    for link in [&mut s.world.network.local, &mut s.world.network.remote] {
        (link.flip, link.truncate) = (MILLION / 5, MILLION / 10);
    }
    let mut keys = Vec::new();
    for round in 0..20 {
        for node in [a, b, c] {
            keys.push(s.multicast(node, Kind::Total, round % 2 == 0, 300));
        }
        s.pass(5 * MILLISECOND);
    }
    for link in [&mut s.world.network.local, &mut s.world.network.remote] {
        (link.flip, link.truncate) = (0, 0);
    }
    s.until("all messages", |s| [a, b, c].iter().all(|&node| keys.iter().all(|key| s.has(node, *key))));
    s.pass(SECOND);
    let counted = |name: &str| -> u64 {
        let endpoints = s.world.nodes.iter().filter_map(|node| node.endpoint.as_ref());
        endpoints.flat_map(|it| it.counters()).filter(|(counter, _)| *counter == name).map(|(_, count)| count).sum()
    };
    let noticed: u64 =
        ["ignore_bad_checksum", "ignore_not_ours", "ignore_incompatible_version"].into_iter().map(counted).sum();
    let tally = s.world.network.tally;
    assert!(tally.damaged > 100, "only {} packets were damaged", tally.damaged);
    assert_eq!((noticed, counted("ignore_malformed")), (tally.damaged, 0));
    assert_eq!((tally.overflowed, tally.nobody), (0, nobody), "else they could not be compared");
    s.finish();
}

/// Clocks that run apart, as fast as clocks do, change nothing.
#[test]
fn clocks_may_drift_apart() {
    let mut s = Scenario::new(&[1, 1, 1]);
    s.world.drift_ppm = 500;
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    let clocks = |s: &Scenario| [a, b, c].map(|node| s.world.nodes[node].clock.at(s.world.now()).0);
    let before = clocks(&s);
    for _ in 0..60 {
        s.pass(SECOND);
        s.multicast(b, Kind::Total, true, 50);
    }
    let after = clocks(&s);
    let passed = [0, 1, 2].map(|node| after[node] - before[node]);
    assert!(passed[0] != passed[1] && passed[1] != passed[2], "no clock drifts: {passed:?}");
    assert!(s.view_is(a, &[a, b, c]) && s.view_is(c, &[a, b, c]));
    s.finish();
}

/// Two hosts do not reach each other, and a third reaches both. Whatever comes of it is safe; and when the link is mended
/// all are together again.
#[test]
fn two_of_three_hosts_are_cut_from_each_other() {
    for one_way in [false, true] {
        let mut s = Scenario::new(&[1, 1, 1]);
        let [a, b, c] = s.start_all();
        s.form_group(&[a, b, c]);
        s.world.network.block(1, 2);
        if !one_way {
            s.world.network.block(2, 1);
        }
        for _ in 0..40 {
            for node in [a, b, c] {
                if s.world.nodes[node].alive() && s.app(node).members.iter().any(|member| member.active()) {
                    let _ = s.try_multicast(node, Kind::Total, true, 100);
                }
            }
            s.pass(SECOND / 10);
        }
        s.world.network.unblock_all();
        let alive = |s: &Scenario| -> Vec<usize> { s.world.alive().collect() };
        s.until("one view of all that are left", |s| {
            let left = alive(s);
            left.len() > 1 && left.iter().all(|&node| s.system_is(node, &left) && s.view_is(node, &left))
        });
        s.finish();
    }
}

/// In a few hundred seeds each fault is drawn, and so is a run without any.
#[test]
fn seeds_draw_every_fault() {
    let options = Options { members: 5..=5, ..Options::default() };
    let plans: Vec<Plan> = (1..=300).map(|seed| Plan::draw(&mut Random::new(seed), &options)).collect();
    let steps = |is: fn(&Step) -> bool| plans.iter().filter(|plan| plan.steps.iter().any(|s| is(&s.step))).count();
    let with = |is: fn(&Plan) -> bool| plans.iter().filter(|plan| is(plan)).count();
    let drawn = [
        ("arrivals", steps(|s| *s == Step::Arrive)),
        ("leaves", steps(|s| *s == Step::Leave)),
        ("crashes", steps(|s| *s == Step::Crash)),
        ("site crashes", steps(|s| *s == Step::CrashSite)),
        ("deaths of all processes", steps(|s| *s == Step::CrashAll { sites: false })),
        ("deaths of all sites", steps(|s| *s == Step::CrashAll { sites: true })),
        ("crash loops", steps(|s| matches!(s, Step::CrashLoop { .. }))),
        ("short pauses", steps(|s| matches!(s, Step::Hang(lasts) if *lasts < 100 * MILLISECOND))),
        ("long pauses", steps(|s| matches!(s, Step::Hang(lasts) if *lasts > SECOND))),
        ("slow consumers", steps(|s| matches!(s, Step::Lag(_)))),
        ("partitions", steps(|s| matches!(s, Step::Partition { one_way: false, .. }))),
        ("one-way partitions", steps(|s| matches!(s, Step::Partition { one_way: true, .. }))),
        ("cut pairs", steps(|s| matches!(s, Step::Cut { one_way: false, .. }))),
        ("pairs cut one way", steps(|s| matches!(s, Step::Cut { one_way: true, .. }))),
        ("clogs", steps(|s| matches!(s, Step::Clog(_)))),
        ("loss", with(|p| p.remote.loss > MILLION / 5)),
        ("loss of one kind", with(|p| p.remote.spared > 0)),
        ("bursts", with(|p| p.remote.burst > 0)),
        ("duplication", with(|p| p.remote.duplicate > MILLION / 5)),
        ("reordering", with(|p| p.remote.reorder > 0)),
        ("flipped bits", with(|p| p.remote.flip > 0)),
        ("truncation", with(|p| p.remote.truncate > 0)),
        ("drift", with(|p| p.setting.drift_ppm > 0)),
        ("lost sites", with(|p| p.lost_sites > 0)),
        ("no steps but starts", with(|p| p.steps.iter().all(|s| matches!(s.step, Step::Start(_))))),
    ];
    for (fault, runs) in drawn {
        assert!((2..=290).contains(&runs), "{fault}: in {runs} of 300 seeds");
    }
    let too_many = plans.iter().filter(|plan| 2 * plan.lost_sites >= plan.sites.max(1)).count();
    assert_eq!(too_many, 0, "no majority of the sites fails for ever");
}
