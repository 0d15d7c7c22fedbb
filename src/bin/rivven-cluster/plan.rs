//! `plan`: what would move between nodes, what is moving, and an end to it.

use rivven_cluster::id::PartitionId;
use rivven_cluster::partition::metadata::{ActivePlan, Metadata};
use rivven_cluster::partition::planner::steps::Schedule;
use rivven_cluster::partition::planner::{Certificate, Change, Plan, PlanNode, Proof};
use serde::Serialize;

use crate::Failure;
use crate::access::{Access, id, ids};

/// Shows what would move between nodes, and has it moved.
#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show how far the plan is that is being executed, and what would move if it were planned now.
    Show {
        #[command(flatten)]
        access: Access,
        /// Plans as if this node were there, too: ID, or ID@RACK. Can be given several times.
        #[arg(long = "with")]
        more: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Plan now, and have the plan executed. For operators.
    Start {
        #[command(flatten)]
        access: Access,
    },
    /// End the plan that is being executed; what is under way is taken back. For operators.
    Cancel {
        #[command(flatten)]
        access: Access,
    },
}

/// The most changes that are printed.
const SHOWN_MAX: usize = 20;

/// What `show --json` prints.
#[derive(Serialize)]
struct Shown {
    active: Option<Active>,
    certificate: Certificate,
    changes: Vec<Change>,
}

/// The plan that is being executed.
#[derive(Serialize)]
struct Active {
    plan: ActivePlan,
    done: usize,
    under_way: usize,
    waiting: usize,
    stale: Vec<PartitionId>,
    is_paused: bool,
}

pub async fn plan(options: &Options) -> Result<(), Failure> {
    match &options.action {
        Action::Show { access, more, json } => {
            let more = more.iter().map(|text| extra(text)).collect::<Result<_, _>>()?;
            let (client, manager) = access.partitions().await?;
            let active = manager.progress().map(|(plan, schedule)| describe(plan, schedule));
            let planned = manager.plan(more)?;
            if *json {
                let Plan { changes, certificate } = planned;
                println!("{}", serde_json::to_string_pretty(&Shown { active, certificate, changes })?);
            } else {
                manager.look(|metadata| print(active.as_ref(), &planned, metadata));
            }
            client.close();
        }
        Action::Start { access } => {
            let (client, manager) = access.partitions().await?;
            match manager.start_plan().await? {
                Some(plan) => println!("plan {plan} is being executed"),
                None => println!("everything is where it should be: there is nothing to be moved"),
            }
            client.close();
        }
        Action::Cancel { access } => {
            let (client, manager) = access.partitions().await?;
            println!("plan {} is being taken back", manager.cancel_plan().await?);
            client.close();
        }
    }
    Ok(())
}

/// A node that is not there yet.
fn extra(text: &str) -> Result<PlanNode, Failure> {
    let (number, rack) = text.split_once('@').map_or((text, None), |(number, rack)| (number, Some(rack)));
    let number = number.parse().map_err(|_| Failure(format!("{text:?} is no node: write ID, or ID@RACK")))?;
    Ok(PlanNode { rack: rack.map(str::to_owned), ..PlanNode::new(id(number)?) })
}

fn describe(plan: ActivePlan, schedule: Schedule) -> Active {
    let Schedule { start, under_way, waiting, done, stale, is_paused } = schedule;
    Active { plan, done, under_way, waiting: waiting + start.len(), stale, is_paused }
}

fn print(active: Option<&Active>, planned: &Plan, metadata: &Metadata) {
    if let Some(Active { plan, done, under_way, waiting, stale, is_paused }) = active {
        let state = match (plan.is_complete, plan.is_cancelled) {
            (_, true) => "is being taken back",
            (true, false) => "is being executed",
            (false, false) => "is not whole yet",
        };
        let (id, changes) = (plan.id, plan.changes.len());
        println!(
            "plan {id} {state}: {done} of {changes} changes done, {under_way} under way, {waiting} wait"
        );
        if *is_paused {
            println!("some wait because a partition has lost so many copies that it has none to spare");
        }
        if !stale.is_empty() {
            println!("{} were left alone, for somebody else has changed them", stale.len());
        }
    }
    let Plan { changes, certificate } = planned;
    let proof = match certificate.proof {
        Proof::Minimal => "no plan has fewer",
        Proof::Bounded => "there may be one with fewer",
    };
    let Certificate { moves, moves_bound, .. } = certificate;
    println!("planned now: {} partitions would change, {moves} replicas would be copied", changes.len());
    println!("certificate: at least {moves_bound} have to be; {proof}");
    let part = |millionths: u64| format!("{}.{:04}", millionths / 1_000_000, millionths % 1_000_000 / 100);
    println!(
        "fullest node: {} of its share of replicas before, {} after; {} and {} of leaders",
        part(certificate.replicas_before),
        part(certificate.replicas_after),
        part(certificate.leaders_before),
        part(certificate.leaders_after)
    );
    for unsatisfied in certificate.unsatisfied.iter().take(SHOWN_MAX) {
        println!("not fulfilled: {unsatisfied}");
    }
    for change in changes.iter().take(SHOWN_MAX) {
        let topic = metadata.topic(change.partition.topic).map_or("?", |topic| &topic.spec.name);
        let (from, to) = (ids(&change.from), ids(&change.to));
        println!("  {topic}/{}: {from} -> {to}", change.partition.number);
    }
    if changes.len() > SHOWN_MAX {
        println!("  and {} more", changes.len() - SHOWN_MAX);
    }
}
