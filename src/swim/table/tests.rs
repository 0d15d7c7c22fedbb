//! Whether the parts of the table agree, whatever happens to it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::rng::Seed;

fn record(id: u64, epoch: u64) -> Record {
    Record {
        id: NodeId::new(id).unwrap(),
        epoch: Epoch::new(epoch),
        address: "10.0.0.1:7".parse().unwrap(),
        boot: 1,
        zone: 0,
        metadata_version: 0,
        metadata_hash: 0,
    }
}

#[test]
fn an_entry_is_one_cache_line() {
    assert_eq!(size_of::<Entry>(), 64);
}

#[test]
fn each_is_probed_once_a_round_and_newcomers_within_the_next_two() {
    let mut draws = Seed::new(1).stream("probe", 0);
    let mut table = Table::new(&record(1, 1));
    for id in 2..=20 {
        table.insert(&record(id, 1), State::Alive, 0, &mut draws);
    }
    while table.unprobed != 0 {
        table.next_to_probe(&mut draws);
    }
    for _ in 0..5 {
        let mut round: Vec<Place> = (0..19).filter_map(|_| table.next_to_probe(&mut draws)).collect();
        round.sort();
        round.dedup();
        assert_eq!(round.len(), 19);
    }
    let newcomer = table.insert(&record(99, 1), State::Alive, 0, &mut draws);
    let found = (0..39).position(|_| table.next_to_probe(&mut draws) == Some(newcomer));
    assert!(found.is_some(), "a bound of 2n - 1");
}

#[test]
fn equal_tables_have_equal_hashes_and_others_differ_in_their_bucket() {
    let mut draws = Seed::new(1).stream("probe", 0);
    let mut tables: Vec<Table> = (0..2).map(|_| Table::new(&record(1, 1))).collect();
    for id in 2..100 {
        tables[0].insert(&record(id, 1), State::Alive, 0, &mut draws);
        tables[1].insert(&record(101 - id, 1), State::Alive, 0, &mut draws);
    }
    assert_eq!(tables[0].hash(), tables[1].hash());
    let place = tables[0].find(NodeId::new(50).unwrap()).unwrap();
    tables[0].set(place, State::Suspect, Epoch::new(1), 0, &mut draws);
    assert_eq!(tables[0].hash(), tables[1].hash(), "a suspect is a member");
    tables[0].set(place, State::Dead, Epoch::new(1), 0, &mut draws);
    assert_ne!(tables[0].hash(), tables[1].hash());
    let differing = (0..BUCKETS).filter(|i| tables[0].buckets()[*i] != tables[1].buckets()[*i]).count();
    assert_eq!(differing, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_parts_agree_after_any_changes(steps in prop::collection::vec((2_u64..60, 0..6_u8), 1..400)) {
        let mut draws = Seed::new(3).stream("probe", 0);
        let mut table = Table::new(&record(1, 1));
        let mut model: BTreeMap<u64, State> = BTreeMap::new();
        for (number, (id, action)) in (2..).zip(steps) {
            let found = table.find(NodeId::new(id).unwrap());
            prop_assert_eq!(found.map(|place| table.entry(place).state), model.get(&id).copied());
            let epoch = Epoch::new(number);
            match (found, action) {
                (None, _) => { table.insert(&record(id, number), State::Alive, 0, &mut draws); model.insert(id, State::Alive); }
                (Some(place), 0) => { table.set(place, State::Dead, epoch, 0, &mut draws); model.insert(id, State::Dead); }
                (Some(place), 1) => { table.renew(place, &record(id, number), State::Alive, 0, &mut draws); model.insert(id, State::Alive); }
            (Some(place), 4) => { table.renew(place, &Record { zone: 1, ..record(id, number) }, State::Suspect, 0, &mut draws); model.insert(id, State::Suspect); }
            (Some(place), 5) => { table.renew(place, &Record { zone: 2, ..record(id, number) }, State::Dead, 0, &mut draws); model.insert(id, State::Dead); }
                (Some(place), 2) => { table.set(place, State::Suspect, epoch, 0, &mut draws); model.insert(id, State::Suspect); }
                (Some(place), _) if !model[&id].is_live() => { table.remove(place); model.remove(&id); }
                (Some(_), _) => { table.next_to_probe(&mut draws); }
            }
            table.assert_invariants();
        }
        let in_buckets: usize = (0..BUCKETS).map(|bucket| table.bucket(bucket).count()).sum();
        prop_assert_eq!(in_buckets, model.len() + 1);
    }
}
