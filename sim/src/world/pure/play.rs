//! Plays the plan of faults: what begins, what ends, and what it does to the nodes of the pure world.

use super::disk::Ended;
use super::queue::Event;
use super::{MILLISECOND, World};
use crate::app::Application;
use crate::choice::Draw;
use crate::device::{Cut, Trouble};
use crate::faults::{Fault, FaultKind, Window};
use crate::trace::Record;

/// How long a power loss waits for the disk to be at work.
const PATIENCE: u64 = 200 * MILLISECOND;

impl<A: Application> World<A> {
    pub(super) fn plan_switches(&mut self) {
        for (place, window) in self.scenario.faults.iter().enumerate() {
            self.queue.push(window.begins * MILLISECOND, Event::Switch { place, begins: true });
            self.queue.push(window.ends * MILLISECOND, Event::Switch { place, begins: false });
            if let Fault::OldDisk { age, .. } = &window.fault {
                let at = window.begins.saturating_sub(*age);
                self.queue.push(at * MILLISECOND, Event::Copy { place });
            }
        }
    }

    /// A fault of the plan begins or ends.
    pub(super) fn switch(&mut self, place: usize, begins: bool) {
        let window = self.scenario.faults[place].clone();
        let record = Record::Fault { id: window.id, fault: &window.fault, begins };
        self.trace.record(self.now, &record);
        self.weather.set(&window, begins);
        self.gossip_weather.set(&window, begins);
        if begins { self.begin(place, &window) } else { self.end(&window) }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "faults of the network are the weather")]
    fn begin(&mut self, place: usize, window: &Window) {
        let now = self.now;
        match &window.fault {
            Fault::PowerLoss { node } | Fault::TornWrites { node } | Fault::ReorderedWrites { node } => {
                self.host(*node).doomed = Some(place);
                self.queue.push(now + PATIENCE, Event::Cut { place });
            }
            Fault::Restart { node } => {
                self.take_down(*node, window);
            }
            Fault::DiskWiped { node } => {
                self.host(*node).is_off = true;
                self.end_process(*node, Cut::Killed);
                if self.host(*node).disk.empty() {
                    self.effects.count(window.id, FaultKind::DiskWiped);
                }
                self.checkers.disk_emptied(*node);
            }
            Fault::OldDisk { node, .. } => self.put_back(place, *node, window),
            Fault::BitRot { node } => self.rot(*node, window),
            Fault::Pause { node } => {
                if self.host(*node).process.is_some() {
                    self.effects.count(window.id, FaultKind::Pause);
                }
                self.host(*node).waiting.get_or_insert_default();
            }
            Fault::ClockJump { node, ahead } => {
                self.host(*node).clock.jump(now, ahead * MILLISECOND);
                let host = self.host(*node);
                let (runs, is_awake) = (host.process.is_some(), host.waiting.is_none());
                if runs {
                    self.effects.count(window.id, FaultKind::ClockJump);
                }
                if runs && is_awake {
                    self.fire_due(*node);
                    self.drain(*node);
                }
            }
            Fault::ClockDrift { node, ppm } => {
                self.host(*node).clock.drift(now, *ppm);
                self.host(*node).drifting = Some(place);
            }
            Fault::SlowSync { node, most } => self.host(*node).slow = Some((*most, place)),
            Fault::FailedSync { node } => self.trouble(*node, |trouble| trouble.fails_next_sync = true),
            Fault::FullDisk { node } => self.trouble(*node, |trouble| trouble.is_full = true),
            Fault::ReadErrors { node } => self.trouble(*node, |trouble| trouble.is_unreadable = true),
            Fault::Misdirection { node } => {
                let by = self.choices.choose(Draw::Fault, window.id * 10_000, 64) + 1;
                self.trouble(*node, |trouble| trouble.misdirects_by = Some(by));
            }
            Fault::Forgery { .. } => self.queue.push(now, Event::Forge { place }),
            Fault::Removal { .. } | Fault::Demotion { .. } | Fault::HandOver { .. } => {
                self.queue.push(now, Event::Operate { place });
            }
            _ => {}
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "faults of the network are the weather")]
    fn end(&mut self, window: &Window) {
        let now = self.now;
        match &window.fault {
            Fault::PowerLoss { node }
            | Fault::TornWrites { node }
            | Fault::ReorderedWrites { node }
            | Fault::Restart { node }
            | Fault::DiskWiped { node }
            | Fault::OldDisk { node, .. }
            | Fault::BitRot { node } => {
                let host = self.host(*node);
                (host.doomed, host.is_off) = (None, false);
                self.start(*node);
            }
            Fault::Pause { node } => self.resume(*node),
            Fault::ClockDrift { node, .. } => {
                self.host(*node).clock.drift(now, 0);
                self.host(*node).drifting = None;
            }
            Fault::SlowSync { node, .. } => self.host(*node).slow = None,
            Fault::FailedSync { node } => self.trouble(*node, |trouble| trouble.fails_next_sync = false),
            Fault::FullDisk { node } => self.trouble(*node, |trouble| trouble.is_full = false),
            Fault::ReadErrors { node } => self.trouble(*node, |trouble| trouble.is_unreadable = false),
            Fault::Misdirection { node } => {
                self.trouble(*node, |trouble| trouble.misdirects_by = None);
                if self.effects.had(window.id) {
                    // What lies in the wrong place is found out when somebody reads.
                    self.end_process(*node, Cut::Killed);
                    let delay = self.pause(*node, 50, 300);
                    self.queue.push(now + delay, Event::Start { node: *node });
                }
            }
            _ => {}
        }
    }

    fn trouble(&mut self, node: u64, change: impl FnOnce(&mut Trouble)) {
        let disk = &mut self.host(node).disk;
        let mut trouble = disk.trouble();
        change(&mut trouble);
        disk.set_trouble(trouble);
    }

    /// Ends a node's process until the fault ends.
    fn take_down(&mut self, node: u64, window: &Window) {
        if self.host(node).process.is_some() {
            self.effects.count(window.id, window.fault.kind());
        }
        self.host(node).is_off = true;
        self.end_process(node, Cut::Killed);
    }

    /// The power goes, unless it has gone already or the fault is over.
    pub(super) fn cut_power(&mut self, place: usize) {
        let window = self.scenario.faults[place].clone();
        let Some(node) = window.fault.struck() else { return };
        if self.host(node).doomed != Some(place) {
            return;
        }
        let cut = window.fault.power_cut();
        self.host(node).is_off = true;
        if let Ended::Lost { shows: true } = self.end_process(node, cut) {
            self.effects.count(window.id, window.fault.kind());
        }
    }

    pub(super) fn copy_disk(&mut self, place: usize) {
        if let Some(node) = self.scenario.faults[place].fault.struck() {
            let host = self.host(node);
            let image = host.disk.image();
            host.images.insert(place, image);
        }
    }

    /// The disk of some time ago takes the place of today's. No protocol survives that in general.
    fn put_back(&mut self, place: usize, node: u64, window: &Window) {
        self.host(node).is_off = true;
        self.end_process(node, Cut::Killed);
        let host = self.host(node);
        let Some(image) = host.images.remove(&place) else { return };
        if host.disk.replace(image) {
            self.effects.count(window.id, FaultKind::OldDisk);
            self.checkers.suspect(node);
            self.checkers.forgive();
        }
    }

    fn rot(&mut self, node: u64, window: &Window) {
        self.host(node).is_off = true;
        self.end_process(node, Cut::Killed);
        let mut fate = self.choices.stream(Draw::Fault, window.id * 10_000).clone();
        if self.host(node).disk.rot(&mut fate) > 0 {
            self.effects.count(window.id, FaultKind::BitRot);
            self.checkers.suspect(node);
        }
    }

    /// A process that stood still finds everything that happened meanwhile, all at once.
    fn resume(&mut self, node: u64) {
        let waiting = self.host(node).waiting.take().unwrap_or_default();
        for event in waiting {
            self.dispatch(event);
        }
    }
}
