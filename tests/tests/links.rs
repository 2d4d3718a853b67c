//! Two sites that do not reach each other while a third reaches both: by age, whoever has no link to an older one has to go,
//! and stays outside as long as that is so (properties 21, 22 and 26; each script ends with the whole checker).

use isis_protocol::event::Kind;
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_tests::scenario::Scenario;
use isis_tests::trace::Event;

/// How many processes were evicted.
fn evictions(s: &Scenario) -> usize {
    s.world.records.trace.records.iter().filter(|r| matches!(r.event, Event::Evicted)).count()
}

/// Three sites; the way between the processes of age `one` and `other` is cut, both ways or from the one to the other.
/// The younger goes, the rest goes on.
fn cut(one: usize, other: usize, one_way: bool) {
    let (mut s, _) = settled::<3>();
    s.part_one_way(one, other);
    if !one_way {
        s.part_one_way(other, one);
    }
    let younger = one.max(other);
    let rest: Vec<usize> = (0..3).filter(|n| *n != younger).collect();
    s.until("the younger is out", |s| {
        rest.iter().all(|&n| s.view_is(n, &rest) && s.system_is(n, &rest)) && evictions(s) == 1
    });
    let message = s.multicast_when_possible(rest[0], Kind::Total, false, 64);
    s.until("the rest goes on", |s| rest.iter().all(|&n| s.has(n, message)));
    // It comes back, and asks in vain: nobody's view changes for it.
    let back = s.start(younger as u32);
    let views =
        |s: &Scenario| rest.iter().map(|&n| s.app(n).system_view.as_ref().map(|v| v.number)).collect::<Vec<_>>();
    let before = views(&s);
    s.pass(3 * SECOND);
    assert_eq!(views(&s), before, "no view changes for one that would have to go again");
    assert!(s.app(back).system_view.is_none());
    // Until the way is whole again.
    s.mend();
    let all = [rest[0], rest[1], back];
    s.until("it is in again", |s| all.iter().all(|&n| s.system_is(n, &all)));
    s.finish();
}

#[test]
fn of_a_cut_pair_the_younger_goes() {
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        cut(one, other, false);
    }
}

#[test]
fn a_way_that_is_open_in_one_direction_is_no_link() {
    for (one, other) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        cut(one, other, true);
    }
}

/// A process whose site belongs to a system that is no more is not the one whose turn it is to found another one: that is a
/// process with a lower nonce, which looks for a system for ever, because it has no link to a member of the one that it found. The
/// first one asks its site's record again all the same. (From seed 93029619: it looked for ever, too.)
#[test]
fn a_site_is_free_again_though_another_process_looks_in_vain() {
    let mut s = Scenario::new(&[1, 1, 1, 2]);
    let alone = 3;
    s.part(&[alone]);
    let former = s.admit(3);
    s.admit(0);
    s.admit(1);
    s.part_one_way(1, 2);
    s.part_one_way(2, 1);
    let outside = s.start(2);
    // Silent, but alive: the site is its system's.
    s.hang(former);
    let late = s.start(4);
    s.pass(2 * SECOND);
    assert!(
        [outside, late].iter().all(|&n| s.app(n).system_view.is_none()),
        "the schedule is another one:\n{}",
        s.text()
    );
    for other in 0..alone {
        s.world.network.unblock(alone, other);
        s.world.network.unblock(other, alone);
    }
    s.pass(SECOND);
    s.crash(former);
    s.until("the late one is in a system", |s| s.app(late).system_view.is_some());
    s.join(late);
    s.until("it can be in a group", |s| s.view_is(late, &[late]));
    let message = s.multicast(late, Kind::Total, false, 100);
    s.until("and multicast", |s| s.has(late, message));
    // Which of the systems gives way to the other is another story.
    s.finish_safe();
}

/// A cut that is mended in time costs nobody its place: what was lost comes by repairs from the third.
#[test]
fn a_short_cut_is_bridged_by_the_third() {
    let (mut s, nodes) = settled::<3>();
    s.part_one_way(0, 1);
    s.part_one_way(1, 0);
    let message = s.multicast(nodes[0], Kind::Fifo, false, 3_000);
    s.until("the third has it", |s| s.has(nodes[2], message));
    s.until("and so has the one that is cut off", |s| s.has(nodes[1], message));
    s.mend();
    s.pass(2 * SECOND);
    assert_eq!(evictions(&s), 0);
    assert!(nodes.iter().all(|&n| s.view_is(n, &nodes)));
    s.finish();
}

/// Some processes, one a site, in one group for a second.
fn settled<const N: usize>() -> (Scenario, [usize; N]) {
    let mut s = Scenario::new(&[1; N]);
    let nodes: [usize; N] = s.start_all();
    s.form_group(&nodes);
    s.pass(SECOND);
    (s, nodes)
}

/// Five sites, each of which has reached the middle only for three seconds.
fn star(middle: usize) -> (Scenario, [usize; 5]) {
    let (mut s, nodes) = settled();
    for one in 0..5 {
        for other in 0..5 {
            if one != other && one != middle && other != middle {
                s.part_one_way(one, other);
            }
        }
    }
    s.pass(3 * SECOND);
    (s, nodes)
}

/// A star: everybody reaches the middle only. By age two would be left, of five: that is no quorum, and nothing is done; when
/// the ways are whole, nobody is missing.
#[test]
fn where_the_rest_is_no_quorum_nothing_is_done() {
    let (mut s, nodes) = star(2);
    assert_eq!(evictions(&s), 0, "{}", s.text());
    assert!(nodes.iter().all(|&n| s.system_is(n, &nodes)), "nobody has to go");
    s.mend();
    let message = s.multicast_when_possible(nodes[4], Kind::Total, false, 64);
    s.until("all go on", |s| nodes.iter().all(|&n| s.has(n, message)));
    s.finish();
}

/// A star again, and one of its rays dies: the view without it takes the answers of three, and the proposer, the oldest, reaches
/// the middle only. The others' answers come by way of the middle. Of the four that are left the oldest and the middle are
/// half, with the oldest: from then on they are a quorum, and go on without the other two.
#[test]
fn a_view_change_takes_detours() {
    let (mut s, nodes) = star(2);
    s.crash_site(4);
    let rest = [nodes[0], nodes[1], nodes[2], nodes[3]];
    s.until("the view without the dead one", |s| s.system_is(nodes[0], &rest));
    assert!(s.counter(nodes[2], "detours_served") > 0);
    s.until("the oldest and the middle go on", |s| {
        [0, 2].iter().all(|&n| s.view_is(n, &[nodes[0], nodes[2]])) && evictions(s) == 2
    });
    s.finish();
}

/// Several processes a site: all of the younger side's go, and nobody else.
#[test]
fn sites_with_several_processes_go_as_a_whole() {
    let mut s = Scenario::new(&[2, 2, 2]);
    let nodes: [usize; 6] = s.start_all();
    s.form_group(&nodes);
    s.pass(SECOND);
    s.part_one_way(1, 0);
    let rest = [nodes[0], nodes[1], nodes[4], nodes[5]];
    s.until("the younger site is out", |s| rest.iter().all(|&n| s.view_is(n, &rest)) && evictions(s) == 2);
    s.pass(100 * MILLISECOND);
    s.finish();
}

/// The same in a large view, whose members hear few of the others themselves.
#[test]
fn a_cut_in_a_large_view() {
    let (mut s, nodes) = settled::<12>();
    // Rank 7 tells rank 9 at the second level of the ring.
    s.part_one_way(7, 9);
    s.part_one_way(9, 7);
    let rest: Vec<usize> = (0..12).filter(|n| *n != 9).collect();
    s.until("the younger is out", |s| rest.iter().all(|&n| s.view_is(n, &rest)) && evictions(s) == 1);
    let message = s.multicast_when_possible(nodes[7], Kind::Total, false, 64);
    s.until("the rest goes on", |s| rest.iter().all(|&n| s.has(n, message)));
    s.finish();
}
