//! The guide: what the simulator does, how to read what it prints, and how to simulate *your own* state
//! machine.
//!
//! # What a run is
//!
//! A [`Scenario`](crate::scenario::Scenario) is everything that makes a run: a seed, a shape (how many
//! nodes, how fast, how loaded), and a plan of faults, each with its time and its target. A seed draws
//! one; a file holds one; an editor changes one. Played twice it gives the same trace, byte for byte.
//!
//! ```text
//!   cargo run --release -p rivven-sim -- run --seed 7 --save seven.json    # what happens in seed 7
//!   cargo run --release -p rivven-sim -- replay seven.json                 # after you have edited it
//!   cargo run --release -p rivven-sim -- sweep --seeds 10000               # ten thousand clusters
//!   cargo run --release -p rivven-sim -- sweep --world turmoil --seeds 300 # over QUIC, TLS and redb
//!   cargo run --release -p rivven-sim -- shrink --seed 7                   # why, in as few faults as can be
//!   cargo run --release -p rivven-sim -- report --seed 7                   # a picture of it
//!   cargo run --release -p rivven-sim -- inevitable --seed 7               # from when on was it lost?
//!   cargo run --release -p rivven-sim -- explore                           # small worlds: every order of events
//!   cargo run --release -p rivven-sim -- mutants                           # is the simulator any good?
//! ```
//!
//! # Two worlds
//!
//! | | pure | turmoil |
//! |---|---|---|
//! | what runs | the [`Node`](rivven_cluster::node::Node)s alone | driver, quinn, rustls, redb, client |
//! | what is simulated | everything else | the UDP socket, the block device, the clock |
//! | a message is | lost, repeated, reordered, damaged, led astray, forged | a UDP datagram under QUIC |
//! | a disk keeps | whole batches, redb on faulty blocks, or the segment log in a faulty folder | redb on faulty blocks |
//! | for | volume: find the seed | depth: what lies between machine and wire |
//!
//! Both play the same plans under the same checkers. That they are one world is a test: every process of
//! a turmoil run, told the same again as a bare node, says the same (`tests/conformance.rs`).
//!
//! # What clients do
//!
//! Every second client works in a session: it sends a command again, under the same number, until it has an
//! answer, and no command may be executed twice. Every third asks queries all the time, of one node: whoever
//! leads no longer and does not know it would be caught by an answer that is too old. An answer to a query
//! names the index up to which the state had come that gave it, so it is judged like a command that
//! stands there.
//!
//! # What the steward wants
//!
//! In two seeds of three the nodes hold partitions, and a [steward](crate::steward) has ever new wishes: topics that come,
//! grow and go, nodes that drain, plans, elections, moves, weights. It reads the metadata of any node, which may be old,
//! so that some of its commands come too late, and some make no sense; whatever the cluster makes of them, equal logs
//! give equal metadata, a leader epoch has one leader, and who is fenced is not in sync. When the faults are over, all nodes
//! are active again, nobody is missing in sync, and no plan is left half done.
//!
//! # Records
//!
//! In the pure world [producers and consumers](crate::records) are at work on those partitions, programs on the nodes that
//! die with their processes; in the turmoil world the production ones, from outside. Topics keep everything, or what is not
//! too old, or not too much, as the steward wants it. A producer sends a batch again, to whomever it believes to lead, until it is acknowledged. A
//! checker follows the log of each replica: what is below a leader's high watermark never changes, every later leader has
//! it, no batch is there twice, what was acknowledged and what was read is there; and in the end everybody in sync has
//! everything. It asks nothing of a partition that an operator has given to a leader which may lack something, nor of one
//! of which as many disks were lost as acknowledged records are on.
//!
//! # Simulate your own store
//!
//! [`storage_suite!`](crate::storage_suite!) runs any [`Storage`](rivven_cluster::driver::Storage) through
//! batches, crashes at every change of its medium, failed syncs and rotten bits; what it holds a store against is
//! the contract alone. [`SimFolder`](crate::folder::SimFolder) and [`Device`](crate::device::Device) are media
//! to put it on.
//!
//! # Simulate your own state machine
//!
//! An [`Application`](crate::app::Application) is a state machine and a workload. The world needs no
//! more to torment it: your commands go through real elections, crashes and torn disks, and the checkers
//! hold every answer against the log. This is `examples/bank.rs`, which
//! runs when the documentation is tested:
//!
#![doc = "```"]
#![doc = include_str!("../examples/bank.rs")]
#![doc = "```"]
//!
//! If your commands read and write registers, say so in
//! [`Application::register`](crate::app::Application::register): then `--history` files read well, and on
//! every eighth seed the histories are searched for a linearization that does not trust the log.
//!
//! To shrink a failing scenario of yours, hand [`shrink`](crate::shrink::shrink) a closure that plays it.
//!
//! # When a seed fails
//!
//! The sweep prints the seed, the rule, the commit and the command that replays it. `shrink` leaves out
//! faults, nodes, clients and time for as long as the *same* rule breaks, and prints what is left as a
//! Rust test for `tests/seeds.rs` and as a scenario file. It can do so because every fault draws from
//! streams of its own ([`choice`](crate::choice)): leaving one out changes nothing about the others.
//! `shrink --blame` says of each fault of the whole plan whether the run fails without it.
//!
//! # Faults, and what is asked of whom
//!
//! The kinds are listed at [`Fault`](crate::faults::Fault). Each seed switches on a random subset, strikes
//! in storms with quiet in between, then heals a random quorum (which must serve while the rest is broken),
//! then everything (and everybody must catch up). A fault counts only when it had an effect; a sweep of
//! fifty seeds or more in which a kind had none, or a rare place was not reached, fails.
//!
//! Some seeds have newcomers: nodes that start later and know one address. They must be members in the end, unless
//! that address is a lost node's. Operators remove and demote members and want others to lead; who is committed to
//! be a member the checkers read from the log, and hold every commit against it.
//!
//! Nodes whose disks were wiped, rolled back or damaged are always a minority, also when operators take voters away.
//! A damaged disk is set aside and its node must be back in the end; a wiped one is refused. A disk that goes back in
//! time after it promised is more than Raft can survive: from then on only panics, and stores that make
//! things up, are violations, and the sweep says in how many runs that was so.
//!
//! In two runs of three the nodes gossip, over paths that fail at the same times. What they hold of each other is
//! never taken back, and in the end those who are there see each other; who suspected whom in between is not judged,
//! for nothing is decided by it. Gossip alone reads the wall clock, which jumps and drifts with a node's own.
//!
//! # Members alone
//!
//! Membership has a world of its own, too, [`swim`](crate::swim), since what it promises shows at sizes that whole
//! clusters are too heavy for. `rivven-sim swim --members N` holds the production machines against theory;
//! `--chaos SEEDS` torments three to sixteen of them with every step checked: crashes, restarts without a
//! memory, pauses, cuts, loss, goodbyes, swapped addresses, and a member that falsifies what it sends; in one seed of
//! eight, dozens lose half of them for a moment, and nobody may be declared dead. `--long` adds hours of loss and
//! Lifeguard's experiment.
//!
//! `cargo bench -p rivven-sim --bench swim_peers -- 10 100 1000` puts foca 2 beside it: the same kind of loop and
//! latencies, the same period, timeout, helpers and gossip, a codec written by hand. In one run on one core of two, of
//! a machine that is slower than those of older figures; the ratios are what counts:
//!
//! | | n | ours | foca |
//! |---|---|---|---|
//! | CPU a member and quiet period, the loop included, us | 10 / 100 / 1000 | 0.72 / 1.24 / 2.15 | 1.25 / 2.10 / 4.54 |
//! | CPU a datagram without updates, us | 10 / 100 / 1000 | 0.28 / 0.13 / 0.13 | 0.45 / 0.26 / 0.68 |
//! | with 10 updates that are known | 100 / 1000 | 0.71 / 0.71 | 0.74 / 3.64 |
//! | with 40 | 100 / 1000 | 2.48 / 2.42 | 2.54 / 14.54 |
//! | with news, while so much waits to be passed on | 10 / 1000 / 10,000 | 0.47 / 2.91 / 3.33 | **0.28** / 3.13 / 28.51 |
//! | heap a known member, bytes | 10 / 100 / 1000 | 571 / 123 / 90 | **183** / **45** / **26** |
//! | a ping alone, with ten words of life, bytes | | 51 / 331 | **36** / **228** |
//! | a crash is known to all, periods | 10 / 100 / 1000 | 6.6 / 12.6 / 16.8 | 7.3 / **10.3** / **14.5** |
//! | a newcomer knows all, s | 10 / 100 / 1000 | 0.05 / 0.05 / 0.05 | 0.05 / 60 / not in 600 |
//! | whole after a minute in halves, s | 10 / 100 / 1000 | 0.75 / 1.85 / 1.7 | 1.9 / 62 / not in 600 |
//! | healthy members declared dead meanwhile | 10 / 100 / 1000 | 0 / 0 / 0 | 0 / 2 / 44,953 |
//! | false deaths a node-hour at 5, 10, 20, 30 % loss | 100 | 0 / 0 / 0 / 0 | 0.002 / 0.034 / 1.05 / 0.36 |
//!
//! What foca wins is in bold: memory, since ours keeps when it last heard what of whom; the size of a datagram; and the
//! time until a crash is known, by as much as a suspicion of ours begins longer, so that one slow accuser does not
//! kill; foca's time is fixed.
//!
//! `rivven-sim swim --members 10000` takes an hour, most of it for the merge. All agreed again 2.75 s after a minute in
//! halves, but healthy members *were* declared dead, 252,369 times (each word of each member counted). What was found to
//! be the cause at 1000 members (suspicions that were not held in a storm) is mended, and there and at 100 no cut has
//! that effect any more, unless it ends in the very second in which the storm's time is up; at 10,000 it was not measured
//! again.
//!
//! # A partition alone
//!
//! Replication has a world of its own, [`replicas`](crate::replicas): one partition on five nodes, the production
//! metadata and replicas, and everything else at random: what is sent is lost, repeated and comes back much later, views of
//! the metadata are left out, processes crash with what was not synced, disks are replaced, leaders are elected, the
//! partition moves, its topic is configured. After each step everybody who may be elected must have everything that is
//! committed, on its disk. `rivven-sim replicas --seeds N` plays it; `--narrate --seed S` prints one seed, step by step.
//! The [scenarios](crate::replicas::scenarios) are histories that are told of such systems, each as a plan with a name:
//! `--scenario NAME` plays one, `list` names them.
//! What it found before it found nothing more: a log that begins anew was spoken of before that was on the disk; an
//! epoch without records hid that records of an earlier one had come; a log that was trimmed was taken to know where an
//! epoch before ended; a high watermark that is stored apart from its log is of another log after a crash; a topic
//! whose minimum was lowered while nobody led forgot who was eligible.
//!
//! # Which fault finds which bug
//!
//! `rivven-sim mutants --ablate` hunts each mutant again with each kind of fault switched off that its
//! shrunk plan holds (a kind that is not in that plan is not needed: the plan is the proof). Measured
//! with 100 seeds each; the mutants are those of `sim/mutants.toml` before sessions, reads, snapshots and
//! members had any.
//!
//! | without | escapes |
//! |---|---|
//! | corruption | checksum-over-the-header-only |
//! | truncation | end-of-stream-taken-for-end-of-frame |
//! | disk-wiped | wiped-node-founds-again, pledge-before-all-are-heard |
//! | disk-wiped, failed-sync | store-made-in-place |
//! | pause | open-batch-keeps-a-replaced-tail |
//! | forgery | all rows of the door (`guard-…`) but misaddressed and commit-beyond-log |
//!
//! These stood in shrunk plans too, but without them the same mutants die of something else: bit-rot,
//! bridge, delay, duplication, flapping, full-disk, isolation, misdirection, one-way, power-loss,
//! reordering, restart, ring, slow-sync, torn-writes. Nine mutants die without any fault at all. The
//! other kinds (loss, clog, mtu-black-hole, partition, misdelivery, reordered-writes, old-disk,
//! clock-jump, clock-drift, read-errors) were needed by no mutant of today's list: they have still to
//! earn their place.
