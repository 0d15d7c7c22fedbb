//! Frames.

use bytes::BytesMut;
use rivven_cluster::wire::{Decoded, decode};

/// Decodes any bytes as a stream of frames. Nothing panics, every frame that decodes survives being
/// encoded and decoded again, and decoding always gets on. Returns how many frames there were.
pub fn wire(bytes: &[u8]) -> usize {
    let mut buffer = BytesMut::from(bytes);
    let mut frames = 0;
    loop {
        let before = buffer.len();
        match decode(&mut buffer) {
            Ok(Decoded::Frame(frame)) => {
                let encoded = frame.encode().expect("what fits into a frame fits into one again");
                let again = decode(&mut BytesMut::from(&encoded[..]));
                assert_eq!(again, Ok(Decoded::Frame(frame)));
                frames += 1;
            }
            Ok(Decoded::Skipped { .. }) => {}
            Ok(Decoded::Incomplete { .. }) | Err(_) => return frames,
        }
        assert!(buffer.len() < before, "a frame takes up bytes");
    }
}
