//! Membership alone, at sizes that whole clusters are too heavy for: ten thousand members and more.
//!
//! [`world`] plays the production machines on a heap of events; [`gates`] measures what the literature
//! promises, and says where it is not kept; [`chaos`] looks for an order of events that breaks a few of them.

pub mod chaos;
pub mod gates;
pub mod small;
pub mod world;
