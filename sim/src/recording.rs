//! What one process was told and what it asked for, to be played again through a bare [`Node`].
//!
//! A machine is a function of what it started on and what it was told (the first law of machines). So a
//! process of the turmoil world, with QUIC, TLS and redb around it, must say the very same when a loop
//! of ten lines tells it the same. That is what makes the two worlds one.

use std::sync::{Arc, Mutex};

use rivven_cluster::machine::Machine;
use rivven_cluster::node::{Config, Durable, Input, Node, Output};
use rivven_cluster::rng::Seed;
use rivven_cluster::state_machine::StateMachine;
use rivven_cluster::time::Instant;

/// The recordings of a run, one for each process.
pub type Recordings = Arc<Mutex<Vec<Recording>>>;

/// One process, from its start.
#[derive(Clone, Debug)]
pub struct Recording {
    /// What it was configured with.
    pub config: Config,
    /// What it drew from.
    pub seed: Seed,
    /// What its disk held.
    pub durable: Durable,
    /// When it started, by its own clock.
    pub started: Instant,
    /// What happened then.
    pub steps: Vec<Step>,
}

/// One thing that happened to a process.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It was told this.
    Input(Instant, Input),
    /// It was told the time.
    Timeout(Instant),
    /// It asked for this.
    Output(Output),
    /// It had nothing more to ask for.
    Settled,
}

/// Where a process, told the same again, said something else.
#[derive(Debug)]
pub struct Difference {
    /// The number of the step, from 0.
    pub step: usize,
    /// What was recorded there.
    pub recorded: Box<Step>,
    /// What it asks for now; nothing if it asks for nothing.
    pub found: Option<Box<Output>>,
}

impl Recording {
    /// Tells a new node the same again.
    ///
    /// # Errors
    ///
    /// The first step at which it says something else.
    pub fn replay<S: StateMachine>(&self, machine: S) -> Result<(), Difference> {
        let (config, durable) = (self.config.clone(), self.durable.clone());
        let mut node =
            Node::start(config, self.seed, durable, machine, self.started).expect("it started before");
        let mut is_draining = false;
        for (number, step) in self.steps.iter().enumerate() {
            let differs = |found: Option<Output>| {
                let (recorded, found) = (Box::new(step.clone()), found.map(Box::new));
                Err(Difference { step: number, recorded, found })
            };
            if let Step::Output(expected) = step {
                is_draining = true;
                match node.poll() {
                    Some(found) if found == *expected => continue,
                    found => return differs(found),
                }
            }
            if (is_draining || *step == Step::Settled)
                && let Some(found) = node.poll()
            {
                return differs(Some(found));
            }
            is_draining = false;
            match step {
                Step::Input(now, input) => node.handle(*now, input.clone()),
                Step::Timeout(now) => node.handle_timeout(*now),
                Step::Output(_) | Step::Settled => {}
            }
        }
        Ok(())
    }
}
