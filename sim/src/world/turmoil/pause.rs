//! A process that stands still: its tasks are not run, though the world goes on around it.
//!
//! The node's own task and all of quinn's are wrapped. What the links do in tasks of their own cannot
//! reach the network without quinn, nor the node without its task.
#![expect(clippy::disallowed_types, reason = "quinn's runtime trait names the system's types")]

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::io;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};

use crate::lock::lock;

/// Lets the tasks of one host run, or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Turnstile(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    waiting: Vec<Waker>,
}

impl Turnstile {
    pub(super) fn close(&self) {
        lock(&self.0).is_closed = true;
    }

    pub(super) fn open(&self) {
        let mut state = lock(&self.0);
        state.is_closed = false;
        for waker in state.waiting.drain(..) {
            waker.wake();
        }
    }

    /// Wraps a task.
    pub(super) fn guard<T>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = T> + Send>> {
        let (turnstile, mut task) = (self.clone(), Box::pin(task));
        Box::pin(core::future::poll_fn(move |cx: &mut Context<'_>| {
            let mut state = lock(&turnstile.0);
            if state.is_closed {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            drop(state);
            task.as_mut().poll(cx)
        }))
    }
}

/// quinn's runtime, with every task behind a turnstile.
pub(super) struct PausableRuntime(pub(super) Turnstile);

impl Runtime for PausableRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(self.0.guard(task));
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

impl fmt::Debug for PausableRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PausableRuntime")
    }
}
