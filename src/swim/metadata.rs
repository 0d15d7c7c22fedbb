//! What members say of themselves beyond where they are: a rack, further addresses, tags.
//!
//! The record carries a version and a hash. Short metadata travels with it; longer metadata is fetched from
//! its owner, one member a period, so that a join does not make everybody ask at once.

use core::ops::Bound;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::call::Purpose;
use super::member::Record;
use super::message::{METADATA_INLINE_MAX, METADATA_MAX, hash_of};
use super::{Answer, Event, Question, Swim};
use crate::id::NodeId;

/// What is known of others' metadata.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Descriptions {
    all: BTreeMap<NodeId, Vec<u8>>,
    /// Whose is to be fetched: members of the table, each once.
    wanted: BTreeSet<NodeId>,
    /// Who was asked last: the next one is asked next, so that one that does not answer keeps nobody waiting.
    asked: Option<NodeId>,
}

impl Descriptions {
    pub(super) fn of(&self, id: NodeId) -> &[u8] {
        self.all.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn forget(&mut self, id: NodeId) {
        self.all.remove(&id);
        self.wanted.remove(&id);
    }

    fn next_wanted(&mut self) -> Option<NodeId> {
        let behind = self.asked.map_or(Bound::Unbounded, Bound::Excluded);
        let next =
            self.wanted.range((behind, Bound::Unbounded)).next().or_else(|| self.wanted.first()).copied()?;
        self.wanted.remove(&next);
        self.asked = Some(next);
        Some(next)
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
        if self.table.find(id).is_some() {
            self.descriptions.wanted.insert(id);
        }
    }

    /// Asks one member for its metadata.
    pub(super) fn fetch_description(&mut self) {
        let Some(id) = self.descriptions.next_wanted() else { return };
        let is_live = self.table.find(id).is_some_and(|place| self.held(place).0.is_live());
        if let Some(to) = self.target_of(id).filter(|_| is_live)
            && !self.ask(to, Purpose::Metadata { of: id }, Question::Metadata)
        {
            self.want_description(id);
        }
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
