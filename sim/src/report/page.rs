//! The page: one file that needs nothing outside of it.
//!
//! The data stand in the page as JSON, in columns, since a hundred thousand objects of their own would be
//! read ten times as slowly. Events are numbered from the first that is kept; an arrow from an event that is not
//! kept is left out, and a text that is said often is written down once.

use std::collections::BTreeMap;

use serde::Serialize;

use super::moment::{Moment, Role};
use super::picture::{Arrow, Band, End, Event, Kind, Lane, Picture};
use super::words;

const PAGE: &str = include_str!("page/page.html");
/// Each script of the page, and where it is put there.
macro_rules! scripts {
    ($($name:literal)*) => {
        &[$((concat!("/*SCRIPT:", $name, "*/"), include_str!(concat!("page/", $name))),)*]
    };
}

const SCRIPTS: &[(&str, &str)] = scripts!(
    "page.js" "data.js" "messages.js" "past.js" "search.js" "theme.js" "view.js" "draw_lanes.js" "draw_events.js"
    "draw_messages.js" "draw_head.js" "draw.js" "panel.js" "actions.js" "link.js" "keys.js" "pointer.js" "main.js"
);
const STYLE: (&str, &str) = ("/*STYLE*/", include_str!("page/style.css"));
const RUN: &str = "/*RUN*/";
/// The version of the data, for the page.
const FORMAT: u32 = 1;
/// About so many bytes of texts stand in a page; if there are more, each is cut.
const TEXTS_MAX: usize = 10 * 1024 * 1024;
/// Messages that were sent so late in the run, in microseconds, may be still under way.
const UNDER_WAY: u64 = 500_000;

/// What stands above the picture.
#[derive(Clone, Debug, Default)]
pub struct Caption {
    /// Which run.
    pub title: String,
    /// The command that plays it again.
    pub command: String,
    /// What else there is to say, a line each.
    pub about: Vec<String>,
    /// What the run broke, if it did, with its last event.
    pub verdict: Option<Verdict>,
}

/// What a run broke.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Which rule.
    pub rule: String,
    /// How.
    pub text: String,
}

/// What the page reads.
#[derive(Serialize)]
struct Data<'a> {
    format: u32,
    title: &'a str,
    command: &'a str,
    about: &'a [String],
    verdict: Option<Marked<'a>>,
    end: u64,
    lanes: Vec<LaneData>,
    kinds: &'static [&'static str],
    strings: Vec<&'a str>,
    events: EventColumns,
    messages: MessageColumns,
    faults: Vec<FaultData<'a>>,
    states: Vec<StateColumns>,
}

#[derive(Serialize)]
struct Marked<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    /// The event at which it showed.
    event: usize,
}

#[derive(Serialize)]
struct LaneData {
    name: String,
    kind: &'static str,
}

/// `at` is the difference to the event before.
#[derive(Default, Serialize)]
struct EventColumns {
    at: Vec<u64>,
    lane: Vec<usize>,
    kind: Vec<usize>,
    text: Vec<usize>,
}

#[derive(Default, Serialize)]
struct MessageColumns {
    from: Vec<usize>,
    to: Vec<i64>,
    fate: Vec<u8>,
    lane: Vec<usize>,
}

#[derive(Serialize)]
struct FaultData<'a> {
    kind: &'a str,
    begins: u64,
    ends: Option<u64>,
    lanes: Vec<usize>,
    text: &'a str,
}

#[derive(Default, Serialize)]
struct StateColumns {
    at: Vec<u64>,
    role: Vec<u8>,
    term: Vec<i64>,
    leader: Vec<i64>,
    commit: Vec<i64>,
    applied: Vec<i64>,
    epoch: Vec<i64>,
    high_watermark: Vec<i64>,
    text: Vec<usize>,
}

/// Texts, each once.
#[derive(Default)]
struct Texts<'a> {
    places: BTreeMap<&'a str, usize>,
    all: Vec<&'a str>,
}

impl<'a> Texts<'a> {
    fn place(&mut self, text: &'a str) -> usize {
        *self.places.entry(text).or_insert_with(|| {
            self.all.push(text);
            self.all.len() - 1
        })
    }
}

/// Writes the page of a picture.
#[must_use]
pub fn html(picture: &Picture, caption: &Caption) -> String {
    let mut short;
    let mut picture = picture;
    let bytes: usize = picture.events.iter().map(|event| event.text.len()).sum();
    if bytes > TEXTS_MAX {
        short = picture.shortened(TEXTS_MAX / picture.events.len().max(1));
        short.first = picture.first;
        picture = &short;
    }
    let data = serde_json::to_string(&data(picture, caption)).expect("the data are numbers and texts");
    // Nothing in a text may end the element that it stands in.
    let data = data.replace("</", "<\\/").replace("<!--", "<\\u0021--");
    let parts = SCRIPTS.iter().chain([&STYLE]);
    let page = parts.fold(PAGE.to_owned(), |page, (place, part)| page.replace(place, part));
    page.replace(RUN, &data)
}

fn data<'a>(picture: &'a Picture, caption: &'a Caption) -> Data<'a> {
    let lanes = lanes_of(picture);
    let place_of: BTreeMap<Lane, usize> =
        lanes.iter().enumerate().map(|(place, lane)| (*lane, place)).collect();
    let mut texts = Texts::default();
    let events = events(picture, &place_of, &mut texts);
    let states = lanes.iter().map(|lane| states(picture.moments.get(lane), &mut texts)).collect();
    let end = picture.events.back().map_or(0, |event| event.at);
    let verdict = caption.verdict.as_ref();
    let last = picture.events.len().saturating_sub(1);
    Data {
        format: FORMAT,
        title: &caption.title,
        command: &caption.command,
        about: &caption.about,
        verdict: verdict.map(|verdict| Marked { verdict, event: last }),
        end,
        lanes: lanes.iter().map(LaneData::of).collect(),
        kinds: &Kind::NAMES,
        events,
        messages: messages(picture, &place_of, end),
        faults: picture.bands.iter().map(|band| FaultData::of(band, &place_of)).collect(),
        states,
        strings: texts.all,
    }
}

/// The lanes from top to bottom: nodes, clients, the world.
fn lanes_of(picture: &Picture) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = picture.events.iter().map(|event| event.lane).collect();
    lanes.extend(picture.moments.keys());
    lanes.extend(picture.arrows.iter().map(|arrow| arrow.to));
    lanes.push(Lane::World);
    lanes.sort_unstable();
    lanes.dedup();
    lanes
}

fn events<'a>(picture: &'a Picture, lanes: &BTreeMap<Lane, usize>, texts: &mut Texts<'a>) -> EventColumns {
    let mut columns = EventColumns::default();
    let mut before = 0;
    for Event { at, lane, kind, text } in &picture.events {
        columns.at.push(at - before);
        columns.lane.push(lanes[lane]);
        columns.kind.push(kind.number());
        columns.text.push(texts.place(text));
        before = *at;
    }
    columns
}

fn messages(picture: &Picture, lanes: &BTreeMap<Lane, usize>, end: u64) -> MessageColumns {
    let mut columns = MessageColumns::default();
    for Arrow { from, to, end: arrival } in &picture.arrows {
        let Some(from) = from.checked_sub(picture.first) else { continue };
        let sent = picture.events[from].at;
        let (arrival, fate) = match arrival {
            End::Arrived(event) => (Some(*event), 0),
            End::Copied(event) => (Some(*event), 2),
            End::Open if sent + UNDER_WAY > end => (None, 3),
            End::Open => (None, 1),
        };
        // What was sent within what is kept arrives there, too.
        let arrival = arrival.and_then(|event| i64::try_from(event - picture.first).ok());
        columns.from.push(from);
        columns.to.push(arrival.unwrap_or(-1));
        columns.fate.push(fate);
        columns.lane.push(lanes[to]);
    }
    columns
}

fn states<'a>(moments: Option<&'a Vec<(u64, Moment)>>, texts: &mut Texts<'a>) -> StateColumns {
    let mut columns = StateColumns::default();
    for (at, moment) in moments.into_iter().flatten() {
        columns.at.push(*at);
        columns.role.push(match moment.role {
            Role::Down => 0,
            Role::Follower => 1,
            Role::PreCandidate => 2,
            Role::Candidate => 3,
            Role::Leader => 4,
        });
        columns.term.push(moment.term);
        columns.leader.push(moment.leader);
        columns.commit.push(moment.commit);
        columns.applied.push(moment.applied);
        columns.epoch.push(moment.epoch);
        columns.high_watermark.push(moment.high_watermark);
        columns.text.push(texts.place(&moment.text));
    }
    columns
}

impl LaneData {
    fn of(lane: &Lane) -> LaneData {
        let kind = match lane {
            Lane::Node(_) => "node",
            Lane::Client(_) => "client",
            Lane::World => "world",
        };
        LaneData { name: lane.to_string(), kind }
    }
}

impl FaultData<'_> {
    fn of<'a>(band: &'a Band, lanes: &BTreeMap<Lane, usize>) -> FaultData<'a> {
        let Band { kind, begins, ends, lanes: struck, text, .. } = band;
        let lanes = struck.iter().filter_map(|lane| lanes.get(lane).copied()).collect();
        FaultData { kind, begins: *begins, ends: *ends, lanes, text }
    }
}

impl Picture {
    /// The same with texts of at most `most` bytes.
    fn shortened(&self, most: usize) -> Picture {
        let cut = |event: &Event| Event { text: words::cut(event.text.clone(), most), ..event.clone() };
        let events = self.events.iter().map(cut).collect();
        let mut short = Picture::new(self.events.len());
        short.events = events;
        short.arrows.clone_from(&self.arrows);
        short.bands.clone_from(&self.bands);
        short.moments.clone_from(&self.moments);
        short
    }
}

#[cfg(test)]
mod tests {
    use rivven_cluster::id::NodeId;
    use rivven_cluster::node::{Input, Message, Output, Peer};

    use super::*;
    use crate::trace::Record;

    fn node(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn drawn(most: usize) -> Picture {
        let mut picture = Picture::new(most);
        let message = || Message::Dismissed { node: node(9) };
        for at in 1..=3 {
            let output = Output::Send { to: Peer::Node(node(2)), message: message() };
            picture.record(at * 1_000_000_000, &Record::Output { node: 1, output: &output });
        }
        let input = Input::Message { from: node(1), message: message() };
        picture.record(4_000_000_000, &Record::Input { node: 2, now: 0, input: &input });
        picture.settled(4_000_000_000, 2, Moment { term: 7, ..Moment::down() });
        picture
    }

    fn data_of(page: &str) -> serde_json::Value {
        let (_, rest) = page.split_once(r#"<script type="application/json" id="run">"#).unwrap();
        let (data, _) = rest.split_once("</script>").unwrap();
        serde_json::from_str(data).unwrap()
    }

    #[test]
    fn the_page_is_whole_and_needs_nothing_outside_of_it() {
        let page = html(&drawn(10), &Caption::default());
        for part in ["/*SCRIPT", "/*STYLE*/", RUN, "src=", "@import", "url(", "http://", "https://"] {
            assert!(!page.contains(part), "the page contains {part}");
        }
        assert_eq!(page.matches("href=").count(), page.matches("href=\"data:").count());
        let scripts = page.matches("<script").count();
        assert_eq!((scripts, page.matches("</script>").count()), (SCRIPTS.len() + 1, SCRIPTS.len() + 1));
    }

    #[test]
    fn the_data_are_the_lanes_the_events_the_messages_and_the_states() {
        let verdict = Verdict { rule: "committed".to_owned(), text: "it </script> is not".to_owned() };
        let caption = Caption { title: "a run".to_owned(), verdict: Some(verdict), ..Caption::default() };
        let data = data_of(&html(&drawn(10), &caption));
        assert_eq!(data["title"], "a run");
        assert_eq!(
            (&data["verdict"]["event"], &data["verdict"]["text"]),
            (&3.into(), &"it </script> is not".into())
        );
        let names: Vec<&str> =
            data["lanes"].as_array().unwrap().iter().map(|lane| lane["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["node 1", "node 2", "faults"]);
        assert_eq!(data["events"]["at"], serde_json::json!([1_000_000, 1_000_000, 1_000_000, 1_000_000]));
        assert_eq!(data["events"]["lane"], serde_json::json!([0, 0, 0, 1]));
        assert_eq!(data["messages"]["from"], serde_json::json!([0, 1, 2]));
        assert_eq!(data["messages"]["to"], serde_json::json!([3, -1, -1]));
        assert_eq!(data["messages"]["fate"], serde_json::json!([0, 1, 1]));
        assert_eq!(data["states"][1]["term"], serde_json::json!([7]));
        let texts = data["strings"].as_array().unwrap().len();
        assert_eq!(texts, 3, "what is said three times is written down once");
    }

    #[test]
    fn what_is_not_kept_is_not_pointed_at() {
        let data = data_of(&html(&drawn(2), &Caption::default()));
        assert_eq!(data["messages"]["from"], serde_json::json!([0]));
        assert_eq!(data["messages"]["to"], serde_json::json!([-1]), "the first of the three arrived");
    }
}
