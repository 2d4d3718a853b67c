//! A site's durable record (R12): it answers whenever it likes, so what it said last may come first; and what it knows of a
//! founding may be told in parts.

use isis_protocol::founding::RecordOperation;
use isis_protocol::id::{GroupId, Nonce, SystemId};
use isis_protocol::time::MILLISECOND;
use isis_tests::scenario::{Scenario, message, message_packet};
use isis_tests::sim::network::Verdict;
use isis_wire::founding::{Ballot, Foundation};
use isis_wire::message::Message;
use isis_wire::packet::{Header, PacketKind};

/// A stranger tells the process at that place.
fn tell(s: &mut Scenario, place: u32, message: Message) {
    let header = Header {
        kind: PacketKind::Message,
        birth: Nonce(7).birth(),
        system: SystemId::default(),
        group: GroupId::SYSTEM,
        view: 0,
    };
    s.world.inject(place, place, message_packet(&header, &message));
}

/// A system of three sites: founded by a process of each, of which the last one, though listed, has not heard of that yet.
fn founded_unheard(sites: &[usize]) -> (Scenario, [usize; 3], Foundation) {
    let mut s = Scenario::configured(sites, |config| config.expected_sites = 3);
    s.intercept(|packet| match message(packet) {
        Some((true, Message::Founded { .. } | Message::PledgeRefused { .. })) if packet.to == 2 => Verdict::Drop,
        _ => Verdict::Pass,
    });
    let [a, b, c] = [0, 1, 2].map(|place| s.start(place));
    s.until("a system of the other two", |s| [a, b].iter().all(|&n| s.app(n).system_view.is_some()));
    let first = s.world.sites[0].disk.foundation.clone();
    assert!(first.members.iter().any(|m| m.nonce == s.world.nodes[c].nonce), "{}", s.text());
    (s, [a, b, c], first)
}

/// The first system lists three processes of two sites. The third one hangs, and has not heard of that when a process of another
/// site, which had accepted another system, brings the next founding to a decision: the system goes on. It decided without a list.
/// The third process enters all the same, once it hears. (From seed 102001939: nobody could tell it any more whom the first view
/// lists; and since it lives, on a site with another member, no view without it came about either.)
#[test]
fn a_system_that_goes_on_keeps_its_first_view() {
    let (mut s, [a, b, c], first) = founded_unheard(&[1, 2, 1]);

    s.hang(c);
    let d = s.start(3);
    let ballot = Ballot { founding: 2, counter: 1, founder: Nonce(7) };
    tell(&mut s, 3, Message::Pledge { ballot, expected: 3, previous: first.system, free: Vec::new() });
    let other = Foundation { system: SystemId(7), members: first.members.clone() };
    tell(&mut s, 3, Message::FoundingAccept { ballot, foundation: other });
    s.until("the system goes on", |s| s.world.sites.iter().all(|site| site.disk.decided == 2));
    assert!(s.world.sites.iter().all(|site| site.disk.foundation.system == first.system), "{}", s.text());
    assert!(s.app(c).system_view.is_none(), "{}", s.text());

    s.mend();
    s.resume(c);
    s.until("all are in", |s| [a, b, c, d].iter().all(|&n| s.app(n).system_view.is_some()));
    s.form_group(&[a, b, c, d]);
    s.finish();
}

/// The third of three sites hears late of the first founding, which lists its process, and right after it of the second one;
/// the others of the first are all dead. The record lets it enter the first, then notes the second, and its answers overtake
/// each other. The process is in a system of the first founding, not of the second: it stalls there, hears of the later one and
/// gives way. (From seed 99221695: it took its system for one of the second founding, and stayed in it for ever.)
#[test]
fn a_late_answer_tells_of_its_own_founding() {
    let (mut s, [a, b, c], first) = founded_unheard(&[1, 1, 1]);

    s.part(&[2]);
    s.world.network.interceptor = None;
    s.crash(a);
    s.crash(b);
    let [a, b] = [0, 1].map(|place| s.start(place));
    s.until("the next system", |s| [a, b].iter().all(|&n| s.app(n).system_view.is_some()));
    let second = s.world.sites[0].disk.foundation.clone();
    assert!(s.world.sites[2].disk.decided == 0 && s.app(c).system_view.is_none(), "{}", s.text());

    s.world.record_delay = |operation| match operation {
        RecordOperation::Enter { .. } => Some(50 * MILLISECOND),
        _ => Some(0),
    };
    tell(&mut s, 2, Message::Founded { number: 1, foundation: first.clone() });
    s.until("its site has let it in", |s| s.world.nodes[c].system == Some(first.system));
    tell(&mut s, 2, Message::Founded { number: 2, foundation: second });
    s.until("its site knows of the next", |s| s.world.sites[2].disk.decided == 2);
    assert!(s.app(c).system_view.is_none(), "the answers are in order:\n{}", s.text());

    s.mend();
    s.until("it gives way", |s| !s.world.nodes[c].alive());
    let c = s.start(2);
    s.form_group(&[a, b, c]);
    s.finish();
}
