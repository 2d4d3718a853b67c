//! Claims: messages that the application writes in place, in the stream. One at a time in each group.

use super::Group;
use super::debts::Debt;
use crate::event::{Refused, SendOptions};
use crate::plane::Plane;
use crate::shared::Shared;

impl Group {
    /// Reserves a message of one frame, to be written in place.
    pub fn claim(&mut self, shared: &mut Shared, len: usize) -> Result<(), Refused> {
        if len > shared.config.claim_max() {
            return Err(Refused::TooLong);
        }
        if self.claimed_plane().is_some() {
            return Err(Refused::BadClaim);
        }
        let space = self.plane.space(shared.config.window, false);
        if !self.waiting.is_empty()
            || self.is_held_up(shared)
            || self.plane.log.size_in_chunk(len) > space
            || self.plane.open_claim(&mut shared.region, len).is_none()
        {
            self.want_writable(shared);
            return Err(Refused::WouldBlock);
        }
        Ok(())
    }

    fn claimed_plane(&mut self) -> Option<&mut Plane> {
        if self.plane.claim.is_some() {
            return Some(&mut self.plane);
        }
        let mut old = self.old.iter_mut().filter(|old| !old.former).map(|old| &mut old.plane);
        old.find(|plane| plane.claim.is_some())
    }

    /// The claimed bytes: chunk, offset, length.
    pub fn claimed(&mut self) -> Result<crate::plane::Claim, Refused> {
        self.claimed_plane().and_then(|plane| plane.claim).ok_or(Refused::BadClaim)
    }

    /// Multicasts the claimed bytes. On `WouldBlock` the claim stays open.
    pub fn commit(&mut self, shared: &mut Shared, options: SendOptions, debts: Vec<Debt>) -> Result<u64, Refused> {
        let claim = self.claimed()?;
        let held_up = self.is_held_up(shared) || self.is_untold() || self.is_relaying();
        let in_place = !held_up && !claim.displaced && self.plane.claim.is_some();
        if in_place && self.waiting.is_empty() && debts.is_empty() {
            self.plane.claim = None;
            self.plane.commit_in_place(&mut shared.region, claim, options);
            let ticket = self.accepted(shared);
            self.note_own(ticket);
            return Ok(ticket);
        }
        let data = shared.region.bytes(claim.chunk, claim.offset..claim.offset + claim.len).to_vec();
        let ticket = self.multicast(shared, options, &data, debts)?;
        self.drop_claim(shared);
        Ok(ticket)
    }

    /// Gives a claim up.
    pub fn abort(&mut self, shared: &mut Shared) -> Result<(), Refused> {
        self.claimed()?;
        self.drop_claim(shared);
        Ok(())
    }

    fn drop_claim(&mut self, shared: &mut Shared) {
        if let Some(claim) = self.claimed_plane().and_then(|plane| plane.claim.take())
            && claim.owns_chunk
        {
            // Others may wait for it.
            shared.beyond |= shared.is_full();
            shared.region.give_back(claim.chunk);
        }
    }
}
