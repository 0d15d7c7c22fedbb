//! What must hold after every step of a member, whatever happens to it (SWIM §4.2, and ours).

use rivven_cluster::swim::State;

use super::{World, seat_of};

impl World {
    /// Checks one member after a step: its own invariants, and that no word about anybody was taken back.
    pub(super) fn check(&mut self, member: usize) {
        let Some(swim) = &self.seats[member].swim else { return };
        swim.assert_invariants();
        for seen in swim.members() {
            let key = (member, seen.record.id);
            let now = (seen.record.epoch.value(), seen.state);
            if let Some(before) = self.before.insert(key, now) {
                assert!(now >= before, "member {member} held {} as {before:?}, then as {now:?}", key.1);
                let returns = !before.1.is_live() && now.1.is_live();
                assert!(!returns || now.0 > before.0, "{} came back without a word of its own", key.1);
                let left = before.1 == State::Left && now.1.is_live();
                assert!(
                    !left || now.0 >> 32 > before.0 >> 32,
                    "{} came back in the life that it left",
                    key.1
                );
            }
            let owner = self.seats.get(seat_of(seen.record.id));
            if let Some((seat, swim)) = owner.and_then(|seat| Some((seat, seat.swim.as_ref()?))) {
                // One that lost its memory may begin below what it said in the life before.
                let minted = swim.record().epoch.value().max(seat.minted_before);
                assert!(
                    now.0 <= minted || self.has_forged,
                    "member {member} holds an epoch that {} never minted",
                    key.1
                );
            }
        }
    }
}
