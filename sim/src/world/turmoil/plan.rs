//! The plan of faults in the turmoil world: which strike now, and what they did.

use std::collections::BTreeMap;

use crate::faults::{Effects, Fault, FaultKind, Window};

/// The faults that strike nodes, and the count of all effects.
#[derive(Default)]
pub(super) struct Strikes {
    /// The last fault of each kind that began at each node.
    last: BTreeMap<(u64, FaultKind), Window>,
    /// Those of them that have not ended.
    active: BTreeMap<(u64, FaultKind), Window>,
    pub(super) effects: Effects,
}

impl Strikes {
    /// A fault begins or ends.
    pub(super) fn set(&mut self, window: &Window, begins: bool) {
        let Some(node) = window.fault.struck() else { return };
        let key = (node, window.fault.kind());
        if begins {
            self.last.insert(key, window.clone());
            self.active.insert(key, window.clone());
        } else {
            self.active.remove(&key);
        }
    }

    /// The last fault of this kind at this node had an effect. Tells whether there is one.
    pub(super) fn strike(&mut self, node: u64, kind: FaultKind) -> bool {
        let Some(window) = self.last.get(&(node, kind)) else { return false };
        self.effects.count(window.id, kind);
        true
    }

    /// Whether a fault of this kind is on at this node.
    pub(super) fn is_on(&self, node: u64, kind: FaultKind) -> bool {
        self.active.contains_key(&(node, kind))
    }

    /// How slow syncs of a node are, in milliseconds, if they are; that counts as an effect.
    pub(super) fn slow(&mut self, node: u64) -> Option<u64> {
        let window = self.active.get(&(node, FaultKind::SlowSync))?;
        let Fault::SlowSync { most, .. } = window.fault else { return None };
        self.effects.count(window.id, FaultKind::SlowSync);
        Some(most)
    }

    /// A write failed: whichever fault of the disk is on, or has just been, has done it. Tells whether
    /// there is one.
    pub(super) fn write_failed(&mut self, node: u64) -> bool {
        let lasting = [FaultKind::FullDisk, FaultKind::ReadErrors];
        let cause = lasting.into_iter().find(|kind| self.is_on(node, *kind));
        let at_once = [FaultKind::FailedSync, FaultKind::FullDisk, FaultKind::ReadErrors];
        let mut recent = at_once.into_iter().filter(|kind| self.last.contains_key(&(node, *kind)));
        match cause.or_else(|| recent.next()) {
            Some(kind) => self.strike(node, kind),
            None => false,
        }
    }
}
