//! All orders of what is persisted, sent and written at a gate, up to a length. Snapshots, standings and the logs of
//! partitions are in the tests beside this.

use super::*;

/// So many operations in a row.
const LENGTH: u32 = 7;

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// A `Ready` that must be synced.
    Persist,
    /// One that need not be.
    Lazy,
    /// A message that depends on the last `Ready`.
    Depart,
    /// A message that depends on none.
    DepartFreely,
    Flush,
    Written,
}

const OPERATIONS: [Operation; 6] = [
    Operation::Persist,
    Operation::Lazy,
    Operation::Depart,
    Operation::DepartFreely,
    Operation::Flush,
    Operation::Written,
];

/// A gate, and what is known of it without looking into it.
struct Stand {
    gate: Gate,
    in_flight: Option<WriteId>,
    /// Every `Ready`, by its number from 1: in which batch it is, if it must be synced.
    readies: Vec<Option<WriteId>>,
    last_taken: WriteId,
    durable: Option<WriteId>,
    /// The messages that have not left, by their numbers: on which `Ready` each depends.
    waiting: VecDeque<(u64, usize)>,
    sent: u64,
    /// The last `Ready` that was said to be durable.
    released: usize,
}

impl Stand {
    fn new() -> Stand {
        Stand {
            gate: Gate::start(BootId::new(1)),
            in_flight: None,
            readies: Vec::new(),
            last_taken: WriteId::new(0),
            durable: None,
            waiting: VecDeque::new(),
            sent: 0,
            released: 0,
        }
    }

    /// Everything up to this `Ready` that has to be synced is.
    fn is_durable(&self, ready: usize) -> bool {
        self.durable.is_some()
            && self.readies[..ready].iter().flatten().all(|batch| self.durable >= Some(*batch))
    }

    fn operate(&mut self, operation: Operation) {
        let count = u64::try_from(self.readies.len()).unwrap();
        match operation {
            Operation::Persist => {
                assert_eq!(self.gate.persist(persist(count + 1, count + 2)), None);
                self.readies.push(Some(self.last_taken.next()));
            }
            Operation::Lazy => {
                self.readies.push(None);
                let was_released = self.gate.persist(lazy(count + 1, count + 1)).is_some();
                assert!(!was_released || self.readies.iter().flatten().all(|it| self.durable >= Some(*it)));
                self.released = if was_released { self.readies.len() } else { self.released };
            }
            Operation::Depart => self.depart(self.readies.len()),
            Operation::DepartFreely => self.depart(0),
            Operation::Flush => {
                let Some(batch) = self.gate.flush() else { return };
                assert_eq!((self.in_flight, batch.id), (None, self.last_taken.next()));
                (self.in_flight, self.last_taken) = (Some(batch.id), batch.id);
            }
            Operation::Written => {
                let Some(id) = self.in_flight.take() else { return };
                let released = self.gate.written(id);
                self.durable = Some(id);
                if let Some(ready) = released.ready {
                    let named = |known: &usize| number(u64::try_from(*known).unwrap()) == ready;
                    let released = (1..=self.readies.len()).find(named).unwrap();
                    assert!(released > self.released, "what is durable is said once, and in order");
                    self.released = released;
                }
                released.departures.into_iter().for_each(|departure| self.leave(departure));
            }
        }
        assert!(
            self.released == 0 || self.is_durable(self.released),
            "a Ready was said to be durable too early"
        );
    }

    fn depart(&mut self, ready: usize) {
        self.sent += 1;
        self.waiting.push_back((self.sent, ready));
        let after = (ready > 0).then(|| number(u64::try_from(ready).unwrap()));
        if let Some(departure) = self.gate.depart(departure(self.sent), after) {
            self.leave(departure);
        }
    }

    /// A message leaves: what it depends on is durable. Those of one kind leave in their order.
    fn leave(&mut self, left: Departure) {
        let place = self.waiting.iter().position(|(number, _)| departure(*number) == left);
        let (_, ready) = self.waiting.remove(place.expect("it leaves once")).unwrap();
        assert!(self.is_durable(ready), "a message left before what it depends on was durable");
        let is_overtaken = |(_, other): &(u64, usize)| *other > 0 && ready > 0;
        let overtaken = self.waiting.iter().take(place.unwrap()).any(is_overtaken);
        assert!(!overtaken, "a message has overtaken another");
    }
}

#[test]
fn in_every_order_of_events_nothing_leaves_too_early_and_nothing_is_kept_for_ever() {
    let choices = OPERATIONS.len();
    let sequences = choices.pow(LENGTH);
    for sequence in 0..sequences {
        let mut stand = Stand::new();
        let mut rest = sequence;
        for _ in 0..LENGTH {
            stand.operate(OPERATIONS[rest % choices]);
            rest /= choices;
        }
        // What is in flight, and what is open, becomes durable.
        for operation in [Operation::Written, Operation::Flush, Operation::Written] {
            stand.operate(operation);
        }
        assert!(stand.waiting.is_empty(), "{:?} wait for ever in order {sequence}", stand.waiting);
        assert_eq!(stand.gate.held(), 0);
        assert_eq!(
            stand.released,
            stand.readies.len(),
            "a Ready is never said to be durable, in order {sequence}"
        );
    }
    println!("{sequences} orders of {LENGTH} events");
}
