//! Multicasts of the application: what is checked before one, and what need not be checked again for those right behind
//! it.
//!
//! A program that has many messages sends them one after the other. What the first of them was found to be free of
//! (what happened before elsewhere, point-to-point messages on their way, a view change, other multicasts that wait)
//! the next ones are free of as well, as long as nothing else is done to the endpoint: a [`Permit`] says so, and any
//! other call ends it.

use super::Endpoint;
use super::check_kind;
use crate::event::{Kind, Refused, SendOptions};
use crate::group::Group;
use crate::id::{GroupHandle, GroupId};
use crate::shared::Shared;
use crate::time::Instant;

/// A multicast was appended, and nothing happened since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permit {
    handle: GroupHandle,
    group: GroupId,
    kind: Kind,
    /// Its stream may go up to here; 0: it was the first one, and its like is checked once more.
    limit: u64,
}

impl Endpoint {
    /// The open group behind a handle, and what all groups share.
    pub(super) fn open(&mut self, handle: GroupHandle) -> Result<(&mut Group, &mut Shared), Refused> {
        if self.ended.is_some() {
            return Err(Refused::Ended);
        }
        let id = self.group_of(handle).ok_or(Refused::NotMember)?;
        match self.groups.get_mut(&id) {
            Some(group) if group.handle == handle && group.is_open() => Ok((group, &mut self.shared)),
            _ => Err(Refused::NotMember),
        }
    }

    /// Multicasts `data` (copied once). Also delivered to this process itself. Gives the message's ticket, which
    /// `Delivery::ticket` shows with it here, and with each reply to it: not 0, and no other message's of this process
    /// in this membership. Refused with `WouldBlock` while the process is stalled.
    pub fn multicast(
        &mut self,
        now: Instant,
        group: GroupHandle,
        options: SendOptions,
        data: &[u8],
    ) -> Result<u64, Refused> {
        let permit = self.permit.take();
        self.note(now);
        if let Some(ticket) = permit.and_then(|permit| self.multicast_again(permit, group, options, data)) {
            return Ok(ticket);
        }
        check_kind(options)?;
        let debts = self.debts_before(group, options.kind, None);
        if self.clients.contains_key(&group) {
            self.touch();
            return self.multicast_as_client(group, options, data, debts);
        }
        let plain = debts.is_empty() && options.kind != Kind::Global;
        let handle = group;
        let (group, shared) = self.open(handle)?;
        let (id, sent) = (group.id, group.multicast(shared, options, data, debts));
        // The second one in a row gets it: where they come one at a time it is of no use.
        let limit = if permit.is_some() { group.stream_limit(shared) } else { 0 };
        if self.note_multicast(id, plain && sent.is_ok()) {
            self.permit = Some(Permit { handle, group: id, kind: options.kind, limit });
        }
        sent
    }

    /// One more multicast like that of the permit, which goes on then. `None`: it is not like it, or there is no room,
    /// and nothing was done.
    #[inline]
    fn multicast_again(
        &mut self,
        permit: Permit,
        handle: GroupHandle,
        options: SendOptions,
        data: &[u8],
    ) -> Option<u64> {
        if (handle, options.kind) != (permit.handle, permit.kind) || self.dirty {
            return None;
        }
        let group = self.groups.get_mut(&permit.group)?;
        let ticket = group.multicast_again(&mut self.shared, options, data, permit.limit)?;
        self.permit = Some(permit);
        Some(ticket)
    }

    /// Reserves `len` bytes in the outgoing stream, to be written in place through `claimed`. One claim at a time per
    /// group.
    pub fn claim(&mut self, group: GroupHandle, len: usize) -> Result<(), Refused> {
        let (group, shared) = self.open(group)?;
        group.claim(shared, len)
    }

    /// Where the reserved bytes lie: chunk of the region, offset in it, length.
    pub fn claimed_place(&mut self, group: GroupHandle) -> Result<(isis_memory::ChunkIndex, usize, usize), Refused> {
        let (group, _) = self.open(group)?;
        let claim = group.claimed()?;
        Ok((claim.chunk, claim.offset, claim.len))
    }

    /// The reserved bytes, 8-byte aligned in their chunk.
    pub fn claimed(&mut self, group: GroupHandle) -> Result<&mut [u8], Refused> {
        let (chunk, offset, len) = self.claimed_place(group)?;
        Ok(self.shared.region.range_mut(chunk, offset..offset + len))
    }

    /// Multicasts the claimed bytes. The message belongs to the view of this call. On `WouldBlock` the claim stays
    /// open. Gives the message's ticket.
    pub fn commit(&mut self, now: Instant, group: GroupHandle, options: SendOptions) -> Result<u64, Refused> {
        self.note(now);
        check_kind(options)?;
        let debts = self.debts_before(group, options.kind, None);
        let plain = debts.is_empty() && options.kind != Kind::Global;
        let (group, shared) = self.open(group)?;
        let (id, sent) = (group.id, group.commit(shared, options, debts));
        self.note_multicast(id, plain && sent.is_ok());
        sent
    }

    /// Gives a claim up.
    pub fn abort(&mut self, group: GroupHandle) -> Result<(), Refused> {
        // It may give memory back that something waits for.
        self.touch();
        let (group, shared) = self.open(group)?;
        group.abort(shared)
    }
}
