//! What members say of themselves beyond where they are: a rack, further addresses, tags.
//!
//! The record carries a version and a hash. Short metadata travels with it; longer metadata is fetched from
//! its owner, one member a period, so that a join does not make everybody ask at once.

use std::collections::{BTreeMap, VecDeque};

use super::call::Purpose;
use super::member::Record;
use super::message::{METADATA_INLINE_MAX, METADATA_MAX, hash_of};
use super::{Answer, Event, Question, Swim};
use crate::id::NodeId;

/// The most members whose metadata waits to be fetched; the others are found by and by.
const WANTED_MAX: usize = 1024;
/// So many members are looked at in a period, to find one whose metadata is not here.
const LOOKED_AT: usize = 4;

/// What is known of others' metadata.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    all: BTreeMap<NodeId, Vec<u8>>,
    wanted: VecDeque<NodeId>,
}

impl Descriptions {
    pub(super) fn of(&self, id: NodeId) -> &[u8] {
        self.all.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn forget(&mut self, id: NodeId) {
        self.all.remove(&id);
    }
}

impl Swim {
    /// Keeps what came with a word of life, or notes that it has to be fetched.
    pub(super) fn keep_description(&mut self, record: &Record, metadata: Option<&[u8]>) {
        let id = record.id;
        if record.metadata_version == 0 {
            self.descriptions.forget(id);
            return;
        }
        let is_held =
            self.descriptions.all.get(&id).is_some_and(|held| hash_of(held) == record.metadata_hash);
        // Longer metadata comes from its owner alone.
        match metadata.filter(|bytes| bytes.len() <= METADATA_INLINE_MAX) {
            _ if is_held => {}
            Some(bytes) if hash_of(bytes) == record.metadata_hash => {
                self.descriptions.all.insert(id, bytes.to_vec());
            }
            Some(_) | None => {
                self.descriptions.forget(id);
                self.want_description(id);
            }
        }
    }

    pub(super) fn want_description(&mut self, id: NodeId) {
        let wanted = &mut self.descriptions.wanted;
        if wanted.len() < WANTED_MAX && !wanted.contains(&id) {
            wanted.push_back(id);
        }
    }

    /// Asks one member for its metadata.
    pub(super) fn fetch_description(&mut self) {
        let Some(id) = self.descriptions.wanted.pop_front().or_else(|| self.find_undescribed()) else {
            return;
        };
        let is_live = self.table.find(id).is_some_and(|place| self.held(place).0.is_live());
        if let Some(to) = self.target_of(id).filter(|_| is_live)
            && !self.ask(to, Purpose::Metadata { of: id }, Question::Metadata)
        {
            self.want_description(id);
        }
    }

    /// Looks at a few random members for one whose metadata is not here: more may have been wanted than fit.
    fn find_undescribed(&mut self) -> Option<NodeId> {
        (0..LOOKED_AT).find_map(|_| {
            let entry = self.table.entry(self.table.random_live(&mut self.draws.heal)?);
            let lacks = entry.metadata_version > 0 && self.descriptions.of(entry.id()).is_empty();
            lacks.then(|| entry.id())
        })
    }

    pub(super) fn own_description(&self) -> Answer {
        Answer::Metadata { version: self.own.record().metadata_version, bytes: self.config.metadata.clone() }
    }

    /// Metadata came, from its owner.
    pub(super) fn described(&mut self, from: NodeId, version: u32, bytes: Vec<u8>) {
        let Some(place) = self.table.find(from) else { return };
        let entry = self.table.entry(place);
        let fits = entry.metadata_version == version && entry.metadata_hash == hash_of(&bytes);
        if fits && bytes.len() <= METADATA_MAX {
            self.descriptions.all.insert(from, bytes);
            self.tell(Event::Updated(from));
        } else if version <= entry.metadata_version {
            // Somebody has put another word into its mouth: it has to speak again.
            self.accuse(from, entry.epoch);
        }
    }
}
