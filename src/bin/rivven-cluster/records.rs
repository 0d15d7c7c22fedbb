//! `produce` and `consume`: lines from the terminal to a topic, and back.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use rivven_cluster::id::Offset;
use rivven_cluster::partition::records::Record;
use rivven_cluster::partition::replica::io::Acks;
use rivven_cluster::partition::replicas::io::AskError;
use rivven_cluster::quic::{
    ConsumeFailure, Consumed, Consumer, PartitionManager, ProduceFailure, Producer, ProducerSettings,
    RouteBy, StartAt, Written,
};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Failure;
use crate::access::Access;

/// The most lines that are under way.
const UNDER_WAY_MAX: usize = 10_000;

/// When a line counts as written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Until {
    /// When it was sent.
    None,
    /// When its leader has it on its disk.
    Leader,
    /// When every replica in sync has it on its disk.
    All,
}

/// Writes each line that it reads to a topic, as one record. It ends when there are no more lines, and all are written.
#[derive(clap::Args)]
pub struct ProduceOptions {
    #[command(flatten)]
    access: Access,
    /// The topic.
    topic: String,
    /// To this partition; by default that of a line's key, and without a key one after the other.
    #[arg(long)]
    partition: Option<u32>,
    /// What is before the first of these in a line is its key.
    #[arg(long)]
    key_separator: Option<String>,
    /// When a line counts as written.
    #[arg(long, value_enum, default_value = "all")]
    acks: Until,
    /// How long a line may take, in seconds; 60 at most.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout_s: u64,
}

/// Prints the committed records of a topic, a line each.
#[derive(clap::Args)]
pub struct ConsumeOptions {
    #[command(flatten)]
    access: Access,
    /// The topic.
    topic: String,
    /// Only this partition; by default all of them.
    #[arg(long)]
    partition: Option<u32>,
    /// Begin here: `earliest`, `latest`, or an offset.
    #[arg(long, default_value = "earliest", value_parser = start_at)]
    from: StartAt,
    /// Go on when there are no more, until it is told to stop.
    #[arg(long)]
    follow: bool,
    /// Print JSON: an object a line, with partition, offset, time (in seconds since 1970), key and value.
    #[arg(long)]
    json: bool,
}

fn start_at(text: &str) -> Result<StartAt, String> {
    match text {
        "earliest" => Ok(StartAt::Earliest),
        "latest" => Ok(StartAt::Latest),
        offset => offset
            .parse()
            .map(|offset| StartAt::Offset(Offset::new(offset)))
            .map_err(|_| format!("{offset:?} is neither earliest, nor latest, nor an offset")),
    }
}

pub async fn produce(options: &ProduceOptions) -> Result<(), Failure> {
    let (client, partitions) = options.access.partitions().await?;
    let acks = match options.acks {
        Until::None => Acks::None,
        Until::Leader => Acks::Leader,
        Until::All => Acks::All,
    };
    let timeout = Duration::from_secs(options.timeout_s);
    let settings = ProducerSettings { acks, timeout, ..ProducerSettings::default() };
    let partitions = Arc::new(partitions);
    if let Some(number) = options.partition {
        partitions.number(&options.topic, RouteBy::Partition(number))?;
    }
    let producer = Arc::new(Producer::new(partitions, &options.topic, settings));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut sends: JoinSet<Result<Written, ProduceFailure>> = JoinSet::new();
    let mut used = BTreeSet::new();
    let mut count = 0_u64;
    while let Some(line) = lines.next_line().await? {
        let (producer, partition) = (producer.clone(), options.partition);
        let record = split(&line, options.key_separator.as_deref());
        sends.spawn(async move {
            match partition {
                Some(partition) => producer.send_to(partition, record).await,
                None => producer.send(record).await,
            }
        });
        count += 1;
        if sends.len() >= UNDER_WAY_MAX
            && let Some(written) = sends.join_next().await
        {
            used.insert(written??.partition.number);
        }
    }
    while let Some(written) = sends.join_next().await {
        used.insert(written??.partition.number);
    }
    println!("{count} records are written, to {} partitions", used.len());
    client.close();
    Ok(())
}

/// A line, as a record.
fn split(line: &str, separator: Option<&str>) -> Record {
    let parts = separator.and_then(|separator| line.split_once(separator));
    match parts {
        Some((key, value)) => Record { key: Some(key.to_owned().into()), value: value.to_owned().into() },
        None => Record { key: None, value: line.to_owned().into() },
    }
}

/// What `consume --json` prints of a record.
#[derive(Serialize)]
struct Line {
    partition: u32,
    offset: u64,
    time: u64,
    key: Option<String>,
    value: String,
}

pub async fn consume(options: &ConsumeOptions) -> Result<(), Failure> {
    let (client, partitions) = options.access.partitions().await?;
    let partitions = Arc::new(partitions);
    let numbers: Vec<u32> = match options.partition {
        Some(number) => vec![partitions.number(&options.topic, RouteBy::Partition(number))?],
        None => (0..partitions.partitions(&options.topic)?).collect(),
    };
    let (sender, mut receiver) = mpsc::channel(64);
    let mut readers: JoinSet<Result<(), Failure>> = JoinSet::new();
    for number in numbers {
        readers.spawn(read(
            partitions.clone(),
            options.topic.clone(),
            number,
            options.from,
            options.follow,
            sender.clone(),
        ));
    }
    drop(sender);
    loop {
        tokio::select! {
            biased;
            Some((partition, consumed)) = receiver.recv() => print(partition, &consumed, options.json)?,
            Some(ended) = readers.join_next() => ended??,
            else => break,
        }
    }
    client.close();
    Ok(())
}

/// Reads a partition: up to what was committed when it began, or for ever.
async fn read(
    partitions: Arc<PartitionManager>,
    topic: String,
    partition: u32,
    from: StartAt,
    follows: bool,
    sender: mpsc::Sender<(u32, Vec<Consumed>)>,
) -> Result<(), Failure> {
    let mut consumer = Consumer::new(partitions, topic, partition, from);
    let end = consumer.offsets().await?.high_watermark;
    let mut next = match from {
        StartAt::Offset(offset) => offset,
        StartAt::Earliest => Offset::default(),
        StartAt::Latest => end,
    };
    while follows || next < end {
        let consumed = match consumer.next().await {
            Err(ConsumeFailure::Refused(AskError::OutOfRange { start, .. }))
                if start > next && from == StartAt::Earliest =>
            {
                eprintln!("the records of partition {partition} before {start} are not kept any more");
                consumer.seek(StartAt::Offset(start));
                next = start;
                continue;
            }
            consumed => consumed?,
        };
        if let Some(last) = consumed.last() {
            next = last.offset.plus(1);
        } else if !follows {
            // Perhaps all that was there when it began is dropped; else whoever leads now will know of it soon.
            next = next.max(consumer.offsets().await?.start);
        }
        if !consumed.is_empty() && sender.send((partition, consumed)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn print(partition: u32, all: &[Consumed], json: bool) -> Result<(), Failure> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut out = std::io::stdout().lock();
    for Consumed { offset, record, time } in all {
        if json {
            let line = Line {
                partition,
                offset: offset.value(),
                time: time.unix(),
                key: record.key.as_deref().map(text),
                value: text(&record.value),
            };
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        } else {
            out.write_all(&record.value)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(out.flush()?)
}
