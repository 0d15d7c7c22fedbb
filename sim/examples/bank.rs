//! A state machine of one's own, in the simulator: a bank, whose clients move money while everything goes wrong.
//!
//! ```text
//! cargo run --release -p rivven-sim --example bank
//! ```

use bytes::Bytes;
use rivven_cluster::id::LogIndex;
use rivven_cluster::rng::Stream;
use rivven_cluster::state_machine::{RestoreError, StateMachine};
use rivven_sim::app::{Application, Call, Ticket};
use rivven_sim::scenario::{Scenario, WorldKind};
use rivven_sim::world::Options;
use rivven_sim::world::pure::World;

/// Accounts between which money moves, and never into debt.
#[derive(Default)]
struct Bank {
    accounts: [u64; 4],
}

impl StateMachine for Bank {
    /// A command is three bytes: from, to, how much. The answer says whether it was done.
    fn apply(&mut self, _index: LogIndex, command: &[u8]) -> Bytes {
        let &[from, to, amount] = command else { return Bytes::from_static(b"what?") };
        let (from, to, amount) = (usize::from(from % 4), usize::from(to % 4), u64::from(amount));
        if from == 0 {
            self.accounts[to] += amount; // account 0 is the mint
        } else if self.accounts[from] < amount {
            return Bytes::from_static(b"no");
        } else {
            self.accounts[from] -= amount;
            self.accounts[to] += amount;
        }
        Bytes::from_static(b"done")
    }

    fn query(&self, _query: &[u8]) -> Bytes {
        Bytes::from(self.accounts.iter().sum::<u64>().to_string())
    }

    fn snapshot(&self) -> Bytes {
        self.accounts.iter().flat_map(|balance| balance.to_le_bytes()).collect()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let (balances, []) = snapshot.as_chunks::<8>() else {
            return Err(RestoreError("not whole balances".to_owned()));
        };
        let accounts = balances.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect::<Vec<u64>>();
        self.accounts = accounts.try_into().map_err(|_| RestoreError("not four accounts".to_owned()))?;
        Ok(())
    }
}

/// Clients that move random amounts.
#[derive(Clone)]
struct Transfers;

impl Application for Transfers {
    type Machine = Bank;
    type Memory = ();

    fn machine(&self) -> Bank {
        Bank::default()
    }

    fn call(&self, _: &mut (), _: Ticket, choices: &mut Stream) -> Call {
        let mut command = [0; 3];
        choices.fill(&mut command);
        Call::Command(Bytes::copy_from_slice(&command))
    }
}

fn main() {
    for seed in 1..=3 {
        let scenario = Scenario::draw(seed, WorldKind::Pure);
        let report = World::new(scenario, Transfers, Options::default()).run();
        assert_eq!(report.violation, None, "seed {seed}");
        let counts = report.history.counts();
        assert!(counts.done > 100);
        println!("seed {seed}: {} transfers in {:?}", counts.done, report.simulated);
    }
}
