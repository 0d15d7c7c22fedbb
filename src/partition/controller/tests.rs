//! The controller against a metadata that its commands change, with nodes that speak, fall silent and come back.

use std::collections::BTreeSet;

use super::*;
use crate::id::{BootId, LogIndex, Token};
use crate::partition::metadata::command::{Alteration, Registration};
use crate::partition::metadata::{Partition, Recovery, TopicSpec};
use crate::partition::planning;
use crate::partition::retention::Retention;

mod attacks;
mod nodes;
mod plans;

const TICK: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

/// A node's process, as it really is.
#[derive(Clone)]
struct Process {
    token: u64,
    boot: u64,
    speaks: bool,
    is_leaving: bool,
    is_member: bool,
    /// What the members hold of it, of which process.
    hint: Option<(u64, Life)>,
}

/// A cluster: metadata, controller, and nodes that have no replicas but say that they do.
struct World {
    now: Instant,
    index: LogIndex,
    metadata: Metadata,
    controller: Controller,
    processes: BTreeMap<u64, Process>,
    /// What was executed, and when.
    log: Vec<(Instant, Command)>,
    /// Whether leaders say who is in sync.
    copies: bool,
    is_braking: bool,
}

impl World {
    /// So many nodes, all active, and a topic "t" of so many partitions with three replicas.
    fn new(nodes: u64, partitions: u32) -> World {
        let mut world = World {
            now: Instant::from_nanos(1_000_000_000),
            index: LogIndex::new(1),
            metadata: Metadata::default(),
            controller: Controller::start(Settings::default(), Instant::from_nanos(1_000_000_000)),
            processes: BTreeMap::new(),
            log: Vec::new(),
            copies: true,
            is_braking: false,
        };
        (1..=nodes).for_each(|node| world.arrive(node));
        world.pass(SECOND * 2);
        assert_eq!(world.active().len(), usize::try_from(nodes).unwrap(), "all have come");
        if partitions > 0 {
            world.create("t", partitions);
        }
        world
    }

    fn arrive(&mut self, node: u64) {
        let hint = Some((1, Life::Alive));
        let process = Process { token: 0, boot: 1, speaks: true, is_leaving: false, is_member: true, hint };
        self.processes.insert(node, process);
    }

    fn create(&mut self, name: &str, partitions: u32) {
        let assignments = planning::assign(&self.metadata, name, (0, partitions), 3).unwrap();
        let (name, recovery) = (name.to_owned(), Recovery::Manual);
        let spec = TopicSpec { name, replicas: 3, min_in_sync: 2, recovery, retention: Retention::default() };
        self.execute(Command::CreateTopic { spec, assignments }).unwrap();
    }

    fn process(&mut self, node: u64) -> &mut Process {
        self.processes.get_mut(&node).unwrap()
    }

    /// The process is gone, and the members have noticed.
    fn die(&mut self, node: u64) {
        let process = self.process(node);
        process.speaks = false;
        process.hint = Some((process.boot, Life::Dead));
    }

    fn restart(&mut self, node: u64) {
        let process = self.process(node);
        process.boot += 1;
        process.speaks = true;
        process.hint = Some((process.boot, Life::Alive));
    }

    fn execute(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.index = self.index.next();
        let (answer, deltas) = self.metadata.apply(self.index, &command);
        self.controller.note(self.now, &command, &answer, &deltas, &self.metadata);
        assert_eq!(self.metadata.check(), Ok(()), "after {command:?}");
        self.log.push((self.now, command));
        answer
    }

    fn sight(&self) -> impl Fn(NodeId) -> Sight + use<> {
        let processes = self.processes.clone();
        move |node| {
            let process = processes.get(&node.value());
            let hint = process.and_then(|process| process.hint);
            let hint = hint.map(|(boot, life)| Hint { boot: u32::try_from(boot).unwrap(), life });
            Sight { is_member: process.is_some_and(|process| process.is_member), token: None, hint }
        }
    }

    fn beat(&self, node: u64, token: u64, boot: u64) -> Beat {
        let record = self.metadata.node(id(node));
        let registration = Registration {
            node: id(node),
            token: Token::new(token),
            boot: BootId::new(boot),
            address: format!("node{node}:9093").parse().unwrap(),
            known: record.map(|record| record.epoch),
            ended: None,
            is_durable: true,
            weight: 1,
            rack: None,
            features: 1,
        };
        Beat { registration, applied: self.index, is_leaving: false }
    }

    fn hear_all(&mut self) {
        for (node, process) in self.processes.clone() {
            if process.speaks {
                let mut beat = self.beat(node, process.token, process.boot);
                beat.is_leaving = process.is_leaving;
                self.controller.hear(self.now, beat, &self.metadata);
            }
        }
    }

    fn review(&mut self) -> Vec<Command> {
        let sight = self.sight();
        let review = self.controller.review(self.now, &self.metadata, &sight);
        self.is_braking |= review.is_braking;
        review.commands
    }

    /// Lets time pass: nodes speak, the controller looks, what it asks for is done, leaders say who is in sync.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = self.now + TICK;
            if (self.now.as_nanos() / 250_000_000).is_multiple_of(4) {
                self.hear_all();
            }
            for command in self.review() {
                let _ = self.execute(command);
            }
            if self.copies {
                self.copy();
            }
        }
    }

    /// Leaders say that all their active replicas are in sync.
    fn copy(&mut self) {
        for (place, partition) in self.partitions() {
            let Some(leader) = partition.leader else { continue };
            let session = |node: &NodeId| self.metadata.node(*node).map(|record| (*node, record.epoch));
            let is_active = |node: &&NodeId| {
                self.metadata.node(**node).is_some_and(|record| record.state == NodeState::Active)
            };
            let in_sync: Vec<_> = partition.replicas.iter().filter(is_active).filter_map(session).collect();
            if in_sync.len() == partition.in_sync.len() {
                continue;
            }
            let alteration = Alteration {
                partition: place,
                leader,
                node_epoch: session(&leader).unwrap().1,
                leader_epoch: partition.leader_epoch,
                epoch: partition.epoch,
                in_sync,
                is_recovered: true,
                voids_earlier: false,
            };
            self.execute(Command::AlterPartition(alteration)).unwrap();
        }
    }

    fn partitions(&self) -> Vec<(PartitionId, Partition)> {
        self.metadata.all_partitions().map(|(id, partition)| (id, partition.clone())).collect()
    }

    fn active(&self) -> BTreeSet<u64> {
        let active = self.metadata.nodes().filter(|(_, record)| record.state == NodeState::Active);
        active.map(|(node, _)| node.value()).collect()
    }

    fn leads(&self, node: u64) -> usize {
        self.partitions().iter().filter(|(_, partition)| partition.leader == Some(id(node))).count()
    }

    fn holds(&self, node: u64) -> usize {
        self.metadata.partitions_of(id(node)).count()
    }

    fn verdict(&self, node: u64) -> Verdict {
        self.controller.explain(self.now, id(node), &self.metadata, &self.sight()).verdict
    }

    /// When a node was fenced, and why.
    fn fences(&self, of: u64) -> Vec<(Instant, FenceReason)> {
        let fence = |(at, command): &(Instant, Command)| {
            let Command::FenceNode { node, reason, .. } = command else { return None };
            (node.value() == of).then_some((*at, *reason))
        };
        self.log.iter().filter_map(fence).collect()
    }

    fn count(&self, is_it: impl Fn(&Command) -> bool) -> usize {
        self.log.iter().filter(|(_, command)| is_it(command)).count()
    }
}
