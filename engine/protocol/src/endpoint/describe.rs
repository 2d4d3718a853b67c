//! A description of the endpoint's state for people: what it waits for.

use super::Endpoint;
use std::fmt::Write;

impl Endpoint {
    /// Several lines of text: views, changes under way, streams, joins. For diagnosis; the form is not fixed.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let shared = &self.shared;
        let _ = writeln!(
            text,
            "{:?} in {:?} view {}, now {}, stalled {}, ended {:?}, operations waiting {}, suspected {:?}",
            shared.me,
            shared.system,
            shared.system_view.number,
            shared.now.0,
            shared.stalled,
            self.ended,
            self.operations.len(),
            shared.peers.keys().filter(|p| shared.suspected(**p)).collect::<Vec<_>>(),
        );
        let _ = writeln!(
            text,
            "  to several groups: complete {}, open {:?}, others' {:?}",
            shared.multis.complete, self.multicasts, shared.multis.pending,
        );
        for handle in &self.handles {
            let _ = writeln!(text, "  {:?} abandoned {} {:?}", handle.name, handle.abandoned, handle.phase);
        }
        for (process, peer) in shared.peers.iter() {
            let idle = peer.lanes.each_ref().map(|lane| lane.as_ref().is_none_or(|lane| lane.sender.is_idle()));
            let _ =
                writeln!(text, "  to {process:?}: lanes idle {idle:?} {:?}; from it {:?}", peer.sent, peer.received,);
        }
        for (handle, client) in self.clients.iter() {
            let _ = writeln!(text, "  as a client {handle:?}: {}", client.describe());
        }
        for group in self.groups.values() {
            let plane = &group.plane;
            let _ = writeln!(
                text,
                "  {:?} view {} rank {} of {:?} frozen {} departed {:?} state {:?} waiting {} held {} backlog {} old {:?} candidates {:?}",
                group.id,
                group.view.number,
                group.rank,
                group.view.members.iter().map(|m| m.process).collect::<Vec<_>>(),
                plane.frozen,
                group.departed_until,
                group.state,
                group.waiting.len(),
                group.held.len(),
                group.backlog.len(),
                group.old.iter().map(|old| (old.number, &old.awaited, old.plane.unconsumed())).collect::<Vec<_>>(),
                group.candidates.values().map(|c| (c.joiner.nonce, c.fresh)).collect::<Vec<_>>(),
            );
            let _ = writeln!(
                text,
                "    first debts {:?} unicasts {:?}",
                group.waiting.front().map(|message| &message.debts),
                group.unicasts,
            );
            group.clients.describe(&mut text);
            let _ = writeln!(text, "    {:?} {:?}", group.copies, group.own_copies);
            let _ = writeln!(
                text,
                "    promised {:?} accepted {:?} fetching {} decided {} proposer {:?}",
                group.change.promised,
                group.change.accepted.as_ref().map(|(attempt, _)| attempt),
                group.change.fetching.is_some(),
                group.change.decided.is_some(),
                group.change.proposer,
            );
            let _ = writeln!(
                text,
                "    log end {} published {} sent {} {:?} stable {:?} order {} row_due {:?} shown {:?}",
                plane.log.end,
                plane.log.published,
                plane.log.sent,
                group.flight,
                plane.stable,
                plane.order.len(),
                plane.row_due,
                plane.shown,
            );
            for rank in 0..plane.members {
                let inbox = &plane.inbox[rank];
                let image = &plane.images[rank];
                let _ = writeln!(
                    text,
                    "    rank {rank}: contiguous {} known {} parsed {} whole {} delivered {} stable messages {} broken {} head {:?} row {:?}",
                    image.contiguous,
                    image.known_end,
                    inbox.parsed,
                    inbox.whole,
                    inbox.delivered,
                    inbox.stable_messages,
                    inbox.broken,
                    inbox.queue.front().map(|batch| (batch.number, batch.count, batch.traits)),
                    plane.rows[rank],
                );
            }
        }
        text
    }
}
