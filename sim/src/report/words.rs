//! What happened, in a line of words.

use core::fmt::Debug;

use rivven_cluster::node::{Input, Output};
use rivven_cluster::swim;

use super::picture::Kind;

/// So many characters of one text are kept.
const TEXT_MAX: usize = 400;

/// A value as it is written down for a debugger, as far as there is room.
pub fn brief(value: &impl Debug) -> String {
    cut(format!("{value:?}"), TEXT_MAX)
}

/// At most so many characters of a text.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// What a node was told.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are written down as they are")]
pub(super) fn input(input: &Input) -> (Kind, String) {
    match input {
        Input::Message { from, message } => (Kind::Arrived, format!("from node {from}: {}", brief(message))),
        Input::Gossip(swim::Input::Datagram { from, bytes, .. }) => {
            (Kind::Arrived, format!("from node {from}: {}", datagram(bytes)))
        }
        Input::Gossip(input) => (Kind::Input, format!("gossip: {}", brief(input))),
        Input::Request { id, from, request } => {
            (Kind::Arrived, format!("request {id} of {from:?}: {}", brief(request)))
        }
        other => (Kind::Input, brief(other)),
    }
}

/// What a node asked for.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are written down as they are")]
pub(super) fn output(output: &Output) -> (Kind, String) {
    match output {
        Output::Send { to, message } => (Kind::Sent, format!("to {to:?}: {}", brief(message))),
        Output::Gossip(swim::Output::Datagram { to, bytes }) => {
            (Kind::Sent, format!("to {}: {}", brief(to), datagram(bytes)))
        }
        Output::Gossip(output) => (Kind::Output, format!("gossip: {}", brief(output))),
        Output::Reply { id, reply } => (Kind::Sent, format!("reply to request {id}: {}", brief(reply))),
        other => (Kind::Output, brief(other)),
    }
}

fn datagram(bytes: &[u8]) -> String {
    let kind = swim::Kind::of_datagram(bytes);
    let kind = kind.map_or_else(|| "datagram".to_owned(), |kind| format!("{kind:?}"));
    format!("{kind}, {} bytes", bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("äöü".to_owned(), 3), "ä…");
        assert_eq!(cut("abc".to_owned(), 3), "abc");
    }
}
